"""OpenSSF's own `model_signing` judges our bundles, and we judge its: same format, no code in common."""

import subprocess
import sys
from pathlib import Path

import pytest

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.signature import verify_manifest
from anchorhold.publish.seal import SealedModel
from anchorhold.publish.signing import CHAIN_FILE, KEY_FILE, ROOT_FILE

pytestmark = pytest.mark.slow


def _theirs(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "model_signing"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def _verify(sealed: SealedModel, root: Path) -> subprocess.CompletedProcess[str]:
    signature, signed = sealed.out / "signature", sealed.out / "signed"
    return _theirs("verify", "certificate", signed, "--signature", signature, "--certificate_chain", root)


def test_model_signing_accepts_what_we_sign_and_no_changed_byte(sealed: SealedModel, signer_folder: Path) -> None:
    root = signer_folder / ROOT_FILE
    good = _verify(sealed, root)
    assert good.returncode == 0, good.stderr
    manifest = sealed.out / "signed/manifest"
    raw = bytearray(manifest.read_bytes())
    raw[-1] ^= 1
    manifest.write_bytes(bytes(raw))
    assert _verify(sealed, root).returncode != 0


def test_model_signing_refuses_a_file_beside_the_manifest(sealed: SealedModel, signer_folder: Path) -> None:
    (sealed.out / "signed/more").write_bytes(b"unsigned")
    assert _verify(sealed, signer_folder / ROOT_FILE).returncode != 0


def test_we_accept_what_model_signing_signs_and_no_changed_byte(
    sealed: SealedModel, signer_folder: Path, root: bytes, tmp_path: Path
) -> None:
    bundle = tmp_path / "theirs.sig"
    key, chain = signer_folder / KEY_FILE, signer_folder / CHAIN_FILE
    certificates = ("--signing_certificate", chain, "--certificate_chain", signer_folder / ROOT_FILE)
    done = _theirs(
        "sign", "certificate", sealed.out / "signed", "--signature", bundle, "--private_key", key, *certificates
    )
    assert done.returncode == 0, done.stderr
    raw = (sealed.out / "signed/manifest").read_bytes()
    manifest, _signed_by = verify_manifest(raw, bundle.read_bytes(), (root,), sealed.digest)
    assert manifest.digest == sealed.digest
    with pytest.raises(EvidenceError):
        verify_manifest(raw[:-1] + bytes([raw[-1] ^ 1]), bundle.read_bytes(), (root,), sealed.digest)
