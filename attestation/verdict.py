"""What a check found, claim by claim: proved, asserted, not checked, stale and failed are never confused (DESIGN,
promises).
"""

from dataclasses import dataclass
from enum import Enum, IntEnum


class Status(Enum):
    """How far a claim reaches."""

    PROVED = "proved"
    ASSERTED = "asserted"
    NOT_CHECKED = "not-checked"
    STALE = "stale"
    FAILED = "failed"


class ExitCode(IntEnum):
    """DESIGN 6; where several hold, contradicted wins over limits, limits over simulation only."""

    VERIFIED = 0
    CONTRADICTED = 1
    CANNOT_RUN = 2
    LIMITS = 3
    SIMULATION_ONLY = 4


NOT_SIMULATED = "memory isolation from the same user and root, the interpreter, clock, entropy, vsock"
NOT_MEASURED = "torch and the other distributions are pinned by the measured lock, not measured"
_HEADLINES = {
    ExitCode.VERIFIED: "VERIFIED",
    ExitCode.CONTRADICTED: "REFUSED",
    ExitCode.CANNOT_RUN: "UNREADABLE",
    ExitCode.LIMITS: "CONSISTENT, WITH LIMITS",
    ExitCode.SIMULATION_ONLY: "SIMULATION ONLY",
}


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing said about the evidence. `code` is stable; `detail` is for people."""

    name: str
    status: Status
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All claims about one piece of evidence. `simulated` marks everything under a root that is not pinned."""

    claims: tuple[Claim, ...]
    simulated: bool = False
    unreadable: bool = False

    @property
    def exit_code(self) -> ExitCode:
        """The one code of all claims together. No claims prove nothing."""
        statuses = {claim.status for claim in self.claims}
        if self.unreadable:
            return ExitCode.CANNOT_RUN
        if statuses & {Status.FAILED, Status.STALE}:
            return ExitCode.CONTRADICTED
        if statuses != {Status.PROVED}:
            return ExitCode.LIMITS
        return ExitCode.SIMULATION_ONLY if self.simulated else ExitCode.VERIFIED

    @property
    def headline(self) -> str:
        """The verdict in words, `SIMULATED` among them where it applies."""
        words = _HEADLINES[self.exit_code]
        return f"{words} [SIMULATED]" if self.simulated else words

    @property
    def not_covered(self) -> tuple[str, ...]:
        """What no claim here covers, said in every verdict about simulated evidence."""
        return (f"not simulated: {NOT_SIMULATED}", f"not measured: {NOT_MEASURED}") if self.simulated else ()

    def claim(self, name: str) -> Claim:
        """The claim of that name. Raises KeyError."""
        for one in self.claims:
            if one.name == name:
                return one
        raise KeyError(name)

    def text(self) -> str:
        """For people: the headline, then one line a claim."""
        name_width = max((len(one.name) for one in self.claims), default=0)
        status_width = max(len(status.value) for status in Status)
        lines = [f"{self.headline}   exit {int(self.exit_code)}"]
        lines += [
            f"  {one.name:<{name_width}}  {one.status.value:<{status_width}}  {one.detail}"
            + ("" if one.status is Status.PROVED else f"  [{one.code}]")
            for one in self.claims
        ]
        return "\n".join([*lines, *(f"  {line}" for line in self.not_covered)])

    def as_json(self) -> dict[str, object]:
        """For programs; the codes are the ones people see."""
        return {
            "version": 1,
            "verdict": self.headline,
            "exit_code": int(self.exit_code),
            "simulated": self.simulated,
            "claims": [
                {"name": one.name, "status": one.status.value, "code": one.code, "detail": one.detail}
                for one in self.claims
            ],
            "not_covered": list(self.not_covered),
        }
