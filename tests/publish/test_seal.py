"""Sealing and checking what was sealed: whole or not at all, and every byte of it covered by the signature."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from anchorhold.attestation.errors import EvidenceError, Mismatch, SignatureInvalid
from anchorhold.attestation.sealed.manifest import PurposeClass, ShareRole, decode_manifest
from anchorhold.attestation.types import ModelDigest
from anchorhold.publish.errors import FolderRefused, ProviderUnavailable, PublishError
from anchorhold.publish.providers import NewShare, ShareProvider, Subject
from anchorhold.publish.seal import SealedModel, SealRequest, seal
from anchorhold.publish.signing import ModelSigner, create_signer, load_root
from anchorhold.publish.verify import verify_sealed


class DownShares:
    source = "down"

    def new_share(self, subject: Subject, purposes: Sequence[PurposeClass]) -> NewShare:
        raise ProviderUnavailable("source 'down': refused")


def test_what_was_sealed_verifies_under_its_root_and_its_digest(sealed: SealedModel, root: bytes) -> None:
    verified = verify_sealed(sealed.out, (root,), sealed.digest)
    assert verified.manifest.digest == sealed.digest
    assert "test model signer" in verified.signed_by.subject
    assert {entry.name for entry in (sealed.out / "signed").iterdir()} == {"manifest"}


def test_no_plaintext_is_left_in_what_was_sealed(sealed: SealedModel, tiny: Path) -> None:
    whole = b"".join(path.read_bytes() for path in sealed.out.rglob("*") if path.is_file())
    for path in tiny.iterdir():
        raw = path.read_bytes()
        assert raw[-48:] not in whole
        assert hashlib.sha256(raw).digest() not in whole  # a hash of plaintext would let anyone confirm a guess


def test_two_sealings_share_the_digest_and_nothing_else(
    tiny: Path, tmp_path: Path, signer: ModelSigner, providers: list[ShareProvider]
) -> None:
    one, two = (seal(SealRequest(tiny, tmp_path / name, "tiny", "1"), providers, signer) for name in "ab")
    assert one.digest == two.digest
    for mine, other in zip(one.bodies, two.bodies, strict=True):
        assert mine.digest != other.digest


def test_each_purpose_has_a_copy_of_each_share(sealed: SealedModel) -> None:
    manifest = decode_manifest((sealed.out / "signed" / "manifest").read_bytes())
    for purpose in (PurposeClass.SERVE, PurposeClass.RESEAL):
        assert [one.source for one in manifest.wrapped(ShareRole.SHARE, purpose)] == ["kms", "owner"]
    assert manifest.wrapped(ShareRole.SHARE, PurposeClass.EVALUATE) == ()


def test_nothing_is_left_behind_when_a_source_is_down(
    tiny: Path, tmp_path: Path, signer: ModelSigner, providers: list[ShareProvider]
) -> None:
    with pytest.raises(ProviderUnavailable):
        seal(SealRequest(tiny, tmp_path / "out", "tiny", "1"), [*providers, DownShares()], signer)
    assert list(tmp_path.iterdir()) == []


def test_a_sealed_model_is_never_written_over(
    sealed: SealedModel, tiny: Path, signer: ModelSigner, providers: list[ShareProvider]
) -> None:
    with pytest.raises(PublishError, match="never written over"):
        seal(SealRequest(tiny, sealed.out, "tiny", "1"), providers, signer)


def test_sealing_needs_a_source_and_names_that_differ(
    tiny: Path, tmp_path: Path, signer: ModelSigner, providers: list[ShareProvider]
) -> None:
    with pytest.raises(PublishError, match="at least one source"):
        seal(SealRequest(tiny, tmp_path / "out", "tiny", "1"), [], signer)
    with pytest.raises(PublishError, match="different names"):
        seal(SealRequest(tiny, tmp_path / "out", "tiny", "1"), [providers[0], providers[0]], signer)


@pytest.mark.parametrize("bad", ["", "../x", "a b", "-x", "x" * 65, "ü"])
def test_an_id_that_is_not_a_plain_word_is_refused(
    tiny: Path, tmp_path: Path, signer: ModelSigner, providers: list[ShareProvider], bad: str
) -> None:
    with pytest.raises(EvidenceError, match="model id"):
        seal(SealRequest(tiny, tmp_path / "out", bad, "1"), providers, signer)


def test_another_signer_is_refused(sealed: SealedModel, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    create_signer(tmp_path / "other", "test", datetime(2026, 11, 1, tzinfo=UTC))  # the same names, other keys
    with pytest.raises(EvidenceError):
        verify_sealed(sealed.out, (load_root(tmp_path / "other"),), sealed.digest)


def test_another_model_is_refused(sealed: SealedModel, root: bytes) -> None:
    with pytest.raises(Mismatch, match="model digest D") as caught:
        verify_sealed(sealed.out, (root,), ModelDigest(bytes(48)))
    assert caught.value.code == "model"


def _flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def test_a_flipped_bit_anywhere_is_refused(sealed: SealedModel, root: bytes) -> None:
    for path in sorted(sealed.out.rglob("*")):
        if not path.is_file():
            continue
        before = path.read_bytes()
        for at in (0, len(before) // 2, len(before) - 1):
            _flip(path, at)
            with pytest.raises(EvidenceError):
                verify_sealed(sealed.out, (root,), sealed.digest)
        path.write_bytes(before)
    verify_sealed(sealed.out, (root,), sealed.digest)


def _swap(out: Path) -> None:
    a, b, spare = out / "config.json.sealed", out / "tokenizer.json.sealed", out / "spare"
    a.rename(spare)
    b.rename(a)
    spare.rename(b)


def _append(out: Path) -> None:
    with (out / "config.json.sealed").open("ab") as file:
        file.write(b"\0")


def _truncate(out: Path) -> None:
    path = out / "model.safetensors.sealed"
    path.write_bytes(path.read_bytes()[:-16400])


def _remove(out: Path) -> None:
    (out / "config.json.sealed").unlink()


def _extra(out: Path) -> None:
    (out / "model.py.sealed").write_bytes(b"x")


def _extra_signed(out: Path) -> None:
    (out / "signed" / "more").write_bytes(b"x")


def _link(out: Path) -> None:
    path = out / "config.json.sealed"
    path.rename(out.parent / "elsewhere")
    path.symlink_to(out.parent / "elsewhere")


@pytest.mark.parametrize("spoil", [_swap, _append, _truncate, _remove, _extra, _extra_signed, _link])
def test_a_folder_that_is_not_exactly_what_was_signed_is_refused(
    sealed: SealedModel, root: bytes, spoil: Callable[[Path], None]
) -> None:
    spoil(sealed.out)
    with pytest.raises((EvidenceError, FolderRefused)):
        verify_sealed(sealed.out, (root,), sealed.digest)


def test_the_manifest_of_another_sealing_is_refused(
    sealed: SealedModel, root: bytes, tiny: Path, tmp_path: Path, signer: ModelSigner, providers: list[ShareProvider]
) -> None:
    other = seal(SealRequest(tiny, tmp_path / "other", "tiny", "1"), providers, signer)
    (sealed.out / "signed" / "manifest").write_bytes((other.out / "signed" / "manifest").read_bytes())
    with pytest.raises(Mismatch, match="digest"):
        verify_sealed(sealed.out, (root,), sealed.digest)
    (sealed.out / "signature").write_bytes((other.out / "signature").read_bytes())
    with pytest.raises(Mismatch, match="hash of"):  # D and signer are right, the bodies are of the other sealing
        verify_sealed(sealed.out, (root,), sealed.digest)


def test_an_unsigned_manifest_says_so(sealed: SealedModel, root: bytes) -> None:
    bundle = sealed.out / "signature"
    raw = bundle.read_text()
    at = raw.index('"sig":"') + 7
    bundle.write_text(raw[:at] + "AAAA" + raw[at + 4 :])
    with pytest.raises(SignatureInvalid):
        verify_sealed(sealed.out, (root,), sealed.digest)
