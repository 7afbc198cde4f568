"""Any bytes give a document or an EvidenceError, nothing else, in bounded time and memory.

What our reader takes, cbor2 must read as the same fields: a second reader of the same bytes sees the same document.
"""

import cbor2
from tests.fuzz import seeds as kept
from tests.vectors.evidence.certificates import START, good_chain

from anchorhold.attestation.anchors import AWS_NITRO_G1, Anchor
from anchorhold.attestation.appraise import appraise
from anchorhold.attestation.document import UnverifiedDocument, parse_document
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.timing import TimeEvidence, TimeSource
from anchorhold.attestation.verdict import ExitCode
from anchorhold.attestation.verify import OWN_WORD

MAX_LEN = 17_000  # bytes; a document's limit and a little over
TOKENS = (b"\xbf", b"\xff", b"\xd2\x84", b"\xa1\x01\x38\x22", b"\xf6", b"\x1b", b"nitrotpm_pcrs", b"\x58\x60")
ANCHORS = (AWS_NITRO_G1, Anchor("vectors", good_chain().cabundle[0]))
CLOCK = TimeEvidence(TimeSource.CLOCK, START)


def seeds() -> list[bytes]:
    """Real documents and ours."""
    return kept.documents()


def one_input(data: bytes) -> None:
    """One document."""
    try:
        document = parse_document(data)
    except EvidenceError:
        assert appraise(data, None, ANCHORS, CLOCK).exit_code in (ExitCode.CONTRADICTED, ExitCode.CANNOT_RUN)
        return
    _second_reader(data, document)
    for at in (CLOCK, OWN_WORD):
        # Without a policy and a nonce nothing may come out as verified, not even as simulated.
        assert appraise(data, None, ANCHORS, at).exit_code in (ExitCode.CONTRADICTED, ExitCode.LIMITS)


def _second_reader(data: bytes, document: UnverifiedDocument) -> None:
    members = cbor2.loads(data)
    protected, unprotected, payload, signature = members.value if isinstance(members, cbor2.CBORTag) else members
    assert (protected, unprotected, len(signature)) == (b"\xa1\x01\x38\x22", {}, 96)
    fields = cbor2.loads(payload)
    assert fields["module_id"] == document.module_id
    assert fields["timestamp"] == document.timestamp_ms
    assert fields[document.bank.value] == dict(document.pcrs)
    assert (fields["certificate"], tuple(fields["cabundle"])) == (document.certificate, document.cabundle)
    for name in ("public_key", "user_data", "nonce"):
        assert fields.get(name) == getattr(document, name)
