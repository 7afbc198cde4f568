"""The few words that leave an enclave when it does not answer (STYLE 11): what went wrong stays inside.

Under the response key a code is the enclave's word. As a hint, before any key is agreed, it is nobody's.
"""

from enum import StrEnum


class Code(StrEnum):
    # Before a response key is agreed
    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown-key"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"
    # The enclave's word
    REPLAYED = "replayed"
    TENANT = "tenant"
    PURPOSE = "purpose"
    QUOTA = "quota"
    ADAPTER = "adapter"
    BUSY = "busy"
    DRAINING = "draining"
    LEASE_ENDED = "lease-ended"
    DEADLINE = "deadline"
    TOO_LONG = "too-long"
    BAD_REQUEST = "bad-request"
    UNSUPPORTED = "unsupported"
    ENGINE = "engine"
