"""Descriptor and manifest: one value has one encoding, and what does not add up is refused."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation.canonical import decode, encode
from anchorhold.attestation.errors import EvidenceError, Malformed, TooLarge
from anchorhold.attestation.sealed.body import sealed_size
from anchorhold.attestation.sealed.descriptor import (
    MAX_ADAPTER,
    Descriptor,
    ModelFile,
    Provenance,
    decode_descriptor,
    descriptor_digest,
    descriptor_json,
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
from anchorhold.attestation.sealed.shares import encryption_context, file_key, key_commitment, model_key, share_check
from anchorhold.attestation.types import ModelDigest, Sha384

FILES = (ModelFile("config.json", 10), ModelFile("model.safetensors", 20_000), ModelFile("tokenizer.json", 30))
DESCRIPTOR = Descriptor("tiny", "1", FILES, Sha384(b"t" * 48), Provenance(licence=b"l" * 32))
PLAIN = encode_descriptor(DESCRIPTOR)
BODIES = tuple(Body(file.name, sealed_size(file.size), b"h" * 32) for file in FILES)


def wrapped(source: str, purpose: PurposeClass = PurposeClass.SERVE) -> WrappedShare:
    return WrappedShare(source, ShareKind.KMS, ShareRole.SHARE, purpose, "arn", b"blob", b"c" * 16)


def manifest() -> bytes:
    shares = (wrapped("owner"), wrapped("kms"))
    return encode_manifest(PLAIN, salt=b"s" * 32, commitment=b"c" * 32, bodies=BODIES, shares=shares)


def test_the_descriptor_reads_back_and_its_digest_is_over_its_bytes() -> None:
    assert decode_descriptor(PLAIN) == DESCRIPTOR
    assert descriptor_json(DESCRIPTOR)["digest"] == descriptor_digest(PLAIN).hex()


ADAPTER_FILES = (ModelFile("adapter_config.json", 10), ModelFile("adapter_model.safetensors", 20_000))
BASE = ModelDigest(b"d" * 48)
ADAPTER = Descriptor("acme", "1", ADAPTER_FILES, Sha384(b"t" * 48), base=BASE)
# The first from before there were adapters: a model's D never changes.
PINNED = {
    DESCRIPTOR: "ba31259bda75ccfc1769817cc1916126bc3e91f9c1f0d98e4b2753c1f158f46ce9976a16bd3c2fb1c0a202c5c93d0cdb",
    ADAPTER: "d9cf5a23dca277f0853fb12887137cf13ad26c605eae8a43b963703653a4dc98277dcd33b95c692bf09d9457a21c705c",
}


@pytest.mark.parametrize("descriptor", PINNED, ids=["a model", "an adapter"])
def test_the_bytes_of_a_descriptor_are_those_that_another_encoder_makes_and_its_digest_is_the_pinned_one(
    descriptor: Descriptor,
) -> None:
    stated = {"v": 1} | {name: value for name, value in asdict(descriptor).items() if (name, value) != ("base", None)}
    assert encode_descriptor(descriptor) == cbor2.dumps(stated, canonical=True)
    assert descriptor_digest(encode_descriptor(descriptor)).hex() == PINNED[descriptor]
    assert decode_descriptor(encode_descriptor(descriptor)) == descriptor


def test_an_adapter_is_another_one_for_another_base_and_says_which() -> None:
    other = replace(ADAPTER, base=ModelDigest(b"e" * 48))
    assert descriptor_digest(encode_descriptor(other)) != descriptor_digest(encode_descriptor(ADAPTER))
    assert (descriptor_json(ADAPTER)["base"], descriptor_json(DESCRIPTOR)["base"]) == (BASE.hex(), None)


@pytest.mark.parametrize("base", [b"", b"d" * 47, b"d" * 49, None, "d" * 48, 1], ids=repr)
def test_a_base_that_is_no_digest_is_refused(base: Any) -> None:
    members: Any = decode(encode_descriptor(ADAPTER), "descriptor", limit=1 << 20)
    with pytest.raises(Malformed):
        decode_descriptor(encode({**members, "base": base}))


@pytest.mark.parametrize(
    ("files", "base"),
    [
        (FILES, BASE),
        (ADAPTER_FILES, None),
        (ADAPTER_FILES[:1], BASE),
        (ADAPTER_FILES[1:], BASE),
        ((*ADAPTER_FILES, FILES[0]), BASE),
        ((*ADAPTER_FILES, *FILES), None),
        (ADAPTER_FILES[::-1], BASE),
    ],
)
def test_a_descriptor_is_of_a_model_or_of_an_adapter_and_never_of_both(
    files: tuple[ModelFile, ...], base: ModelDigest | None
) -> None:
    with pytest.raises(EvidenceError):
        Descriptor("tiny", "1", files, DESCRIPTOR.tensor_index, base=base)


def test_an_adapter_has_at_most_a_gibibyte_in_all_and_a_model_more() -> None:
    def sized(weights: int) -> tuple[ModelFile, ...]:
        return ADAPTER_FILES[0], ModelFile(ADAPTER_FILES[1].name, weights)

    replace(ADAPTER, files=sized(MAX_ADAPTER - 10))
    with pytest.raises(TooLarge, match="adapter: bytes of its files"):
        replace(ADAPTER, files=sized(MAX_ADAPTER - 9))
    replace(DESCRIPTOR, files=(FILES[0], ModelFile(FILES[1].name, MAX_ADAPTER + 1), FILES[2]))


def test_every_field_of_the_descriptor_is_in_the_digest() -> None:
    others = [
        Descriptor("tiny2", "1", FILES, DESCRIPTOR.tensor_index, DESCRIPTOR.provenance),
        Descriptor("tiny", "2", FILES, DESCRIPTOR.tensor_index, DESCRIPTOR.provenance),
        Descriptor("tiny", "1", (ModelFile("config.json", 11), *FILES[1:]), DESCRIPTOR.tensor_index),
        Descriptor("tiny", "1", FILES, Sha384(b"u" * 48), DESCRIPTOR.provenance),
        Descriptor("tiny", "1", FILES, DESCRIPTOR.tensor_index, Provenance(source=b"l" * 32)),
    ]
    digests = {descriptor_digest(encode_descriptor(one)) for one in (DESCRIPTOR, *others)}
    assert len(digests) == 1 + len(others)


@pytest.mark.parametrize(
    "files",
    [
        (),
        FILES[:2],
        FILES[::2],
        (*FILES, FILES[0]),
        FILES[::-1],
        (*FILES, ModelFile("x.py", 1)),
        (ModelFile("../config.json", 1), *FILES[1:]),
        (ModelFile("config.json", 0), *FILES[1:]),
        (ModelFile("config.json", 2**41), *FILES[1:]),
    ],
)
def test_files_that_make_no_model_make_no_descriptor(files: tuple[ModelFile, ...]) -> None:
    with pytest.raises(EvidenceError):
        Descriptor("tiny", "1", files, DESCRIPTOR.tensor_index)


def test_the_manifest_reads_back_with_its_shares_in_order() -> None:
    read = decode_manifest(manifest())
    assert (read.descriptor, read.digest, read.bodies) == (DESCRIPTOR, descriptor_digest(PLAIN), BODIES)
    assert [one.source for one in read.wrapped(ShareRole.SHARE, PurposeClass.SERVE)] == ["kms", "owner"]


def _set(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda members: members.update({name: value})


def _body(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda members: members["bodies"][1].update({name: value})


def _share(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda members: members["shares"][1].update({name: value})


@pytest.mark.parametrize(
    "edit",
    [
        _set("v", 2),
        _set("format", "AES-256-GCM"),
        _set("salt", b"s" * 31),
        _set("commitment", b""),
        _set("bodies", []),
        _set("shares", []),
        _set("more", 1),
        lambda members: members.pop("salt"),
        lambda members: members["bodies"].reverse(),
        lambda members: members["bodies"].append(members["bodies"][0]),
        lambda members: members["shares"].reverse(),
        lambda members: members["shares"].append(members["shares"][1]),
        _body("size", 20_000),
        _body("algorithm", "md5"),
        _body("digest", b"h" * 16),
        _body("name", "tokenizer.json"),
        _share("kind", "friend"),
        _share("role", "key"),
        _share("purpose", "fun"),
        _share("purpose", "reseal"),  # a purpose with one source of two
        _share("check", b""),
        _share("blob", b""),
        _share("blob", b"b" * 6145),
        _share("key", ""),
        _share("source", "a/b"),
        _set("descriptor", PLAIN + b"\0"),
        _set("descriptor", PLAIN.replace(b"tiny", b"ti/y")),
    ],
)
def test_a_manifest_that_does_not_add_up_is_refused(edit: Callable[[dict[str, Any]], None]) -> None:
    members: Any = decode(manifest(), "manifest", limit=1 << 20)
    edit(members)
    with pytest.raises(EvidenceError):
        decode_manifest(encode(members))


@given(st.binary(max_size=300))
def test_any_bytes_give_a_manifest_or_an_evidence_error(raw: bytes) -> None:
    with pytest.raises(EvidenceError):
        decode_manifest(raw)


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_a_changed_byte_changes_the_manifest_or_is_refused(at: int, byte: int) -> None:
    raw = bytearray(manifest())
    before = raw[at % len(raw)]
    raw[at % len(raw)] = byte
    try:
        read = decode_manifest(bytes(raw))
    except EvidenceError:
        return
    assert (read == decode_manifest(manifest())) is (byte == before)


def test_keys_differ_by_everything_they_are_bound_to() -> None:
    one, two = bytes(32), b"\1" * 32
    d, e = ModelDigest(b"d" * 48), ModelDigest(b"e" * 48)
    keys = [
        model_key([one, two], salt=b"s" * 32, model_id="m", version="1", model=d),
        model_key([two, one], salt=b"s" * 32, model_id="m", version="1", model=d),
        model_key([one], salt=b"s" * 32, model_id="m", version="1", model=d),
        model_key([one, two], salt=b"t" * 32, model_id="m", version="1", model=d),
        model_key([one, two], salt=b"s" * 32, model_id="m1", version="", model=d),
        model_key([one, two], salt=b"s" * 32, model_id="m", version="1", model=e),
        file_key(one, d, "a"),
        file_key(one, d, "b"),
        file_key(one, e, "a"),
    ]
    assert len({bytes(key) for key in keys}) == len(keys)
    assert len({key_commitment(key, model) for key in (one, two) for model in (d, e)}) == 4
    checks = {share_check(one, m, s, r) for m in (d, e) for s in ("kms", "owner") for r in ("share", "lease")}
    assert len(checks) == 8


def test_the_encryption_context_is_these_four_texts() -> None:
    context = encryption_context("tiny", ModelDigest(b"\xd1" * 48), ShareRole.SHARE, PurposeClass.SERVE)
    assert context == {"model": "tiny", "D": "d1" * 48, "role": "share", "purpose": "serve"}
