"""A model that came out of an enclave sealed anew, made whole: checked against the old one, then signed.

No key is needed and no plaintext is near: the manifest has the hashes of the ciphertexts. What a publisher signs here
is that an attested enclave made this manifest out of the one before, so the transcript must say so.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.sealed.manifest import MAX_MANIFEST, UnverifiedManifest, decode_manifest
from anchorhold.attestation.sealed.signature import SIGNED_FILE
from anchorhold.attestation.transcript.bodies import Reseal
from anchorhold.publish.errors import FolderRefused, PublishError
from anchorhold.publish.seal import SIGNATURE_FILE, SIGNED_FOLDER, write_synced
from anchorhold.publish.signing import ModelSigner, sign_manifest
from anchorhold.publish.verify import VerifiedModel, check_body, check_entries, read_small


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A sealed model without its signature: whole, and fit to be signed."""

    folder: Path
    raw: bytes
    manifest: UnverifiedManifest


def check_resealed(folder: Path, before: VerifiedModel, said: Reseal) -> Unsigned:
    """Raises FolderRefused or EvidenceError. `said` comes out of a transcript that was audited.

    1. `signed/` holds the manifest alone, and beside it lie exactly its bodies. 2. It is the manifest that the enclave
    logged, made from the one before. 3. Same descriptor, sources, roles and purpose classes; new salt, commitment and
    keys, and not one blob of before. 4. Every body has the length and the hash that the manifest names.
    """
    # 1.
    check_entries(folder / SIGNED_FOLDER, {SIGNED_FILE})
    raw = read_small(folder / SIGNED_FOLDER, SIGNED_FILE, MAX_MANIFEST)
    manifest = decode_manifest(raw)
    check_entries(folder, {SIGNED_FOLDER, *(body.body for body in manifest.bodies)})
    # 2.
    old = before.manifest
    _same("manifest of the transcript's record", said.manifest, hashlib.sha256(raw).digest())
    _same("manifest before", said.before, before.raw_digest)
    # 3.
    _same("model", old.digest, manifest.digest)
    _same("copies", [one.order for one in old.shares], [one.order for one in manifest.shares])
    if manifest.salt == old.salt or manifest.commitment == old.commitment:
        raise PublishError("a resealed model has a salt and a key of its own")
    if {one.blob for one in old.shares} & {one.blob for one in manifest.shares}:
        raise PublishError("a resealed model has no copy of a share of before")
    if kept := {one.key for one in old.shares} & {one.key for one in manifest.shares}:
        raise PublishError(f"a resealed model has other keys than before, {sorted(kept)} is kept")
    # 4.
    for body in manifest.bodies:
        check_body(folder, body, lambda _: None)
    return Unsigned(folder, raw, manifest)


def sign_resealed(unsigned: Unsigned, signer: ModelSigner) -> None:
    """The signature, beside it. Raises FolderRefused where there is one."""
    if (unsigned.folder / SIGNATURE_FILE).exists():
        raise FolderRefused(unsigned.folder.name, "is signed already")
    write_synced(unsigned.folder / SIGNATURE_FILE, sign_manifest(unsigned.raw, signer))


def _same(what: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise Mismatch(what, expected=expected, actual=actual)
