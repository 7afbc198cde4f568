"""What the parent counts and says: bytes by class, and events from a list. No field can hold a body or a path."""

import json
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path


class Class(Enum):
    """Bytes that cross the parent. `in` is towards the enclave, `out` is from it; the names are the ledger's."""

    REQUEST = "in.request"
    RESPONSE = "out.response"
    NONCE = "in.nonce"
    EVIDENCE = "out.evidence"
    HINT = "out.hint"
    STATUS = "out.status"
    KEYS_IN = "in.keys"
    KEYS = "out.keys"
    RECORDS_IN = "in.records"
    RECORDS = "out.records"
    BLOBS = "in.blobs"
    SEALED = "out.sealed"
    BOOT = "in.boot"
    CONTROL = "out.control"


class Event(Enum):
    """All that the parent ever says."""

    STARTED = "started"
    ENCLAVE_ADOPTED = "enclave-adopted"
    ENCLAVE_STARTED = "enclave-started"
    ENCLAVE_REFUSED = "enclave-refused"
    ENCLAVE_GONE = "enclave-gone"
    HEARTBEAT = "heartbeat"
    EXCHANGE_CUT = "exchange-cut"
    FAILED_OVER = "failed-over"
    EGRESS_REFUSED = "egress-refused"
    EGRESS_UNREACHABLE = "egress-unreachable"
    BLOB_REFUSED = "blob-refused"
    BLOB_STORED = "blob-stored"
    BOOT_REFUSED = "boot-refused"
    LOG_REFUSED = "log-refused"
    LOG_UNREACHABLE = "log-unreachable"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Health:
    """Counters and events of one parent; used from its event loop alone."""

    def __init__(self, write: Callable[[str], object] = sys.stderr.write) -> None:
        self._write = write
        self._sums = dict.fromkeys(Class, 0)
        self.exchanges = 0

    def count(self, cls: Class, size: int) -> None:
        """`size` bytes of that class went by."""
        self._sums[cls] += size

    def event(self, event: Event, **numbers: int) -> None:
        """One line of JSON on stderr; numbers are the only fields an event can have."""
        self._write(json.dumps({"event": event.value, **numbers}) + "\n")

    def snapshot(self) -> dict[str, int]:
        """The sums by class, and the number of exchanges."""
        return {cls.value: total for cls, total in self._sums.items()} | {"exchanges": self.exchanges}


def write_json(path: Path | None, value: dict[str, int]) -> None:
    """Whole or not at all, for those who wait for the file."""
    if path is not None:
        beside = path.with_name(f".{path.name}.new")
        beside.write_text(json.dumps(value) + "\n", encoding="utf-8")
        beside.replace(path)
