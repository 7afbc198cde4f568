"""Sealing: folder -> descriptor -> D -> shares and keys -> bodies -> manifest -> signature: an order without a circle.

The sealed model appears under its name when it is whole, or not at all. What Python cannot promise: copies of the model
key inside the libraries.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anchorhold.attestation.sealed.body import BodySealer
from anchorhold.attestation.sealed.descriptor import (
    Descriptor,
    ModelFile,
    Provenance,
    descriptor_digest,
    encode_descriptor,
)
from anchorhold.attestation.sealed.manifest import Body, PurposeClass, WrappedShare, encode_manifest
from anchorhold.attestation.sealed.shares import SALT_BYTES, file_key, key_commitment, model_key
from anchorhold.attestation.types import ModelDigest
from anchorhold.publish.errors import FolderRefused, PublishError
from anchorhold.publish.folder import CheckedFolder, check_folder, open_plain
from anchorhold.publish.providers import NewShare, ShareProvider, Subject
from anchorhold.publish.signing import ModelSigner, sign_manifest

SIGNED_FOLDER = "signed"
MANIFEST_FILE = "signed/manifest"
SIGNATURE_FILE = "signature"
STEP = 4 << 20  # bytes read and sealed at a time

Progress = Callable[[str, int, int], None]
"""What is going on, bytes done, bytes in all."""


@dataclass(frozen=True, slots=True)
class Into:
    """A folder in which what is sealed is named by its own digest, in lower-case hex: where a parent finds adapters."""

    folder: Path


@dataclass(frozen=True, slots=True)
class SealRequest:
    """What to seal, and under which name. With a `base`, the D of a model, the folder is an adapter for it."""

    folder: Path
    out: Path | Into
    model_id: str
    version: str
    purposes: tuple[PurposeClass, ...] = (PurposeClass.SERVE, PurposeClass.RESEAL)
    provenance: Provenance = field(default_factory=Provenance)
    base: ModelDigest | None = None


@dataclass(frozen=True, slots=True)
class SealedModel:
    """What came of it; `digest` is D."""

    digest: ModelDigest
    out: Path
    bodies: tuple[Body, ...]
    shares: tuple[WrappedShare, ...]


def seal(
    request: SealRequest, providers: Sequence[ShareProvider], signer: ModelSigner, progress: Progress = lambda *_: None
) -> SealedModel:
    """Seal the folder of a model or an adapter. Raises PublishError and its kinds; nothing is left behind then.

    1. The folder is checked. 2. The descriptor is fixed, D with it. 3. Each source makes its share.
    4. The model key, and a key for each file. 5. Bodies. 6. Manifest. 7. Signature. 8. It gets its name.
    """
    if not providers or not request.purposes:
        raise PublishError("sealing needs at least one source of shares and one purpose class")
    if not isinstance(request.out, Into):
        _check_new(request.out)
    # 1. The folder (sealed-model.md 3).
    folder = check_folder(request.folder, adapter=request.base is not None)
    # 2. The descriptor.
    descriptor = Descriptor(
        request.model_id, request.version, folder.files, folder.tensor_index, request.provenance, request.base
    )
    plain = encode_descriptor(descriptor)
    model = descriptor_digest(plain)
    out = request.out.folder / model.hex() if isinstance(request.out, Into) else request.out
    if isinstance(request.out, Into) and out.exists():
        raise PublishError(
            f"{out} is there already: the digest is that of files, id, version and base, whoever it is for; "
            "the same for another tenant, or sealed anew, takes another id or version"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=".seal-"))
    try:
        # 3. The shares, in the order of their sources: the order in which the key is made.
        subject = Subject(model, descriptor.model_id, descriptor.version)
        shares = sorted((one.new_share(subject, request.purposes) for one in providers), key=lambda one: one.source)
        # 4. The keys.
        salt = secrets.token_bytes(SALT_BYTES)
        key = _model_key(shares, salt, descriptor, model)
        try:
            commitment = key_commitment(key, model)
            # 5. The bodies.
            bodies = _seal_bodies(folder, scratch, key, model, progress)
        finally:
            key[:] = bytes(len(key))
        # 6. and 7. The manifest, alone in its folder, and the signature over that folder.
        wrapped = tuple(copy for share in shares for copy in share.wrapped)
        raw = encode_manifest(plain, salt=salt, commitment=commitment, bodies=bodies, shares=wrapped)
        (scratch / SIGNED_FOLDER).mkdir()
        write_synced(scratch / MANIFEST_FILE, raw)
        write_synced(scratch / SIGNATURE_FILE, sign_manifest(raw, signer))
        # 8. Whole, so it may have its name.
        scratch.chmod(0o755)
        scratch.rename(out)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return SealedModel(model, out, bodies, wrapped)


def _check_new(out: Path) -> None:
    if out.exists():
        raise PublishError(f"{out} is there already: a sealed model is never written over")


def _model_key(shares: Sequence[NewShare], salt: bytes, descriptor: Descriptor, model: ModelDigest) -> bytearray:
    if len({share.source for share in shares}) != len(shares):
        raise PublishError("sealing needs sources of different names")
    try:
        return model_key(
            [share.share for share in shares],
            salt=salt,
            model_id=descriptor.model_id,
            version=descriptor.version,
            model=model,
        )
    finally:
        for share in shares:
            share.share[:] = bytes(len(share.share))


def _seal_bodies(
    folder: CheckedFolder, scratch: Path, key: bytearray, model: ModelDigest, progress: Progress
) -> tuple[Body, ...]:
    bodies: list[Body] = []
    done = 0
    for file in folder.files:
        own = file_key(key, model, file.name)
        try:
            sealer = BodySealer(own, model, file.name)
        finally:
            own[:] = bytes(len(own))
        before = done

        def report(read: int, before: int = before) -> None:
            progress("seal", before + read, folder.size)

        bodies.append(_seal_body(folder.path, file, scratch, sealer, report))
        done += file.size
    return tuple(bodies)


def _seal_body(folder: Path, file: ModelFile, scratch: Path, sealer: BodySealer, report: Callable[[int], None]) -> Body:
    out = scratch / Body(file.name, 0, b"").body
    read = 0
    with open_plain(folder, file.name) as (source, _), out.open("wb") as target:
        while piece := source.read(STEP):
            read += len(piece)
            target.write(sealer.update(piece))
            report(read)
        target.write(sealer.finish())
        target.flush()
        os.fsync(target.fileno())
    if read != file.size:
        raise FolderRefused(file.name, f"changed while it was read: expected {file.size} bytes, got {read}")
    return Body(file.name, sealer.size, sealer.digest())


def write_synced(path: Path, raw: bytes) -> None:
    """On disk when it returns."""
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
