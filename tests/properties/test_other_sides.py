"""The window, the authorities' faces, files a person hands over: any bytes give a value or the one typed error."""

import contextlib
import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation.canonical import encode
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.pin import ReleasePin
from anchorhold.attestation.release.quorum import Quorum, SignerRole
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.audit.folder import CannotRead
from anchorhold.audit.trustfile import parse_trust as parse_audit_trust
from anchorhold.authority.kms.cms import seal_for_recipient
from anchorhold.authority.kms.faults import KmsFault
from anchorhold.authority.kms.fields import parse_body
from anchorhold.authority.kms.policy import parse_policy
from anchorhold.authority.owner.bodies import read_model, read_order, read_release, read_share, read_tenant
from anchorhold.client.errors import TrustFileInvalid
from anchorhold.client.trust import parse_trust
from anchorhold.enclave.keys.envelope import EnvelopeInvalid, open_envelope
from anchorhold.enclave.nsm.module import NsmClient, NsmError
from anchorhold.parent.config import ConfigError, parse_config
from anchorhold.publish.release import ReleaseSigner
from anchorhold.wire import sigv4
from anchorhold.wire.frames import Decoder, Frame, FrameError, unwrap_proto, wrap_proto
from anchorhold.wire.frames import encode as frame
from anchorhold.wire.messages import pack_fields, unpack_fields

Shape = Callable[[bytes], st.SearchStrategy[bytes]]
Parse = Callable[[bytes], object]
RSA = rsa.generate_private_key(65537, 2048)
ENVELOPE = seal_for_recipient(b"secret", RSA.public_key(), content_key=b"k" * 32, iv=b"i" * 16)
FIELDS = pack_fields({"document": b"d" * 20, "nonce": b"", "statement": b"s"})
D48 = b"d" * 48
TRUST = json.dumps(
    {
        "version": 1,
        "name": "sim",
        "gateway": "127.0.0.1:1",
        "platforms": ["simulated"],
        "root": None,
        "measurements": {str(index): "ab" * 48 for index in (0, 1, 2, 16)},
        "configuration": "cd" * 48,
        "model": "ef" * 48,
        "alias": "tiny",
        "max_age_s": 300,
        "log": {"origin": "o", "key": "o+00000000+AQ=="},
    }
).encode()
SIGNER = ReleaseSigner.generate("owner", SignerRole.OWNER).public
LOG = str(Vkey.of("o", Ed25519PrivateKey.generate().public_key()))
RELEASED = json.dumps(
    {name: value for name, value in json.loads(TRUST).items() if name != "measurements"}
    | {
        "version": 2,
        "platforms": ["nitro-enclave"],
        "releases": ReleasePin("gateway", Quorum((SIGNER,), 1, 1), "releases.cbor").as_json(),
        "log": {"origin": "o", "key": LOG},
    }
).encode()
KEY_POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::000000000000:role/enclave"},
                "Action": "kms:Decrypt",
                "Resource": "*",
                "Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR0": "ab" * 48}},
            }
        ],
    }
).encode()
DECRYPT = json.dumps(
    {
        "KeyId": "k",
        "CiphertextBlob": "QQ==",
        "EncryptionContext": {"a": "b"},
        "Recipient": {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": "QQ=="},
    }
).encode()
PARENT = json.dumps(
    {
        "listen": "127.0.0.1:0",
        "window": "w",
        "configuration": "c",
        "credentials": "c",
        "sealed": "s",
        "log": "http://127.0.0.1:1",
        "egress": {"kms": "localhost:1"},
        "enclave": {"command": ["nitro-cli"], "eif": "e", "args": [], "start": False},
    }
).encode()


def _kms_fields(raw: bytes) -> None:
    fields = parse_body(raw)
    for read in (
        fields.context,
        fields.recipient,
        lambda: fields.texts("GrantTokens", items=10, most=8_192),
        lambda: fields.structures("Tags", items=50),
        lambda: fields.needed_text("KeyId", most=2_048),
        lambda: fields.blob("CiphertextBlob", most=6_144),
        lambda: fields.flag("DryRun"),
        lambda: fields.number("NumberOfBytes", least=1, most=1_024),
    ):
        with contextlib.suppress(KmsFault):
            read()


def _key_policy(raw: bytes) -> None:
    with contextlib.suppress(UnicodeDecodeError):
        parse_policy(raw.decode())


def _parent(raw: bytes) -> None:
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(raw)
        try:
            parse_config(value)
        except ValueError as error:
            raise AssertionError("a ValueError from parse_config") from error


def _nsm(raw: bytes) -> None:
    client = NsmClient(lambda _: raw)
    for ask in (client.describe, client.random, client.attest, lambda: client.describe_pcr(0)):
        with contextlib.suppress(NsmError, EvidenceError):
            ask()


READERS: dict[str, tuple[Parse, bytes, tuple[type[Exception], ...]]] = {
    "fields": (unpack_fields, FIELDS, (FrameError,)),
    "proto": (unwrap_proto, wrap_proto(b"x" * 200), (FrameError,)),
    "envelope": (lambda raw: open_envelope(raw, RSA), ENVELOPE, (EnvelopeInvalid,)),
    "client trust": (parse_trust, TRUST, (TrustFileInvalid,)),
    "auditor trust": (parse_audit_trust, TRUST, (CannotRead,)),
    "client trust of releases": (parse_trust, RELEASED, (TrustFileInvalid,)),
    "auditor trust of releases": (lambda raw: parse_audit_trust(raw, lambda _: b"\xa0"), RELEASED, (CannotRead,)),
    "parent configuration": (_parent, PARENT, (ConfigError,)),
    "key policy": (_key_policy, KEY_POLICY, (KmsFault,)),
    "kms body": (_kms_fields, DECRYPT, (KmsFault,)),
    "nsm": (_nsm, b"\xa1\x69GetRandom\xa1\x66random\x43abc", ()),
    "owner release": (read_release, encode({"document": b"d", "statement": b"s", "blob": None}), (EvidenceError,)),
    "owner model": (
        read_model,
        encode(
            {
                "model": D48,
                "alias": "tiny",
                "measurements": [{"0": D48}],
                "purposes": ["chat"],
                "purpose_class": "serve",
                "ttl_ms": 2_000,
            }
        ),
        (EvidenceError,),
    ),
    "owner share": (
        read_share,
        encode({"model": D48, "model_id": "tiny", "version": "1", "purpose_class": "serve", "share": b"s" * 32}),
        (EvidenceError,),
    ),
    "owner order": (read_order, encode({"model": D48, "reason": "incident"}), (EvidenceError,)),
    "owner tenant": (
        read_tenant,
        encode({"tenant": "t", "key": b"k" * 32, "model": D48, "purposes": ["c"], "adapters": [], "not_after": 1}),
        (EvidenceError,),
    ),
}
CANONICAL = [name for name in READERS if name.startswith("owner")]
ODD = st.sampled_from([None, True, -1, 2**70, "", "\ud800", "é", "a:b", "QQ", [], {}, [None], {"\ud800": "\ud800"}])
JSON = [name for name, (_, seed, _) in READERS.items() if seed.startswith(b"{")]


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_any_bytes_are_read_or_refused(name: str, near: Shape, data: st.DataObject) -> None:
    parse, seed, refusals = READERS[name]
    with contextlib.suppress(*refusals):
        parse(data.draw(near(seed)))


@pytest.mark.parametrize("name", CANONICAL)
@given(data=st.data())
def test_any_members_are_read_or_refused(name: str, reshaped: Shape, data: st.DataObject) -> None:
    parse, seed, refusals = READERS[name]
    with contextlib.suppress(*refusals):
        parse(data.draw(reshaped(seed)))


@pytest.mark.parametrize("name", JSON)
@given(data=st.data())
def test_any_json_members_are_read_or_refused(name: str, data: st.DataObject) -> None:
    parse, seed, refusals = READERS[name]
    members = json.loads(seed)
    for _ in range(data.draw(st.integers(1, 2))):
        holder = members
        step = data.draw(st.sampled_from(sorted(holder)))
        while isinstance(holder[step], list) and holder[step] and isinstance(holder[step][0], dict):
            holder, step = holder[step][0], data.draw(st.sampled_from(sorted(holder[step][0])))
        while isinstance(holder[step], dict) and holder[step] and data.draw(st.booleans()):
            holder = holder[step]
            step = data.draw(st.sampled_from(sorted(holder)))
        holder[step] = copy.deepcopy(data.draw(ODD))
    with contextlib.suppress(*refusals):
        parse(json.dumps(members).encode())


@given(frames=st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=5), data=st.data())
def test_frames_come_whole_and_in_order_however_the_bytes_are_cut(
    frames: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    raw = b"".join(frame(kind, body) for kind, body in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    decoder, came = Decoder(), list[Frame]()
    for low, high in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        came += decoder.feed(raw[low:high])
    decoder.end()
    assert came == [Frame(kind, body) for kind, body in frames]


@given(data=st.data())
def test_any_stream_is_frames_or_a_frame_error(near: Shape, data: st.DataObject) -> None:
    decoder = Decoder()
    with contextlib.suppress(FrameError):
        decoder.feed(data.draw(near(frame(1, b"one") + frame(2, b"two"))))
        decoder.end()


@given(fields=st.dictionaries(st.text("abcxyz_", min_size=1, max_size=8), st.binary(max_size=30), max_size=8))
def test_fields_read_back(fields: dict[str, bytes]) -> None:
    assert unpack_fields(pack_fields(fields)) == fields


HEADER_NAMES = st.sampled_from(["host", "x-amz-date", "authorization", "x-amz-content-sha256", "x-amz-target"])
HEADER_TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=40)
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=AK/20260101/r/kms/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + "a" * 64
)
HEADER_VALUES = HEADER_TEXT | st.sampled_from([AUTHORIZATION, "20260101T000000Z", "20269999T999999Z", "h"])


@given(
    headers=st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=6),
    path=st.text(max_size=9),
    query=st.text(max_size=9),
)
def test_any_request_is_refused_by_name_without_the_secret(
    headers: list[tuple[str, str]], path: str, query: str
) -> None:
    request = sigv4.Request("POST", path, query, tuple(headers), b"body")
    with pytest.raises(sigv4.SigV4Error):
        sigv4.check(request, sigv4.parse_authorization(request), "secret", at=datetime(2026, 1, 1, tzinfo=UTC))
