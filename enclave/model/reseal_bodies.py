"""A sealed file under another model key: opened in memory, checked to its end, and only then sealed again.

Nothing of a file leaves, even as new ciphertext, before its old tag and hash agree: what goes out is what was signed.
One file is in the clear at a time, in a buffer of its own that is zeroed; the peak is the largest file.
"""

import contextlib
import mmap
from collections.abc import Callable, Iterator

from anchorhold.attestation.errors import Malformed
from anchorhold.attestation.sealed.body import BodyOpener, BodySealer, sealed_size
from anchorhold.attestation.sealed.manifest import Body, Manifest
from anchorhold.attestation.sealed.shares import file_key
from anchorhold.enclave.keys.secret import Secret
from anchorhold.enclave.model.sealed_files import Fetch, zero

STEP = 1 << 20  # bytes sealed at a time: one frame of the window
_MADV_DONTDUMP = 16  # madvise(2)

Put = Callable[[str, int, Iterator[bytes]], None]
"""Takes a sealed file by its name, its length and its pieces."""


def reseal_bodies(
    manifest: Manifest, old: Secret, new: Secret, *, fetch: Fetch, put: Put, may_go_on: Callable[[], object]
) -> tuple[Body, ...]:
    """The bodies of `manifest` under `new`, each handed to `put`; both keys are wiped at the end, however it ends.

    1. A body is decrypted into a buffer and hashed on the way; tag and hash agree. 2. It is sealed under its new key.
    `may_go_on` is asked before every piece and raises once the lease is over. Raises BodyInvalid, Mismatch or
    Malformed, and what `fetch`, `put` and `may_go_on` raise.
    """
    try:
        return tuple(_reseal(manifest, body, old, new, fetch, put, may_go_on) for body in manifest.bodies)
    finally:
        old.wipe()
        new.wipe()


def _reseal(
    manifest: Manifest,
    body: Body,
    old: Secret,
    new: Secret,
    fetch: Fetch,
    put: Put,
    may_go_on: Callable[[], object],
) -> Body:
    size = next(file.size for file in manifest.descriptor.files if file.name == body.name)
    buffer = _buffer(body.name, size)
    plain = memoryview(buffer)[:size]
    try:
        # 1. All of it, and it is what the manifest's signature covers (sealed-model.md 5).
        own = file_key(old.view(), manifest.digest, body.name)
        try:
            opener = BodyOpener(own, manifest.digest, body.name, buffer=plain, digest=body.digest, wipe=zero)
        finally:
            own[:] = bytes(len(own))
        for piece in fetch(body.body):
            may_go_on()
            opener.update(piece)
        opener.finish()
        # 2. Under a key of its own again: a new model key, so a new file key that has sealed nothing before.
        own = file_key(new.view(), manifest.digest, body.name)
        try:
            sealer = BodySealer(own, manifest.digest, body.name)
        finally:
            own[:] = bytes(len(own))
        put(body.body, sealed_size(size), _sealed(sealer, plain, may_go_on))
        return Body(body.name, sealer.size, sealer.digest())
    finally:
        zero(plain)
        plain.release()
        with contextlib.suppress(BufferError):  # a library still looks at it: zeros stay mapped until it is gone
            buffer.close()


def _sealed(sealer: BodySealer, plain: memoryview, may_go_on: Callable[[], object]) -> Iterator[bytes]:
    for at in range(0, len(plain), STEP):
        may_go_on()
        if sealed := sealer.update(plain[at : at + STEP]):
            yield sealed
    yield sealer.finish()


def _buffer(name: str, size: int) -> mmap.mmap:
    try:
        buffer = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise Malformed(f"no memory for {name!r} of {size} bytes") from error
    with contextlib.suppress(OSError):  # an old kernel: the process forbids core dumps anyhow
        buffer.madvise(_MADV_DONTDUMP)
    return buffer
