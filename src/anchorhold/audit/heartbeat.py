"""The quorum's heartbeat in the verdict: who said it, and whether that was lately enough (heartbeat.md)."""

from collections.abc import Sequence
from pathlib import Path

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.heartbeat import verify_heartbeat
from anchorhold.attestation.release.pin import ReleasePin
from anchorhold.attestation.release.signed import MAX_SIGNED_HEARTBEAT
from anchorhold.attestation.transcript.report import Code, Finding, Status
from anchorhold.attestation.types import Milliseconds
from anchorhold.audit.folder import CannotRead, read_small
from anchorhold.audit.trustfile import ReadList, pinned_releases

SUBJECT = "Heartbeat"


def heartbeat_findings(
    path: Path, trusts: Sequence[tuple[bytes, ReadList | None]], moment: Milliseconds, max_age: Milliseconds
) -> tuple[Finding, ...]:
    """One line for each quorum that the trust files pin. Raises CannotRead where none does."""
    raw = read_small(path, MAX_SIGNED_HEARTBEAT)
    pins = {pin.digest: pin for trust, _ in trusts if (pin := pinned_releases(trust)) is not None}
    if not pins:
        raise CannotRead("heartbeat: no trust file pins a quorum", hint="--trust FILE with a block `releases`")
    return tuple(_finding(raw, pin, moment, max_age) for pin in pins.values())


def _finding(raw: bytes, pin: ReleasePin, moment: Milliseconds, max_age: Milliseconds) -> Finding:
    try:
        seen = verify_heartbeat(raw, pin.quorum, product=pin.product, moment=moment, max_age=max_age)
    except EvidenceError as error:
        return Finding(SUBJECT, Status.FAIL, Code.HEARTBEAT_REFUSED, str(error))
    said = seen.heartbeat
    names = ", ".join(signer.name for signer in seen.signers)
    detail = f"{said.says.value}: list {said.version}, by {names}, {seen.age_ms} ms before the latest record"
    if seen.stale:
        stale = f"{detail}; expected at most {max_age} ms"
        return Finding(SUBJECT, Status.LIMIT, Code.HEARTBEAT_STALE, stale)
    return Finding(SUBJECT, Status.PASS, Code.HEARTBEAT, detail)
