"""What a publisher signs of what came out of an enclave: the manifest the transcript names, whole and all new."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.publish.conftest import LocalShares

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.descriptor import encode_descriptor
from anchorhold.attestation.sealed.manifest import PurposeClass, decode_manifest, encode_manifest
from anchorhold.attestation.transcript.bodies import Reseal
from anchorhold.publish.errors import PublishError
from anchorhold.publish.providers import NewShare, Subject
from anchorhold.publish.resealed import check_resealed, sign_resealed
from anchorhold.publish.seal import SealedModel, SealRequest, seal
from anchorhold.publish.signing import ModelSigner
from anchorhold.publish.verify import VerifiedModel, verify_sealed


class NewShares(LocalShares):
    """Under other keys than before."""

    def new_share(self, subject: Subject, purposes: Sequence[PurposeClass]) -> NewShare:
        made = super().new_share(subject, purposes)
        wrapped = tuple(replace(one, key="key-2", blob=b"new blob") for one in made.wrapped)
        return NewShare(made.source, made.share, wrapped)


@pytest.fixture
def before(sealed: SealedModel, root: bytes) -> VerifiedModel:
    return verify_sealed(sealed.out, (root,))


@pytest.fixture
def made(tiny: Path, tmp_path: Path, signer: ModelSigner) -> Path:
    """As an enclave leaves it: everything but the signature."""
    out = tmp_path / "resealed"
    seal(SealRequest(tiny, out, "tiny", "1"), [NewShares("owner"), NewShares("kms")], signer)
    (out / "signature").unlink()
    return out


def said(folder: Path, before: VerifiedModel) -> Reseal:
    raw = (folder / "signed/manifest").read_bytes()
    return Reseal(before.manifest.digest, before.raw_digest, hashlib.sha256(raw).digest(), ("key-2", "key-2"))


def test_it_is_signed_and_verifies_like_any_sealed_model(
    made: Path, before: VerifiedModel, signer: ModelSigner, root: bytes
) -> None:
    sign_resealed(check_resealed(made, before, said(made, before)), signer)
    assert verify_sealed(made, (root,), before.manifest.digest).raw_digest != before.raw_digest
    with pytest.raises(EvidenceError):
        check_resealed(made, before, said(made, before))  # a signature lies beside it: nothing is signed twice


def _body(folder: Path) -> None:
    path = next(folder.glob("*.sealed"))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def _missing(folder: Path) -> None:
    next(folder.glob("*.sealed")).unlink()


def _more(folder: Path) -> None:
    (folder / "notes.txt").write_text("x")


def _again(folder: Path) -> None:
    shutil.copyfile(folder / "signed/manifest", folder / "signed/manifest.old")


@pytest.mark.parametrize("spoil", [_body, _missing, _more, _again])
def test_a_folder_that_is_not_whole_is_not_signed(
    made: Path, before: VerifiedModel, spoil: Callable[[Path], None]
) -> None:
    word = said(made, before)
    spoil(made)
    with pytest.raises((EvidenceError, PublishError)):
        check_resealed(made, before, word)


@pytest.mark.parametrize("changes", [{"manifest": b"x" * 32}, {"before": b"x" * 32}])
def test_a_manifest_that_no_enclave_logged_is_not_signed(
    made: Path, before: VerifiedModel, changes: dict[str, bytes]
) -> None:
    with pytest.raises(EvidenceError, match="manifest"):
        check_resealed(made, before, replace(said(made, before), **changes))  # type: ignore[arg-type]  # real fields


def _old_blob(folder: Path, before: VerifiedModel) -> None:
    _rewrite(folder, blob=before.manifest.shares[0].blob)


def _old_key(folder: Path, before: VerifiedModel) -> None:
    _rewrite(folder, key=before.manifest.shares[0].key)


def _old_salt(folder: Path, before: VerifiedModel) -> None:
    _rewrite(folder, salt=before.manifest.salt)


def _rewrite(folder: Path, *, salt: bytes | None = None, **share: object) -> None:
    path = folder / "signed/manifest"
    old = decode_manifest(path.read_bytes())
    first = replace(old.shares[0], **share)  # type: ignore[arg-type]  # the test names real fields
    raw = encode_manifest(
        encode_descriptor(old.descriptor),
        salt=salt or old.salt,
        commitment=old.commitment,
        bodies=old.bodies,
        shares=(first, *old.shares[1:]),
    )
    path.write_bytes(raw)


@pytest.mark.parametrize("spoil", [_old_blob, _old_key, _old_salt])
def test_what_keeps_something_of_before_is_not_signed_though_an_enclave_logged_it(
    made: Path, before: VerifiedModel, spoil: Callable[[Path, VerifiedModel], None]
) -> None:
    spoil(made, before)
    with pytest.raises(PublishError, match="resealed model"):
        check_resealed(made, before, said(made, before))


def test_another_model_s_manifest_is_not_signed(
    tiny: Path, tmp_path: Path, signer: ModelSigner, before: VerifiedModel
) -> None:
    out = tmp_path / "other"
    seal(SealRequest(tiny, out, "tiny", "2"), [NewShares("owner"), NewShares("kms")], signer)
    (out / "signature").unlink()
    with pytest.raises(EvidenceError, match="model"):
        check_resealed(out, before, said(out, before))
