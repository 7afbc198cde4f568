"""The command line's clock reading and how times are shown."""

import time
from datetime import UTC, datetime

from anchorhold.attestation.types import Milliseconds


def now_ms() -> Milliseconds:
    """The system's UTC clock."""
    return Milliseconds(time.time_ns() // 1_000_000)


def moment_text(moment: int) -> str:
    """RFC 3339 with milliseconds."""
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
