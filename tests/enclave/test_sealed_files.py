"""Opening a sealed model: nothing comes out before every tag and hash agrees, and keys do not outlive their use."""

import hashlib
import resource
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch
from anchorhold.attestation.sealed.body import BodyInvalid, BodyOpener, BodySealer, sealed_size
from anchorhold.attestation.sealed.descriptor import MAX_FILE
from anchorhold.attestation.sealed.manifest import Manifest, PurposeClass, ShareKind, ShareRole, WrappedShare
from anchorhold.attestation.sealed.shares import KeyInvalid, ShareInvalid, share_check
from anchorhold.attestation.sealed.signature import verify_manifest
from anchorhold.attestation.types import ModelDigest
from anchorhold.enclave.keys.gate import Gate
from anchorhold.enclave.keys.lease import LeaseEnded
from anchorhold.enclave.keys.secret import Secret, SecretWiped
from anchorhold.enclave.model.sealed_files import Opening, open_sealed, unlock, zero
from anchorhold.publish.providers import NewShare, Subject
from anchorhold.publish.seal import SealRequest, seal
from anchorhold.publish.signing import create_signer, load_root, load_signer
from anchorhold.publish.tiny import make_tiny_model

Fetch = Callable[[str], Iterator[bytes]]
SHARES = {"kms": b"k" * 32, "owner": b"o" * 32}


class FixedShares:
    def __init__(self, source: str) -> None:
        self.source = source

    def new_share(self, subject: Subject, purposes: Sequence[PurposeClass]) -> NewShare:
        share = SHARES[self.source]
        check = share_check(share, subject.model, self.source, ShareRole.SHARE)
        wrapped = [
            WrappedShare(self.source, ShareKind.OWNER, ShareRole.SHARE, one, "key", b"blob", check) for one in purposes
        ]
        return NewShare(self.source, bytearray(share), tuple(wrapped))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    make_tiny_model(folder)
    return folder


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signer")
    create_signer(folder, "test", datetime(2026, 11, 1, tzinfo=UTC))
    return folder


def make(plain: Path, signer: Path, out: Path, version: str = "1") -> Manifest:
    sources = [FixedShares(name) for name in SHARES]
    sealed = seal(SealRequest(plain, out, "tiny", version), sources, load_signer(signer))
    raw, bundle = (out / "signed" / "manifest").read_bytes(), (out / "signature").read_bytes()
    manifest, _ = verify_manifest(raw, bundle, (load_root(signer),), sealed.digest)
    return manifest


@pytest.fixture(scope="module")
def sealed(plain: Path, signer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sealed") / "model"


@pytest.fixture(scope="module")
def manifest(plain: Path, signer: Path, sealed: Path) -> Manifest:
    return make(plain, signer, sealed)


def fetch_from(folder: Path, step: int = 5000) -> Fetch:
    def fetch(name: str) -> Iterator[bytes]:
        raw = (folder / name).read_bytes()
        return (raw[at : at + step] for at in range(0, len(raw), step))

    return fetch


def spoiled(folder: Path, name: str, spoil: Callable[[bytes], bytes]) -> Fetch:
    honest = fetch_from(folder)

    def fetch(wanted: str) -> Iterator[bytes]:
        return iter([spoil((folder / name).read_bytes())]) if wanted == name else honest(wanted)

    return fetch


def shares() -> dict[str, Secret]:
    return {name: Secret(share) for name, share in SHARES.items()}


@pytest.mark.parametrize("step", [1 << 20, 16_400, 56, 4097])
def test_the_files_come_out_as_they_went_in(manifest: Manifest, sealed: Path, plain: Path, step: int) -> None:
    seen: list[Opening] = []
    with open_sealed(manifest, unlock(manifest, shares()), fetch_from(sealed, step), seen.append) as opened:
        assert set(opened.files) == {entry.name for entry in plain.iterdir()}
        for name, view in opened.files.items():
            assert bytes(view) == (plain / name).read_bytes()
    assert seen[-1].done == seen[-1].total == sum(body.size for body in manifest.bodies)


def test_shares_are_wiped_once_the_key_exists_and_the_key_once_all_is_open(manifest: Manifest, sealed: Path) -> None:
    given = shares()
    key = unlock(manifest, given)
    assert all(share.wiped for share in given.values())
    open_sealed(manifest, key, fetch_from(sealed)).wipe()
    with pytest.raises(SecretWiped):
        key.view()


def test_wiping_zeroes_the_buffers_that_an_engine_still_holds(manifest: Manifest, sealed: Path) -> None:
    opened = open_sealed(manifest, unlock(manifest, shares()), fetch_from(sealed))
    held = opened.files["model.safetensors"]
    assert any(held[:64])
    opened.wipe()
    opened.wipe()
    assert not any(held)
    assert opened.files == {}


@pytest.mark.parametrize("source", sorted(SHARES))
def test_a_wrong_share_names_its_source_and_wipes_all(manifest: Manifest, source: str) -> None:
    given = shares() | {source: Secret(secrets.token_bytes(32))}
    with pytest.raises(ShareInvalid, match=source):
        unlock(manifest, given)
    assert all(share.wiped for share in given.values())


def test_shares_swapped_between_sources_are_refused(manifest: Manifest) -> None:
    with pytest.raises(ShareInvalid):
        unlock(manifest, {"kms": Secret(SHARES["owner"]), "owner": Secret(SHARES["kms"])})


@pytest.mark.parametrize("names", [["kms"], ["owner"], [], ["kms", "owner", "more"]])
def test_one_share_too_few_or_too_many_is_refused(manifest: Manifest, names: list[str]) -> None:
    with pytest.raises(Mismatch, match="sources"):
        unlock(manifest, {name: Secret(SHARES.get(name, bytes(32))) for name in names})


def test_a_purpose_that_was_not_sealed_for_has_no_key(manifest: Manifest) -> None:
    with pytest.raises(Mismatch, match="sources"):
        unlock(manifest, shares(), PurposeClass.EVALUATE)


def test_a_key_that_is_not_the_one_committed_to_is_refused(manifest: Manifest) -> None:
    from dataclasses import replace

    with pytest.raises(KeyInvalid):
        unlock(replace(manifest, commitment=bytes(32)), shares())
    with pytest.raises(KeyInvalid):
        unlock(replace(manifest, salt=bytes(32)), shares())


def test_a_wrong_model_key_opens_nothing(manifest: Manifest, sealed: Path) -> None:
    with pytest.raises(BodyInvalid):
        open_sealed(manifest, Secret(secrets.token_bytes(32)), fetch_from(sealed))


def _reorder(raw: bytes) -> bytes:
    head, chunk = raw[:56], 16_400
    return head + raw[56 + chunk : 56 + 2 * chunk] + raw[56 : 56 + chunk] + raw[56 + 2 * chunk :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:-1],
        lambda raw: raw[: 56 + 16_400],  # cut at the edge of a chunk
        lambda raw: raw[:40],
        lambda raw: b"",
        lambda raw: raw + b"\0",
        lambda raw: raw + raw[56 : 56 + 16_400],
        _reorder,
        lambda raw: raw[:56] + raw[56 : 56 + 16_400] * 2 + raw[56 + 2 * 16_400 :],  # a chunk repeated
        lambda raw: raw[:100] + bytes([raw[100] ^ 1]) + raw[101:],
        lambda raw: raw[:30] + bytes([raw[30] ^ 1]) + raw[31:],  # the commitment
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
    ],
    ids=["cut", "cut-at-chunk", "cut-in-header", "empty", "appended", "chunk-appended", "reordered", "repeated", "flip",
         "flip-commitment", "flip-last-tag"],
)  # fmt: skip
def test_a_spoiled_body_is_refused_and_the_key_is_wiped(
    manifest: Manifest, sealed: Path, spoil: Callable[[bytes], bytes]
) -> None:
    key = unlock(manifest, shares())
    with pytest.raises(EvidenceError) as caught:
        open_sealed(manifest, key, spoiled(sealed, "model.safetensors.sealed", spoil))
    assert caught.value.code in {"body", "body-size", "body-hash"}
    assert key.wiped


def test_bodies_swapped_are_refused(manifest: Manifest, sealed: Path) -> None:
    other = (sealed / "tokenizer.json.sealed").read_bytes()
    with pytest.raises(EvidenceError):
        open_sealed(manifest, unlock(manifest, shares()), spoiled(sealed, "config.json.sealed", lambda _: other))


def test_a_body_of_another_model_under_the_same_shares_is_refused(
    manifest: Manifest, sealed: Path, plain: Path, signer: Path, tmp_path: Path
) -> None:
    make(plain, signer, tmp_path / "other", version="2")
    other = (tmp_path / "other" / "config.json.sealed").read_bytes()
    with pytest.raises(BodyInvalid):
        open_sealed(manifest, unlock(manifest, shares()), spoiled(sealed, "config.json.sealed", lambda _: other))


def test_whoever_knows_the_key_still_needs_the_signature_over_the_hash(manifest: Manifest, sealed: Path) -> None:
    from anchorhold.attestation.sealed.shares import file_key

    key = unlock(manifest, shares())
    name = "chat_template.jinja"
    size = next(file.size for file in manifest.descriptor.files if file.name == name)
    sealer = BodySealer(file_key(key.view(), manifest.digest, name), manifest.digest, name)
    forged = sealer.update(b"x" * size) + sealer.finish()
    with pytest.raises(Mismatch, match="hash of the body"):
        open_sealed(manifest, key, spoiled(sealed, name + ".sealed", lambda _: forged))


def test_a_fetch_that_fails_leaves_no_key(manifest: Manifest, sealed: Path) -> None:
    def fetch(name: str) -> Iterator[bytes]:
        yield (sealed / name).read_bytes()[:60]
        raise ConnectionResetError

    key = unlock(manifest, shares())
    with pytest.raises(ConnectionResetError):
        open_sealed(manifest, key, fetch)
    assert key.wiped


def test_a_lease_that_ends_while_the_model_loads_wipes_key_and_plaintext(manifest: Manifest, sealed: Path) -> None:
    """A revoked enclave holds neither, however slowly its parent feeds it."""
    clock = [100.0]
    gate = Gate([("owner", 60.0)], lambda: clock[0])
    gate.granted("owner", gate.ask("owner"), raw=b"lease", sent_at=100.0, ttl_s=60.0)
    key = unlock(manifest, shares())

    def progress(_: Opening) -> None:
        clock[0] += 25.0
        gate.require()

    with pytest.raises(LeaseEnded):
        open_sealed(manifest, key, fetch_from(sealed, step=500), progress)
    assert key.wiped
    assert gate.last_pass is None, "nothing has left, so the death record may name no last token"


def test_no_memory_for_the_model_leaves_no_key(manifest: Manifest, sealed: Path) -> None:
    first, *others = manifest.descriptor.files
    files = (replace(first, size=MAX_FILE), *others)
    huge = replace(manifest, descriptor=replace(manifest.descriptor, files=files))
    key = unlock(manifest, shares())
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_FILE // 2, hard))
    try:
        with pytest.raises(Malformed, match="no memory"):
            open_sealed(huge, key, fetch_from(sealed))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert key.wiped


def test_a_refused_body_leaves_zeros_where_its_plaintext_was() -> None:
    model, key = ModelDigest(bytes(48)), bytearray(32)
    sealer = BodySealer(key, model, "config.json")
    sealed = sealer.update(b"secret" * 10_000) + sealer.finish()
    assert len(sealed) == sealed_size(60_000)
    buffer = bytearray(60_000)
    digest = hashlib.sha256(sealed).digest()

    def opener(expected: bytes) -> BodyOpener:
        return BodyOpener(key, model, "config.json", buffer=memoryview(buffer), digest=expected, wipe=zero)

    partial = opener(digest)
    partial.update(sealed[:40_000])
    assert b"secret" in buffer  # it was there, before the tail was seen to be wrong
    with pytest.raises(Mismatch):
        partial.finish()
    assert not any(buffer)
    wrong = opener(bytes(32))
    wrong.update(sealed)
    with pytest.raises(Mismatch, match="hash"):
        wrong.finish()
    assert not any(buffer)
    right = opener(digest)
    right.update(sealed)
    right.finish()
    assert buffer == b"secret" * 10_000


@pytest.mark.parametrize("size", [1, 16_383, 16_384, 16_385, 32_768, 100_000])
def test_the_length_of_a_body_follows_from_the_file(size: int) -> None:
    sealer = BodySealer(bytearray(32), ModelDigest(bytes(48)), "x")
    assert len(sealer.update(bytes(size)) + sealer.finish()) == sealed_size(size) == sealer.size
