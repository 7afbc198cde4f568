"""The egress ledger: every byte the enclave sends out, by class (DESIGN 6, 8). Counts are all that it holds.

The auditor compares its sums with the parent's counters: a mismatch contradicts somebody, equality proves nothing about
what was hidden in timing.
"""

import threading
from collections.abc import Mapping
from enum import Enum


class EgressClass(Enum):
    """What outgoing bytes may be. There is no class `other`: what fits none does not leave."""

    EVIDENCE = "evidence"  # ATTESTED: documents, statements, leases, configuration
    RESPONSE = "response"  # sealed response records, receipts among them
    HINT = "hint"  # unauthenticated codes to a client
    STATUS = "status"  # phase and counts to the parent
    RECORDS = "records"  # transcript records and their attachments to the log
    KEYS = "keys"  # TLS to the authorities
    SEALED = "sealed"  # bodies and manifest of a model that was sealed anew in here: ciphertext
    CONTROL = "control"  # names asked of the parent: boot files, blobs, streams, heartbeats


class Ledger:
    """Thread-safe sums."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums = dict.fromkeys(EgressClass, 0)

    def count(self, cls: EgressClass, size: int) -> None:
        """`size` bytes of `cls` are about to leave."""
        if size < 0:
            raise ValueError(f"egress: expected a size from 0, got {size}")
        with self._lock:
            self._sums[cls] += size

    def snapshot(self) -> Mapping[str, int]:
        """The sums so far, by class name, as they go into heartbeat, close and death records."""
        with self._lock:
            return {cls.value: total for cls, total in self._sums.items()}
