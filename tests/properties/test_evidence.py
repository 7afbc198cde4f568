"""Any bytes give a value of the evidence formats or an EvidenceError, nothing else."""

import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation import labels
from anchorhold.attestation.anchors import anchor_from_pem
from anchorhold.attestation.appraise import appraise
from anchorhold.attestation.binding import Ask, Genesis, Release, Serve, Statement, decode_statement, encode_statement
from anchorhold.attestation.canonical import Value, decode, encode
from anchorhold.attestation.channel.tenant import TenantCredential, issue_credential, verify_credential
from anchorhold.attestation.configuration import (
    Configuration,
    EngineSettings,
    LogTrust,
    Source,
    decode_configuration,
    encode_configuration,
)
from anchorhold.attestation.cose import parse_sign1, sign1
from anchorhold.attestation.document import parse_document
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.lease import Lease, sign_lease, verify_lease
from anchorhold.attestation.measure.cpio import Entry, Mode, read_cpio, write_cpio
from anchorhold.attestation.measure.eif import Architecture, read_eif, write_eif
from anchorhold.attestation.policy import policy_from_json
from anchorhold.attestation.purpose import Grant, Purpose
from anchorhold.attestation.types import (
    BootId,
    ConfigDigest,
    Milliseconds,
    ModelDigest,
    Sha384,
    StatementDigest,
)
from anchorhold.attestation.verify import OWN_WORD, verify_at
from anchorhold.sim.nsm import sign_payload
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import START, Clock, Stage

Shape = Callable[[bytes], st.SearchStrategy[bytes]]
Parse = Callable[[bytes], object]
STAGE = Stage(SimulatedPki.create(START), Clock())
DOCUMENT = STAGE.signed(user_data=b"u" * 48)
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
BOOT, G = BootId(b"b" * 32), StatementDigest(Sha384(b"g" * 48))
D, C = ModelDigest(b"d" * 48), ConfigDigest(b"c" * 48)
STATEMENTS: dict[type[Statement], Statement] = {
    Genesis: Genesis(BOOT, b"t" * 32, b"q" * 1952, b"r" * 32, C, None),
    Release: Release(
        BOOT, G, "owner", Ask.KEY, D, (Purpose("chat"),), 1, b"x" * 32, release_key=b"k" * 1216, rsa_key=None
    ),
    Serve: Serve(BOOT, G, "suite", b"k" * 1216, b"r" * 32, D, C, 3, Milliseconds(1_800_000_000_000)),
}
CONFIGURATION = encode_configuration(
    Configuration(
        model=D,
        model_id="org/model",
        alias="model",
        signers=(b"root",),
        sources=(
            Source("kms", "kms", "cloud", "https://h:1", (b"ca",), "arn:aws:kms:r:0:key/1", "r", b"", 10_000),
            Source("owner", "owner", "owner inc", "https://h:2", (b"ca",), "k1", "", b"l" * 32, 10_000),
        ),
        log=LogTrust("example.org/log", "example.org/log+00000000+AQ==", "none"),
        log_lease_ms=300_000,
        epoch_ms=600_000,
        grace_ms=60_000,
        purposes=("chat",),
        purpose_class="serve",
        credential_issuer=b"i" * 32,
        release_policy=None,
        engine=EngineSettings("float32", 4_096, 8, 2),
    )
)
LEASE = sign_lease(
    Lease("owner", BOOT, G, D, (Grant(Purpose("chat")),), 1, G, 10_000, Milliseconds(1_800_000_000_000)), KEY
)
CREDENTIAL = issue_credential(
    TenantCredential("t", b"k" * 32, D, ("chat",), (b"a" * 48,), Milliseconds(1_800_000_000_000)), KEY
)
CPIO = write_cpio((Entry("a", Mode.FOLDER), Entry("a/b", Mode.FILE, b"body"), Entry("c", Mode.PROGRAM, b"x")))
EIF = write_eif(
    architecture=Architecture.X86_64, kernel=b"kernel", cmdline=b"line", metadata=b"{}", ramdisks=(b"one", b"two")
)
POLICY = (
    b'{"version": 1, "platforms": ["simulated"], "releases": {"toy 1": [%s]}, "max_age_s": 300}'
    % json.dumps({str(index): "ab" * 48 for index in (0, 1, 2)}).encode()
)


def accepts_or_refuses(parse: Parse, raw: bytes) -> None:
    try:
        parse(raw)
    except EvidenceError:
        return


def payload(signed: bytes) -> bytes:
    return parse_sign1(signed, "seed").payload


RAW: dict[str, tuple[Parse, bytes]] = {
    "canonical": (lambda raw: decode(raw, "value", limit=4_096), CONFIGURATION),
    "cose": (lambda raw: parse_sign1(raw, "message"), LEASE),
    "document": (parse_document, DOCUMENT),
    "verify_at": (lambda raw: verify_at(raw, STAGE.policy, STAGE.pki.anchor, OWN_WORD), DOCUMENT),
    "appraise": (lambda raw: appraise(raw, STAGE.policy, (STAGE.pki.anchor,), OWN_WORD), DOCUMENT),
    "configuration": (decode_configuration, CONFIGURATION),
    "lease": (lambda raw: verify_lease(raw, KEY.public_key()), LEASE),
    "credential": (lambda raw: verify_credential(raw, KEY.public_key()), CREDENTIAL),
    "policy": (policy_from_json, POLICY),
    "ramdisk": (read_cpio, CPIO),
    "image": (read_eif, EIF),
    "root": (
        lambda raw: anchor_from_pem("root", raw),
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ),
}
SHAPED: dict[str, tuple[Parse, bytes]] = {
    "configuration": (decode_configuration, CONFIGURATION),
    "lease": (
        lambda raw: verify_lease(sign1(raw, KEY, aad=labels.LEASE), KEY.public_key()),
        payload(LEASE),
    ),
    "credential": (
        lambda raw: verify_credential(sign1(raw, KEY, aad=labels.TENANT_CREDENTIAL), KEY.public_key()),
        payload(CREDENTIAL),
    ),
}


@pytest.mark.parametrize("name", RAW)
@given(data=st.data())
def test_any_bytes_are_read_or_refused(name: str, near: Shape, data: st.DataObject) -> None:
    parse, seed = RAW[name]
    accepts_or_refuses(parse, data.draw(near(seed)))


@pytest.mark.parametrize("name", SHAPED)
@given(data=st.data())
def test_any_members_are_read_or_refused(name: str, reshaped: Shape, data: st.DataObject) -> None:
    parse, seed = SHAPED[name]
    accepts_or_refuses(parse, data.draw(reshaped(seed)))


@pytest.mark.parametrize("kind", STATEMENTS)
@given(data=st.data())
def test_a_statement_is_read_as_its_own_kind_or_refused(
    kind: type[Statement], near: Shape, reshaped: Shape, data: st.DataObject
) -> None:
    seed = encode_statement(STATEMENTS[kind])
    raw = data.draw(near(seed) | reshaped(seed))
    for wanted in STATEMENTS:
        try:
            statement = decode_statement(raw, wanted)
        except EvidenceError:
            continue
        assert encode_statement(statement) == raw
        assert type(statement) is wanted


@given(data=st.data())
def test_any_payload_under_a_true_signature_is_a_document_or_refused(near: Shape, data: st.DataObject) -> None:
    signed = sign_payload(data.draw(near(payload(DOCUMENT))), STAGE.leaf.issued.key)
    accepts_or_refuses(parse_document, signed)
    accepts_or_refuses(lambda raw: verify_at(raw, STAGE.policy, STAGE.pki.anchor, OWN_WORD), signed)


VALUES: st.SearchStrategy[Value] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(value=VALUES)
def test_a_value_has_one_encoding_and_reads_back(value: Value) -> None:
    try:
        raw = encode(value)
    except ValueError:
        return  # nested deeper than the format
    assert decode(raw, "value", limit=1 << 16) == value


@given(data=st.data())
def test_what_reads_as_canonical_encodes_to_the_same_bytes(near: Shape, data: st.DataObject) -> None:
    raw = data.draw(near(CONFIGURATION))
    try:
        value = decode(raw, "value", limit=1 << 16)
    except EvidenceError:
        return
    assert encode(value) == raw
