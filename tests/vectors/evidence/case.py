"""One vector: bytes, how to judge them, what must come of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tests.vectors.evidence.build import NONCE, REGISTERS
from tests.vectors.evidence.certificates import START

Mode = Literal["live", "at", "genuine"]
ACCEPTED = "evidence"


@dataclass(frozen=True)
class Case:
    """`expect` is the error's code, or `evidence`. The check that decides stands in `clauses.py`."""

    name: str
    fault: str
    raw: bytes
    expect: str
    mode: Mode = "live"
    time: datetime | None = START
    source: str = "clock"
    nonce: bytes = NONCE
    policy: str = "own"
    grade: str = "live"


def pinned(*indexes: int, **other: bytes) -> dict[str, str]:
    """Those registers of the good document, as hex."""
    kept = {str(index): REGISTERS[index].hex() for index in indexes}
    return kept | {name.removeprefix("r"): value.hex() for name, value in other.items()}


POLICIES: dict[str, dict[str, object]] = {
    "own": {"platforms": ["simulated"], "sets": [pinned(0, 1, 2, 16)], "max_age_ms": 300_000},
    "production": {"platforms": ["nitro-enclave"], "sets": [pinned(0, 1, 2, 16)], "max_age_ms": 300_000},
    "two-releases": {
        "platforms": ["simulated"],
        "sets": [
            pinned(0, 16, r1=b"\xee" * 48, r2=b"\xee" * 48),
            pinned(1, 2, 16, r0=b"\xee" * 48),
        ],
        "max_age_ms": 300_000,
    },
    "second-release": {
        "platforms": ["simulated"],
        "sets": [pinned(16, r0=b"\xee" * 48, r1=b"\xee" * 48, r2=b"\xee" * 48), pinned(0, 1, 2, 16)],
        "max_age_ms": 300_000,
    },
}
