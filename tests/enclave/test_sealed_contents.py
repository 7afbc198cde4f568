"""A publisher with a good signature and no scruples: the enclave looks at the contents itself before it uses them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.sealed.body import BodySealer
from anchorhold.attestation.sealed.descriptor import Descriptor, ModelFile, descriptor_digest, encode_descriptor
from anchorhold.attestation.sealed.manifest import (
    Body,
    Manifest,
    PurposeClass,
    ShareKind,
    ShareRole,
    WrappedShare,
    decode_manifest,
    encode_manifest,
)
from anchorhold.attestation.sealed.names import ADAPTER_CONFIGURATION, ADAPTER_WEIGHTS, NotAllowed
from anchorhold.attestation.sealed.shares import file_key, key_commitment, model_key, share_check
from anchorhold.attestation.sealed.tensors import header_size, index_digest
from anchorhold.attestation.types import ModelDigest, Sha384
from anchorhold.enclave.keys.secret import Secret
from anchorhold.enclave.model.sealed_files import Fetch, open_sealed, unlock
from anchorhold.publish.tiny import make_tiny_adapter, make_tiny_model

SHARE, SALT = b"o" * 32, b"s" * 32
WEIGHTS = "model.safetensors"
BASE = ModelDigest(b"d" * 48)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder: Path = tmp_path_factory.mktemp("plain")
    make_tiny_model(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder: Path = tmp_path_factory.mktemp("adapter")
    make_tiny_adapter(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def seal_unchecked(files: dict[str, bytes], index: Sha384, base: ModelDigest | None = None) -> tuple[Manifest, Fetch]:
    """What `seal` makes, without one look at what is sealed."""
    names = sorted(files)
    sizes = tuple(ModelFile(name, len(files[name])) for name in names)
    descriptor = Descriptor("tiny", "1", sizes, index, base=base)
    raw = encode_descriptor(descriptor)
    model = descriptor_digest(raw)
    key = model_key([SHARE], salt=SALT, model_id="tiny", version="1", model=model)
    sealed: dict[str, bytes] = {}
    bodies = []
    for name in names:
        sealer = BodySealer(file_key(key, model, name), model, name)
        sealed[name] = sealer.update(files[name]) + sealer.finish()
        bodies.append(Body(name, len(sealed[name]), sealer.digest()))
    check = share_check(SHARE, model, "owner", ShareRole.SHARE)
    share = WrappedShare("owner", ShareKind.OWNER, ShareRole.SHARE, PurposeClass.SERVE, "key", b"blob", check)
    commitment = key_commitment(key, model)
    read = decode_manifest(
        encode_manifest(raw, salt=SALT, commitment=commitment, bodies=tuple(bodies), shares=(share,))
    )
    by_body = {body.body: sealed[body.name] for body in bodies}

    def fetch(name: str) -> Iterator[bytes]:
        return iter([by_body[name]])

    manifest = Manifest(read.descriptor, read.digest, read.salt, read.commitment, read.bodies, read.shares)
    return manifest, fetch


def tensor_index(files: dict[str, bytes]) -> Sha384:
    name = WEIGHTS if WEIGHTS in files else ADAPTER_WEIGHTS
    weights = files[name]
    return index_digest({name: weights[: header_size(weights[:8], len(weights))]})


def opened(files: dict[str, bytes], index: Sha384, base: ModelDigest | None = None) -> None:
    manifest, fetch = seal_unchecked(files, index, base)
    with open_sealed(manifest, unlock(manifest, {"owner": Secret(bytearray(SHARE))}), fetch):
        pass


def with_setting(files: dict[str, bytes], name: str, **values: object) -> dict[str, bytes]:
    return files | {name: json.dumps(json.loads(files[name]) | values).encode()}


def test_what_was_sealed_without_a_look_opens_if_it_is_in_order(plain: dict[str, bytes]) -> None:
    opened(plain, tensor_index(plain))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda files: with_setting(files, "config.json", auto_map={"AutoModel": "evil.Model"}),
        lambda files: with_setting(files, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}),
        lambda files: with_setting(files, "config.json", quantization_config={"quant_method": "gptq"}),
        lambda files: with_setting(files, "config.json", tokenizer_repo_id="evil/model"),
        lambda files: with_setting(files, "config.json", architectures=["EvilForCausalLM"]),
        lambda files: files | {"config.json": b'{"model_type": "llama", "model_type": "gpt2"}'},
        lambda files: files | {"tokenizer.json": b"not json"},
        lambda files: files | {WEIGHTS: files[WEIGHTS].replace(b'"F32"', b'"I64"', 1).replace(b'"BF16"', b'"F64"', 1)},
        lambda files: files | {WEIGHTS: files[WEIGHTS] + bytes(16)},
        lambda files: files | {WEIGHTS: b"\xff" * 8 + files[WEIGHTS][8:]},
    ],
    ids=[
        "auto_map",
        "auto_map of the tokenizer",
        "a quantiser",
        "another repository",
        "another architecture",
        "a key twice",
        "no JSON",
        "a header that lies about a type",
        "bytes behind the tensors",
        "a header of any length",
    ],
)
def test_contents_that_do_not_hold_are_refused_inside_though_tag_hash_and_signature_agree(
    plain: dict[str, bytes], spoil: Callable[[dict[str, bytes]], dict[str, bytes]]
) -> None:
    files = spoil(plain)
    assert files != plain
    try:
        index = tensor_index(files)
    except EvidenceError:
        index = tensor_index(plain)
    with pytest.raises(EvidenceError):
        opened(files, index)


def test_weights_that_are_not_those_the_descriptor_names_are_refused(plain: dict[str, bytes]) -> None:
    with pytest.raises(Mismatch) as refusal:
        opened(plain, Sha384(b"t" * 48))
    assert refusal.value.code == "tensor-index"


def test_an_adapter_that_was_sealed_without_a_look_opens_if_it_is_in_order(adapter: dict[str, bytes]) -> None:
    opened(adapter, tensor_index(adapter), BASE)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda files: with_setting(files, ADAPTER_CONFIGURATION, auto_mapping={"base": "evil"}), "adapter-settings"),
        (lambda files: with_setting(files, ADAPTER_CONFIGURATION, auto_map={"AutoModel": "evil.Model"}), "code"),
        (lambda files: with_setting(files, ADAPTER_CONFIGURATION, modules_to_save=["lm_head"]), "adapter-settings"),
        (lambda files: with_setting(files, ADAPTER_CONFIGURATION, r=4), "adapter-shape"),
        (lambda files: with_setting(files, ADAPTER_CONFIGURATION, target_modules=["q_proj"]), "adapter-tensor"),
        (lambda files: files | {ADAPTER_WEIGHTS: files[ADAPTER_WEIGHTS].replace(b"v_proj.lora_A", b"v_proj.lora_C")},
         "adapter-tensor"),
    ],
    ids=["a module of its own", "code", "other weights of the base", "another rank", "a target unsaid", "no LoRA"],
)  # fmt: skip
def test_an_adapter_s_contents_are_looked_at_inside_too(
    adapter: dict[str, bytes], spoil: Callable[[dict[str, bytes]], dict[str, bytes]], code: str
) -> None:
    files = spoil(adapter)
    assert files != adapter
    with pytest.raises(NotAllowed) as refusal:
        opened(files, tensor_index(files), BASE)
    assert refusal.value.code == code
