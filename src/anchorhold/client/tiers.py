"""Tiers: what a class of data demands of the deployment that may see it (docs/spec/channel.md 13.3).

The trust file names them, so who pins a deployment also says what may go there. A file that names none has the three
of `STANDARD`. What a tier demands is judged in `admission.py`, on verified evidence alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.timing import TimeGrade
from anchorhold.attestation.types import Platform

MAX_TIERS = 16
MAX_REGIONS = 32
MAX_SECONDS = 3_600  # the longest lease there is (`lease.MAX_TTL_MS`)
T = TypeVar("T")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_REGION = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
NEVER = "never"
PQ = {"all": True, "none": False}
GRADES = (TimeGrade.NOT_BEFORE, TimeGrade.BOUNDED, TimeGrade.WITNESSED)
"""What an auditor can make of the time of a kept document, least first; the document's own word is none."""
PADDINGS = (Padding.OFF, Padding.BASIC, Padding.STRICT)
"""Least first."""


@dataclass(frozen=True, slots=True)
class Tier:
    """What one class of data demands. Debug mode is refused whatever a tier says, and no tier can say otherwise."""

    name: str
    platforms: frozenset[Platform]
    split: bool
    """At least two sources, of different custodians."""
    max_lease_s: int
    max_log_lease_s: int
    require_pq: bool
    padding: Padding
    """The least."""
    time_grade: TimeGrade
    """The least."""
    regions: frozenset[str] | None
    """None: anywhere."""

    def as_json(self) -> dict[str, object]:
        """As the trust file has it."""
        return {
            "platforms": sorted(one.value for one in self.platforms),
            "debug": NEVER,
            "split": self.split,
            "max_lease_s": self.max_lease_s,
            "max_log_lease_s": self.max_log_lease_s,
            "require_pq": "all" if self.require_pq else "none",
            "padding": self.padding.value,
            "time_grade": self.time_grade.value,
            "regions": None if self.regions is None else sorted(self.regions),
        }


_HARDWARE = frozenset({Platform.NITRO_ENCLAVE, Platform.NITRO_TPM})
_STANDARD = (
    Tier("internal", _HARDWARE, False, 3_600, 3_600, False, Padding.OFF, TimeGrade.NOT_BEFORE, None),
    Tier("confidential", _HARDWARE, False, 900, 900, True, Padding.BASIC, TimeGrade.NOT_BEFORE, None),
    Tier(
        "secret", frozenset({Platform.NITRO_ENCLAVE}), True, 600, 300, True, Padding.STRICT, TimeGrade.NOT_BEFORE, None
    ),
)
STANDARD: Mapping[str, Tier] = MappingProxyType({tier.name: tier for tier in _STANDARD})
"""None of them takes a simulated enclave."""


def tiers_from_json(value: object) -> Mapping[str, Tier]:
    """The tiers of a trust file: every field of each, and no other. Raises ValueError."""
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_TIERS:
        raise ValueError(f"tiers: expected 1 to {MAX_TIERS} of them by name")
    return MappingProxyType({name: _tier(name, members) for name, members in value.items()})


def _tier(name: str, members: object) -> Tier:
    if not _NAME.fullmatch(name):
        raise ValueError(f"tiers: {name!r:.40}: expected a name of 1 to 32 of a-z, 0-9 and -")
    what = f"tier {name!r}"
    if not isinstance(members, dict) or members.keys() != _FIELDS.keys():
        got = sorted(members) if isinstance(members, dict) else type(members).__name__
        raise ValueError(f"{what}: expected fields {sorted(_FIELDS)}, got {got}")
    for field, kinds in _FIELDS.items():
        if type(members[field]) not in kinds:
            raise ValueError(f"{what}: {field}: expected {' or '.join(one.__name__ for one in kinds)}")
    if members["debug"] != NEVER:
        raise ValueError(f"{what}: debug: expected {NEVER!r}: the memory of a debug enclave is open to its parent")
    return Tier(
        name=name,
        platforms=frozenset(Platform(_text(one, what)) for one in _list(members["platforms"], 3, what)),
        split=members["split"],
        max_lease_s=_seconds(members["max_lease_s"], f"{what}: max_lease_s"),
        max_log_lease_s=_seconds(members["max_log_lease_s"], f"{what}: max_log_lease_s"),
        require_pq=_one_of(members["require_pq"], PQ, f"{what}: require_pq"),
        padding=_one_of(members["padding"], {one.value: one for one in PADDINGS}, f"{what}: padding"),
        time_grade=_one_of(members["time_grade"], {one.value: one for one in GRADES}, f"{what}: time_grade"),
        regions=None if members["regions"] is None else _regions(members["regions"], what),
    )


def _regions(value: list[object], what: str) -> frozenset[str]:
    names = [_text(one, what) for one in _list(value, MAX_REGIONS, what)]
    for name in names:
        if not _REGION.fullmatch(name):
            raise ValueError(f"{what}: regions: expected names of a-z, 0-9 and -, got {name!r:.40}")
    return frozenset(names)


def _list(value: list[object], most: int, what: str) -> list[object]:
    if not 1 <= len(value) <= most or len({str(one) for one in value}) != len(value):
        raise ValueError(f"{what}: expected 1 to {most} in a list, each once")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what}: expected text, got {type(value).__name__}")  # noqa: TRY004 - the file's fault
    return value


def _seconds(value: int, what: str) -> int:
    if not 1 <= value <= MAX_SECONDS:
        raise ValueError(f"{what}: expected 1 to {MAX_SECONDS}, got {value}")
    return value


def _one_of(value: str, known: Mapping[str, T], what: str) -> T:
    if value not in known:
        raise ValueError(f"{what}: expected {' or '.join(known)}, got {value!r:.40}")
    return known[value]


_FIELDS: Mapping[str, tuple[type, ...]] = {
    "platforms": (list,),
    "debug": (str,),
    "split": (bool,),
    "max_lease_s": (int,),
    "max_log_lease_s": (int,),
    "require_pq": (str,),
    "padding": (str,),
    "time_grade": (str,),
    "regions": (list, type(None)),
}
