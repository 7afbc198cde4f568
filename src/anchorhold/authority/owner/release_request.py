"""One release request: as it came, as it is once its evidence holds, and the refusal that may answer it."""

from dataclasses import dataclass

from anchorhold.attestation.binding import Release
from anchorhold.attestation.types import Milliseconds
from anchorhold.attestation.verify import Evidence
from anchorhold.authority.guard import Decision


class ReleaseRefused(Exception):
    """No. `code` goes to the caller; `detail` stays in the journal."""

    def __init__(self, code: str, detail: str, *, verified: bool, guard: Decision | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.verified = verified
        self.guard = guard


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """What an enclave sends: nothing in it is believed before the document is."""

    document: bytes
    statement: bytes
    blob: bytes | None


@dataclass(frozen=True, slots=True)
class Proved:
    """A request whose evidence holds: from here on policy and state decide."""

    request: ReleaseRequest
    statement: Release
    expires: Milliseconds
    evidence: Evidence
    accepted: tuple[dict[int, bytes], ...]
    """The measurement sets it was verified against."""

    @property
    def image(self) -> bytes:
        """PCR0, which every policy of an owner requires."""
        return self.evidence.pcrs[0]
