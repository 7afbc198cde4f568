"""What every rule of a replay says when an entry does not agree, and what becomes of an attachment not in the copy."""

from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.transcript.report import Code
from anchorhold.attestation.transcript.trust import EvidenceMissing

CLOCK_SLACK_MS = 2_000  # DESIGN 5: more is clock doubt, so honest times differ by less, but for stalls (ADR 4)


class Contradiction(EvidenceError):
    """What an entry says does not agree with what stands before it. `finding` is the report's code."""

    def __init__(self, finding: Code, message: str) -> None:
        super().__init__(message, code=finding.value)
        self.finding = finding


def expect(what: str, expected: object, actual: object) -> None:
    """Raises Contradiction where a boot acts outside its configuration."""
    if expected != actual:
        raise Contradiction(Code.CONFIGURATION_DIFFERS, str(Mismatch(what, expected=expected, actual=actual)))


class Missing:
    """Notes missing attachments; wrong ones are contradictions."""

    def __init__(self, noted: list[str], what: str) -> None:
        self._noted = noted
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, EvidenceMissing):
            self._noted.append(f"{self._what}: {error}")
            return True
        if isinstance(error, EvidenceError) and not isinstance(error, Contradiction):
            raise Contradiction(Code.EVIDENCE_DIFFERS, f"{self._what}: {error}") from error
        return False
