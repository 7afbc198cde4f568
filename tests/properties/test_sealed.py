"""Any bytes give a value of the sealed model's formats or an EvidenceError, nothing else."""

import base64
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation.canonical import decode, encode
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.body import sealed_size
from anchorhold.attestation.sealed.content import check_settings
from anchorhold.attestation.sealed.descriptor import (
    Descriptor,
    ModelFile,
    Provenance,
    decode_descriptor,
    encode_descriptor,
)
from anchorhold.attestation.sealed.manifest import (
    Body,
    PurposeClass,
    ShareKind,
    ShareRole,
    WrappedShare,
    decode_manifest,
    encode_manifest,
)
from anchorhold.attestation.sealed.signature import pae, verify_manifest
from anchorhold.attestation.sealed.tensors import header_size, read_header
from anchorhold.attestation.types import ModelDigest, Sha384
from anchorhold.publish.signing import ModelSigner, create_signer, load_root, load_signer, sign_manifest

Shape = Callable[[bytes], st.SearchStrategy[bytes]]
FILES = (ModelFile("config.json", 10), ModelFile("model.safetensors", 20_000), ModelFile("tokenizer.json", 30))
DESCRIPTOR = encode_descriptor(Descriptor("tiny", "1", FILES, Sha384(b"t" * 48), Provenance(licence=b"l" * 32)))
ADAPTER_FILES = (ModelFile("adapter_config.json", 10), ModelFile("adapter_model.safetensors", 20_000))
ADAPTER = encode_descriptor(
    Descriptor("acme", "1", ADAPTER_FILES, Sha384(b"t" * 48), Provenance(), ModelDigest(b"d" * 48))
)
SHARES = tuple(
    WrappedShare(name, ShareKind.KMS, ShareRole.SHARE, PurposeClass.SERVE, "arn", b"blob", b"c" * 16)
    for name in ("kms", "owner")
)
MANIFEST = encode_manifest(
    DESCRIPTOR,
    salt=b"s" * 32,
    commitment=b"c" * 32,
    bodies=tuple(Body(file.name, sealed_size(file.size), b"h" * 32) for file in FILES),
    shares=SHARES,
)
MANIFEST_DIGEST = decode_manifest(MANIFEST).digest
TENSORS = json.dumps(
    {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]},
    }
).encode()
CONFIG = b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rope": {"type": null, "f": [1.5]}}'
ODD_JSON: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 0, -1, 2**63, 1e308, "", "x/y", "\ud800", "é", "QQ==", "Q", [], {}, [[]], {"sig": 1}, ["\ud800"]]
)


@dataclass(frozen=True)
class Signed:
    """A signer, and one bundle of its own over `MANIFEST`."""

    signer: ModelSigner
    root: bytes
    bundle: bytes


@pytest.fixture(scope="session")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    folder: Path = tmp_path_factory.mktemp("signer")
    create_signer(folder, "properties", datetime(2026, 11, 1, tzinfo=UTC))
    signer = load_signer(folder)
    return Signed(signer, load_root(folder), sign_manifest(MANIFEST, signer))


def accepts_or_refuses(parse: Callable[[bytes], object], raw: bytes) -> None:
    try:
        parse(raw)
    except EvidenceError:
        return


@given(data=st.data())
def test_any_bytes_are_a_descriptor_or_refused(near: Shape, reshaped: Shape, data: st.DataObject) -> None:
    raw = data.draw(near(DESCRIPTOR) | reshaped(DESCRIPTOR) | near(ADAPTER) | reshaped(ADAPTER))
    try:
        read = decode_descriptor(raw)
    except EvidenceError:
        return
    assert encode_descriptor(read) == raw
    assert (read.base is not None) == ({file.name for file in read.files} == {file.name for file in ADAPTER_FILES})


@given(data=st.data())
def test_any_bytes_are_a_manifest_or_refused(near: Shape, reshaped: Shape, data: st.DataObject) -> None:
    accepts_or_refuses(decode_manifest, data.draw(near(MANIFEST) | reshaped(MANIFEST)))
    inner = decode(MANIFEST, "manifest", limit=1 << 20)
    assert isinstance(inner, dict)
    accepts_or_refuses(decode_manifest, encode({**inner, "descriptor": data.draw(reshaped(DESCRIPTOR))}))


@given(data=st.data())
def test_any_bundle_is_refused_unless_it_is_the_signers_word(signed: Signed, near: Shape, data: st.DataObject) -> None:
    raw = data.draw(near(signed.bundle) | json_near(signed.bundle))
    try:
        verified, _ = verify_manifest(MANIFEST, raw, (signed.root,), MANIFEST_DIGEST)
    except EvidenceError:
        return
    # What was not refused is the same word of the same signer, in a JSON text of the same meaning.
    assert verified.digest == MANIFEST_DIGEST
    assert json.loads(raw)["dsseEnvelope"]["payload"] == json.loads(signed.bundle)["dsseEnvelope"]["payload"]


@pytest.mark.parametrize("path", [("payload",), ("signatures", 0, "sig")])
@pytest.mark.parametrize("text", ["\u00e9", "\ud800", "Q", "QQ=", "QQ==\n", "Q Q=", "-_-_"])
def test_text_that_is_not_base64_is_refused(signed: Signed, path: tuple[str | int, ...], text: str) -> None:
    raw = _edited(signed.bundle, [(("dsseEnvelope", *path), text, False)])
    with pytest.raises(EvidenceError):
        verify_manifest(MANIFEST, raw, (signed.root,), MANIFEST_DIGEST)


@given(data=st.data())
def test_any_statement_under_a_true_signature_is_read_or_refused(
    signed: Signed, near: Shape, data: st.DataObject
) -> None:
    bundle = json.loads(signed.bundle)
    envelope = bundle["dsseEnvelope"]
    stated = base64.b64decode(envelope["payload"])
    payload = data.draw(near(stated) | json_near(stated))
    signature = signed.signer.key.sign(pae(payload), ec.ECDSA(hashes.SHA384()))
    envelope["payload"] = base64.b64encode(payload).decode()
    envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    accepts_or_refuses(
        lambda raw: verify_manifest(MANIFEST, raw, (signed.root,), MANIFEST_DIGEST), json.dumps(bundle).encode()
    )


@given(data=st.data(), slack=st.integers(-9, 9))
def test_any_safetensors_header_is_read_or_refused(near: Shape, data: st.DataObject, slack: int) -> None:
    text = data.draw(near(TENSORS) | json_near(TENSORS))
    header = len(text).to_bytes(8, "little") + text
    size = len(header) + 24 + slack
    accepts_or_refuses(lambda raw: read_header(raw, size), header)
    accepts_or_refuses(lambda raw: header_size(raw, size), data.draw(near(header)))


@given(data=st.data())
def test_any_settings_are_taken_or_refused(near: Shape, data: st.DataObject) -> None:
    text = data.draw(near(CONFIG) | json_near(CONFIG))
    for name in ("config.json", "tokenizer_config.json", "model.safetensors.index.json", "tokenizer.json"):
        settings: dict[str, bytes | memoryview] = {"config.json": CONFIG, name: text}
        try:
            check_settings(settings, {"model.safetensors", *settings})
        except EvidenceError:
            continue


def json_near(seed: bytes) -> st.SearchStrategy[bytes]:
    """JSON of almost the same meaning: one to three members anywhere set to something odd, or dropped."""
    value: object = json.loads(seed)
    spots = list(_spots(value))
    edits = st.lists(st.tuples(st.sampled_from(spots), ODD_JSON, st.booleans()), min_size=1, max_size=3)
    return edits.map(lambda made: _edited(seed, made))


def _spots(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, member in members:
        found += _spots(member, (*path, step))
    return found


def _edited(seed: bytes, edits: list[tuple[tuple[str | int, ...], object, bool]]) -> bytes:
    value = json.loads(seed)
    for path, odd, drop in edits:
        holder = value
        try:
            for step in path[:-1]:
                holder = holder[step]
            if drop:
                del holder[path[-1]]
            else:
                holder[path[-1]] = copy.deepcopy(odd)  # else a second edit would change the strategy's own value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier edit took the place away
    return json.dumps(value).encode()
