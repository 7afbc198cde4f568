"""What a check found, claim by claim: proved, asserted, not checked, stale and failed are never confused (DESIGN,
promises). Each claim names its source, the bytes or the word it rests on, and a stable code (`codes.py` explains it).

The published form is docs/schema/verdict.schema.json; docs/spec/evidence.md 6 says what each claim means.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum

from anchorhold.attestation.types import Sha384


class Status(Enum):
    """How far a claim reaches."""

    PROVED = "proved"
    ASSERTED = "asserted"
    NOT_CHECKED = "not-checked"
    STALE = "stale"
    FAILED = "failed"


class Source(StrEnum):
    """What a claim rests on; `chain_to` names a root as well."""

    DOCUMENT = "document"
    LEAF = "leaf certificate"
    SIGNED = "signed document"
    POLICY = "policy"
    CLOCK = "verifier's clock"
    CALLER = "caller"
    WITNESS = "witness"
    THIRD_PARTY = "third party's nonce"
    OWN_WORD = "document's own word"
    NOBODY = "nobody"


class ClaimCode(StrEnum):
    """The codes of claims that no error stands behind; a stale or failed claim has its error's code."""

    DOCUMENT = "document-read"
    SIGNATURE = "signature-holds"
    CHAIN = "chain-holds"
    PLATFORM = "platform-accepted"
    DEBUG_OFF = "debug-off"
    MEASUREMENTS = "measurements-accepted"
    CONFIGURATION = "configuration-accepted"
    AGE = "age-within"
    NONCE = "nonce-equal"
    LIVE = "live"
    WITNESSED = "witnessed"
    BOUNDED = "bounded"
    NOT_BEFORE = "not-before"
    OWN_WORD = "own-word"
    STATED = "stated"
    AGE_ONLY = "age-only"
    UNPROVED = "unproved"
    NO_POLICY = "no-policy"
    NOT_PINNED = "not-pinned"
    DEBUG_HIDDEN = "debug-hidden"
    KEPT = "kept-document"
    NO_NONCE = "no-nonce"
    NONCE_ABSENT = "nonce-absent"


class ExitCode(IntEnum):
    """DESIGN 6; where several hold, contradicted wins over limits, limits over simulation only."""

    VERIFIED = 0
    CONTRADICTED = 1
    CANNOT_RUN = 2
    LIMITS = 3
    SIMULATION_ONLY = 4


NOT_SIMULATED = "memory isolation from the same user and root, the interpreter, clock, entropy, vsock"
NOT_MEASURED = "torch and the other distributions are pinned by the measured lock, not measured"
ACCEPTED = "accepted by flag"
_HEADLINES = {
    ExitCode.VERIFIED: "VERIFIED",
    ExitCode.CONTRADICTED: "REFUSED",
    ExitCode.CANNOT_RUN: "UNREADABLE",
    ExitCode.LIMITS: "CONSISTENT, WITH LIMITS",
    ExitCode.SIMULATION_ONLY: "SIMULATION ONLY",
}
_WORST_FIRST = (
    ExitCode.CONTRADICTED,
    ExitCode.CANNOT_RUN,
    ExitCode.LIMITS,
    ExitCode.SIMULATION_ONLY,
    ExitCode.VERIFIED,
)


def chain_to(root: str) -> str:
    """The source of what a certificate chain vouches for."""
    return f"certificate chain to {root}"


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing said about the evidence. `code` is stable; `detail` is for people.

    `accepted` is a failure that the caller said beforehand to live with: it stays a failure and is never verified.
    """

    name: str
    status: Status
    code: str
    detail: str
    source: str
    accepted: bool = False

    @property
    def words(self) -> str:
        """The status, and whether its failure was accepted."""
        return f"{self.status.value}, {ACCEPTED}" if self.accepted else self.status.value


@dataclass(frozen=True, slots=True)
class Verdict:
    """All claims about one piece of evidence. `simulated` marks everything under a root that is not pinned.

    `releases` are the policy's releases that the measurements match; `policy` is the policy's digest, if one was given.
    """

    claims: tuple[Claim, ...]
    simulated: bool = False
    unreadable: bool = False
    releases: tuple[str, ...] = ()
    policy: Sha384 | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The one code of all claims together. No claims prove nothing; an accepted failure is a limit at best."""
        statuses = {claim.status for claim in self.claims}
        if self.unreadable:
            return ExitCode.CANNOT_RUN
        if {claim.status for claim in self.claims if not claim.accepted} & {Status.FAILED, Status.STALE}:
            return ExitCode.CONTRADICTED
        if statuses != {Status.PROVED}:
            return ExitCode.LIMITS
        return ExitCode.SIMULATION_ONLY if self.simulated else ExitCode.VERIFIED

    @property
    def headline(self) -> str:
        """The verdict in words, what was accepted and `SIMULATED` among them where they apply."""
        words = _HEADLINES[self.exit_code]
        accepted = " AND ".join(claim.name.upper() for claim in self.claims if claim.accepted)
        if accepted:
            words = f"{words}, {accepted} FAILED AND ACCEPTED BY FLAG"
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
        """For people: the headline, then one line a claim: its status, what it found, what that rests on."""
        name_width = max((len(one.name) for one in self.claims), default=0)
        status_width = max((len(one.words) for one in self.claims), default=0)
        lines = [f"{self.headline}   exit {int(self.exit_code)}"]
        for one in self.claims:
            source = "" if one.source == Source.NOBODY else f" ({one.source})"
            code = "" if one.status is Status.PROVED else f"  [{one.code}]"
            lines.append(f"  {one.name:<{name_width}}  {one.words:<{status_width}}  {one.detail}{source}{code}")
        return "\n".join([*lines, *(f"  {line}" for line in self.not_covered)])

    def line(self) -> str:
        """For people with many documents: the headline, and the claim that decided it."""
        refused = [one for one in self.claims if one.status in (Status.FAILED, Status.STALE) and not one.accepted]
        open_ = [one for one in self.claims if one.status is not Status.PROVED]
        first = next(iter(refused + open_), None)
        return self.headline if first is None else f"{self.headline}: {first.name} {first.words} [{first.code}]"

    def as_json(self) -> dict[str, object]:
        """For programs, as docs/schema/verdict.schema.json has it; the codes are the ones people see."""
        return {
            "version": 1,
            "verdict": self.headline,
            "exit_code": int(self.exit_code),
            "simulated": self.simulated,
            "policy": None if self.policy is None else self.policy.hex(),
            "releases": list(self.releases),
            "claims": [
                {
                    "name": one.name,
                    "status": one.status.value,
                    "code": str(one.code),
                    "detail": one.detail,
                    "source": str(one.source),
                    "accepted": one.accepted,
                }
                for one in self.claims
            ],
            "not_covered": list(self.not_covered),
        }


def worst(codes: list[ExitCode]) -> ExitCode:
    """The one exit code of several verdicts: contradicted, cannot run, limits, simulation only, verified."""
    return min(codes, key=_WORST_FIRST.index)
