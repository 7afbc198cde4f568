"""The quorum's heartbeat: what is signed, who must sign it, and that the owner face never hands out an older one."""

from dataclasses import replace

import pytest

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.heartbeat import Heartbeat, Says, verify_heartbeat
from anchorhold.attestation.release.quorum import Quorum, SignerRole
from anchorhold.attestation.release.signed import Kind, UnverifiedSigned
from anchorhold.attestation.types import Milliseconds, Sha384
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.publish.release import ReleaseSigner
from anchorhold.sim.owner_face import Authority

ANN, BOB = ReleaseSigner.generate("ann", SignerRole.OWNER), ReleaseSigner.generate("bob", SignerRole.OPERATOR)
EVE = ReleaseSigner.generate("eve", SignerRole.AUDITOR)
QUORUM = Quorum((ANN.public, BOB.public), 2, 1)
LIST = Sha384(b"l" * 48)
AT = Milliseconds(1_700_000_000_000)
DAY = Milliseconds(86_400_000)


def heartbeat(*signers: ReleaseSigner, at: int = AT, product: str = "tiny") -> bytes:
    signed = Heartbeat(product, LIST, 3, Milliseconds(at)).unsigned()
    for one in signers or (ANN, BOB):
        signed = one.sign(signed)
    return signed.encode()


def verified(raw: bytes, *, moment: int = AT, max_age: int = DAY) -> tuple[int, bool]:
    seen = verify_heartbeat(raw, QUORUM, product="tiny", moment=Milliseconds(moment), max_age=Milliseconds(max_age))
    assert {signer.name for signer in seen.signers} == {"ann", "bob"}
    return seen.age_ms, seen.stale


def test_its_age_is_counted_and_past_the_limit_it_is_stale() -> None:
    raw = heartbeat()
    assert verified(raw) == (0, False)
    assert verified(raw, moment=AT + DAY) == (DAY, False)
    assert verified(raw, moment=AT + DAY + 1) == (DAY + 1, True)
    assert verified(raw, moment=AT - DAY) == (0, False)


def test_too_few_or_other_signers_say_nothing() -> None:
    for signers in ((ANN,), (ANN, EVE), (EVE,)):
        with pytest.raises(EvidenceError) as refusal:
            verified(heartbeat(*signers))
        assert refusal.value.code == "heartbeat-threshold"
    with pytest.raises(EvidenceError) as refusal:
        verified(heartbeat(product="other"))
    assert refusal.value.code == "heartbeat-product"


def test_a_signature_over_a_list_is_none_over_a_heartbeat() -> None:
    """Each kind has its own label, so nobody's other signature is turned into their word."""
    payload = Heartbeat("tiny", LIST, 3, AT).encode()
    signed = BOB.sign(ANN.sign(UnverifiedSigned(Kind.LIST, payload, ())))
    with pytest.raises(EvidenceError) as refusal:
        verified(replace(signed, kind=Kind.HEARTBEAT).encode())
    assert refusal.value.code == "heartbeat-threshold"


@pytest.mark.parametrize(
    "changes",
    [{"says": "all is well"}, {"v": 2}, {"version": 0}, {"issued_at": -1}, {"list": b"l" * 47}, {"more": 1}],
)
def test_other_words_are_no_heartbeat(changes: dict[str, canonical.Value]) -> None:
    fields: dict[str, canonical.Value] = {
        "v": 1,
        "says": Says.NOTHING_UNLISTED.value,
        "product": "tiny",
        "list": LIST,
        "version": 3,
        "issued_at": AT,
    }
    assert Heartbeat.decode(canonical.encode(fields)).issued_at == AT
    with pytest.raises(EvidenceError):
        Heartbeat.decode(canonical.encode(fields | changes))


def kept(authority: Authority) -> object:
    status, raw = authority.call("/v1/heartbeat", {})
    answer = canonical.decode(raw, "answer", limit=100_000)
    assert status == 200
    assert isinstance(answer, dict)
    return answer["heartbeat"]


def test_the_owner_face_hands_out_the_latest_to_anybody(authority: Authority) -> None:
    assert kept(authority) is None
    assert authority.order("status")["heartbeat"] is None
    now = authority.clock.ms()
    first, second = heartbeat(at=now - 1_000), heartbeat(at=now)
    for raw in (first, second):
        authority.order("heartbeat", heartbeat=raw)
    authority.restart()
    assert kept(authority) == second
    shown = authority.order("status")["heartbeat"]
    assert isinstance(shown, dict)
    assert (shown["issued_at"], shown["signatures"]) == (now, 2)
    assert [entry.type for entry in authority.journal()] == ["heartbeat", "heartbeat"]


def test_an_older_one_one_from_the_future_and_any_other_bytes_are_refused(authority: Authority) -> None:
    now = authority.clock.ms()
    authority.order("heartbeat", heartbeat=heartbeat(at=now))
    for raw in (heartbeat(at=now - 1), heartbeat(at=now + 300_001), b"", b"\x80", heartbeat()[:-1]):
        with pytest.raises(AdminFailed, match="heartbeat"):
            authority.order("heartbeat", heartbeat=raw)
    shown = authority.order("status")["heartbeat"]
    assert isinstance(shown, dict)
    assert shown["issued_at"] == now
