"""Any bytes give a document or an EvidenceError, nothing else; what the NSM never sends is refused."""

from collections.abc import Callable

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation.document import MAX_DOCUMENT, MAX_PAYLOAD, PcrBank, Unreadable, parse_document
from anchorhold.attestation.errors import EvidenceError, Malformed, NotCanonical, TooLarge, WrongAlgorithm
from anchorhold.sim.nsm import sign_payload
from anchorhold.sim.stage import MODULE, NONCE, Stage


def payload_of(document: bytes) -> bytes:
    payload = cbor2.loads(document)[2]
    assert isinstance(payload, bytes)
    return payload


def with_envelope(document: bytes, change: Callable[[list[object]], None]) -> bytes:
    members = cbor2.loads(document)
    change(members)
    return cbor2.dumps(members)


def test_what_the_toy_module_signs_is_read_field_by_field(stage: Stage) -> None:
    document = parse_document(stage.signed(user_data=b"u", public_key=b""))
    assert (document.module_id, document.nonce, document.user_data, document.public_key) == (MODULE, NONCE, b"u", b"")
    assert document.bank is PcrBank.ENCLAVE
    assert document.timestamp_ms == stage.clock.ms()
    assert sorted(document.pcrs) == list(range(32))


def test_tag_18_and_a_definite_outer_map_are_read_too(stage: Stage) -> None:
    definite = sign_payload(cbor2.dumps(stage.fields()), stage.leaf.issued.key)
    assert parse_document(b"\xd2" + definite).module_id == MODULE


def test_every_truncation_is_refused(stage: Stage) -> None:
    raw = stage.signed()
    for size in range(len(raw)):
        with pytest.raises(EvidenceError):
            parse_document(raw[:size])


def test_a_truncated_envelope_is_unreadable_and_a_truncated_payload_is_malformed(stage: Stage) -> None:
    raw = stage.signed()
    with pytest.raises(Unreadable):
        parse_document(raw[:-1])
    with pytest.raises(Malformed) as caught:
        parse_document(sign_payload(payload_of(raw)[:-1], stage.leaf.issued.key))
    assert not isinstance(caught.value, Unreadable)


def test_an_oversized_document_is_refused_before_it_is_parsed() -> None:
    assert MAX_DOCUMENT < 17_000  # nsm-api: a payload has at most 16,384 bytes
    with pytest.raises(TooLarge) as refusal:
        parse_document(b"\x84" + bytes(MAX_DOCUMENT))
    assert (refusal.value.limit, refusal.value.actual) == (MAX_DOCUMENT, MAX_DOCUMENT + 1)


def test_an_oversized_payload_is_refused_before_it_is_read(stage: Stage) -> None:
    with pytest.raises(TooLarge, match="document: payload") as refusal:
        parse_document(sign_payload(bytes(MAX_PAYLOAD + 1), stage.leaf.issued.key))
    assert (refusal.value.limit, refusal.value.actual) == (MAX_PAYLOAD, MAX_PAYLOAD + 1)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([1], "payload: expected a map, got list"),
        ("text", "payload: expected a map, got str"),
        ({0: 0}, "expected text as field name, got 0"),
    ],
)
def test_a_payload_that_is_no_map_of_named_fields_is_refused(stage: Stage, payload: object, message: str) -> None:
    with pytest.raises(Malformed, match=message):
        parse_document(sign_payload(cbor2.dumps(payload), stage.leaf.issued.key))


def test_a_member_of_another_type_is_refused_by_name(stage: Stage) -> None:
    for at, name in ((0, "protected header"), (2, "payload"), (3, "signature")):

        def as_text(members: list[object], at: int = at) -> None:
            member = members[at]
            assert isinstance(member, bytes)
            members[at] = "a" * len(member)

        with pytest.raises(Malformed, match=f"document: {name}: expected bytes, got CBOR major type 3"):
            parse_document(with_envelope(stage.signed(), as_text))


def test_an_envelope_has_the_shortest_heads(stage: Stage) -> None:
    raw = stage.signed()
    longer = raw.replace(b"\x84\x44", b"\x84\x58\x04", 1)
    assert len(longer) == len(raw) + 1
    with pytest.raises(NotCanonical, match="head longer than needed for 4"):
        parse_document(longer)


@pytest.mark.parametrize("field", ["public_key", "user_data", "nonce"])
def test_a_field_holds_1024_bytes_and_not_one_more(stage: Stage, field: str) -> None:
    parse_document(stage.signed(**{field: bytes(1024)}))
    with pytest.raises(TooLarge):
        parse_document(stage.signed(**{field: bytes(1025)}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("module_id", ""),
        ("module_id", b"i-0"),
        ("module_id", "i-0\x1b[2J"),
        ("module_id", "i-\u0456"),
        ("module_id", "i" * 257),
        ("digest", "SHA256"),
        ("timestamp", 0),
        ("timestamp", "now"),
        ("timestamp", 2**63),
        ("pcrs", {}),
        ("pcrs", {32: bytes(48)}),
        ("pcrs", {0: bytes(47)}),
        ("pcrs", {0: "zero"}),
        ("pcrs", {0: "z" * 48}),
        ("pcrs", {"0": bytes(48)}),
        ("pcrs", [bytes(48)]),
        ("certificate", b""),
        ("certificate", bytes(1025)),
        ("certificate", None),
        ("cabundle", []),
        ("cabundle", None),
        ("cabundle", [b"", b"x"]),
        ("cabundle", [b"x"] * 6),
        ("cabundle", [[b"x"]]),
        ("public_key", "text"),
        ("user_data", 7),
        ("nonce", False),
    ],
)
def test_a_field_out_of_form_is_refused_by_name(stage: Stage, field: str, value: object) -> None:
    with pytest.raises(Malformed, match=field.rstrip("s").replace("pcr", "(pcr|map key|register)")):
        parse_document(stage.signed(**{field: value}))


def test_more_registers_than_an_nsm_has_are_too_many_before_they_are_looked_at(stage: Stage) -> None:
    with pytest.raises(TooLarge) as refusal:
        parse_document(stage.signed(pcrs=dict.fromkeys(range(33), "text")))
    assert (refusal.value.limit, refusal.value.actual) == (32, 33)


@pytest.mark.parametrize("field", ["module_id", "digest", "timestamp", "certificate", "cabundle"])
def test_a_missing_field_is_refused(stage: Stage, field: str) -> None:
    with pytest.raises(Malformed, match=f"missing fields .*{field}"):
        parse_document(stage.signed(**{field: ...}))


def test_a_document_without_registers_is_refused(stage: Stage) -> None:
    with pytest.raises(Malformed, match="exactly one of pcrs, nitrotpm_pcrs, got 0"):
        parse_document(stage.signed(pcrs=...))


@pytest.mark.parametrize("field", ["public_key", "user_data", "nonce"])
def test_left_out_is_absent_like_null_and_empty_is_not(stage: Stage, field: str) -> None:
    assert getattr(parse_document(stage.signed(**{field: ...})), field) is None
    assert getattr(parse_document(stage.signed(**{field: None})), field) is None
    assert getattr(parse_document(stage.signed(**{field: b""})), field) == b""


def test_an_unknown_field_and_two_register_banks_are_refused(stage: Stage) -> None:
    with pytest.raises(Malformed, match="unknown fields"):
        parse_document(stage.signed(extra=1))
    with pytest.raises(Malformed, match="exactly one"):
        parse_document(stage.signed(nitrotpm_pcrs={0: bytes(48)}))


@pytest.mark.parametrize("name", ["pcrs", "nonce", "certificate"])
def test_a_duplicated_key_is_refused(stage: Stage, name: str) -> None:
    fields = stage.fields()
    payload = payload_of(stage.signed())
    twice = payload[:-1] + cbor2.dumps(name) + cbor2.dumps(fields[name]) + b"\xff"
    with pytest.raises(NotCanonical, match=f"duplicate key '{name}'"):
        parse_document(sign_payload(twice, stage.leaf.issued.key))


def test_a_duplicated_register_is_refused(stage: Stage) -> None:
    one = b"\x00" + cbor2.dumps(bytes(48))
    good = cbor2.dumps({0: bytes(48)})
    payload = payload_of(stage.signed(pcrs={0: bytes(48)}))
    assert payload.count(good) == 1
    with pytest.raises(NotCanonical, match="duplicate key 0"):
        parse_document(sign_payload(payload.replace(good, b"\xa2" + one + one), stage.leaf.issued.key))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda payload: payload + b"\x00",
        lambda payload: payload[:-1],
        lambda payload: b"\xa9" + payload[1:],
        lambda payload: payload.replace(b"\x64pcrs", b"\x7f\x64pcrs\xff"),
        lambda payload: b"\xbf\x64pcrs\xbf" + payload[6:],
        lambda payload: b"\xbf\x69module_id\x7b\xff\xff\xff\xff\xff\xff\xff\xff",
        lambda payload: b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        lambda payload: b"\xbf" * 400,
        lambda payload: b"\x9f\xff",
        lambda payload: b"",
    ],
)
def test_a_payload_that_two_readers_could_read_differently_is_refused(
    stage: Stage, spoil: Callable[[bytes], bytes]
) -> None:
    raw = sign_payload(spoil(payload_of(stage.signed())), stage.leaf.issued.key)
    with pytest.raises(EvidenceError):
        parse_document(raw)


@pytest.mark.parametrize("protected", [{1: -7}, {1: -8}, {1: -49}, {1: -37}, {}, {1: -35, 4: b"k"}, {1: "ES384"}])
def test_another_algorithm_is_refused(stage: Stage, protected: dict[int, object]) -> None:
    raw = sign_payload(payload_of(stage.signed()), stage.leaf.issued.key, cbor2.dumps(protected))
    with pytest.raises((WrongAlgorithm, Malformed)):
        parse_document(raw)


def test_a_der_signature_is_refused(stage: Stage) -> None:
    def as_der(members: list[object]) -> None:
        signature = members[3]
        assert isinstance(signature, bytes)
        r, s = int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big")
        members[3] = encode_dss_signature(r, s)

    with pytest.raises(Malformed, match="96"):
        parse_document(with_envelope(stage.signed(), as_der))


@pytest.mark.parametrize("change", [(1, {4: b"kid"}), (1, None), (2, None), (3, "x"), (0, {1: -35})])
def test_an_envelope_out_of_form_is_refused(stage: Stage, change: tuple[int, object]) -> None:
    def spoil(members: list[object]) -> None:
        members[change[0]] = change[1]

    with pytest.raises(Malformed):
        parse_document(with_envelope(stage.signed(), spoil))


@pytest.mark.parametrize("prefix", [b"\xd1", b"\xd8\x61", b"\xd2\xd2", b"\x00"])
def test_another_tag_is_refused(stage: Stage, prefix: bytes) -> None:
    with pytest.raises(Malformed):
        parse_document(prefix + stage.signed())


def test_bytes_after_the_envelope_are_refused(stage: Stage) -> None:
    with pytest.raises(Malformed):
        parse_document(stage.signed() + b"\x00")


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda tail: b"\x84\x44\xa1\x01\x38\x22\xa0" + tail))
def test_any_bytes_give_an_evidence_error_and_nothing_else(raw: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_document(raw)


@given(st.binary(max_size=300).map(lambda tail: cbor2.dumps([b"\xa1\x01\x38\x22", {}, b"\xbf" + tail, bytes(96)])))
def test_any_payload_gives_an_evidence_error_and_nothing_else(raw: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_document(raw)
