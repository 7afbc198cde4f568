"""From sealed files to buffers: ciphertext comes in chunk by chunk and is decrypted straight into its final place.

Nothing is returned, parsed or kept before every tag and every hash agrees; whatever fails, all buffers are zeroed.
The buffers are private anonymous mappings left out of core dumps; there is no file, no page cache, and one copy.
"""

import contextlib
import ctypes
import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from anchorhold.attestation.errors import Malformed, Mismatch
from anchorhold.attestation.sealed.body import BodyOpener
from anchorhold.attestation.sealed.manifest import Body, Manifest, PurposeClass, ShareRole
from anchorhold.attestation.sealed.meaning import check_meaning
from anchorhold.attestation.sealed.names import is_weights
from anchorhold.attestation.sealed.shares import file_key, model_key, verify_key, verify_share
from anchorhold.attestation.sealed.tensors import header_size, index_digest, read_header
from anchorhold.enclave.keys.secret import Secret

_MADV_DONTDUMP = 16  # madvise(2); not among mmap's names in Python 3.11's documentation for every kernel

Fetch = Callable[[str], Iterator[bytes | memoryview]]
"""The ciphertext of a sealed file by its name, in pieces of any size."""


class OpenedModel:
    """The files in the clear, by name, in memory alone. `wipe` zeroes them; views handed out then show zeros."""

    __slots__ = ("_files", "_mappings")

    def __init__(self, files: Mapping[str, memoryview], mappings: tuple[mmap.mmap, ...]) -> None:
        self._files = dict(files)
        self._mappings = mappings

    @property
    def files(self) -> Mapping[str, memoryview]:
        """Writable views, so that an engine can build tensors on them without a copy."""
        return self._files

    def wipe(self) -> None:
        """Zero every file. Safe to call again."""
        for view in self._files.values():
            zero(view)
        self._files = {}
        for mapping in self._mappings:
            with contextlib.suppress(BufferError):  # a tensor still looks at it: zeros stay mapped until it is gone
                mapping.close()
        self._mappings = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()


@dataclass(frozen=True, slots=True)
class Opening:
    """How far opening has come, for the log: sealed bytes read out of all there are."""

    done: int
    total: int


def unlock(manifest: Manifest, shares: Mapping[str, Secret], purpose: PurposeClass = PurposeClass.SERVE) -> Secret:
    """The model key. The shares are wiped, whether it holds or not.

    1. There is a share of every source that sealed for this purpose, and no other.
    2. Each share proves itself. 3. The key proves itself.

    Raises Mismatch, ShareInvalid or KeyInvalid.
    """
    try:
        # 1. The sources (sealed-model.md 4).
        wrapped = manifest.wrapped(ShareRole.SHARE, purpose)
        wanted = [one.source for one in wrapped]
        if not wanted or sorted(shares) != wanted:
            raise Mismatch("sources of the shares", expected=wanted, actual=sorted(shares), code="sources")
        # 2. The shares.
        views = [shares[source].view() for source in wanted]
        for one, view in zip(wrapped, views, strict=True):
            verify_share(view, one.check, manifest.digest, one.source, ShareRole.SHARE)
        # 3. The key.
        model = manifest.descriptor
        key = Secret(
            model_key(views, salt=manifest.salt, model_id=model.model_id, version=model.version, model=manifest.digest)
        )
    finally:
        for share in shares.values():
            share.wipe()
    try:
        verify_key(key.view(), manifest.commitment, manifest.digest)
    except BaseException:
        key.wipe()
        raise
    return key


def open_sealed(
    manifest: Manifest, key: Secret, fetch: Fetch, progress: Callable[[Opening], None] = lambda _: None
) -> OpenedModel:
    """All files of `manifest`. The key is wiped at the end, whether it went well or not.

    1. Every body is decrypted into its final buffer and hashed on the way. 2. Each one's tag and hash agree.
    3. Only then the contents are looked at: headers against the descriptor, settings and tensors against the rules.

    Raises BodyInvalid, Mismatch, HeaderLies, NotAllowed, Malformed or TooLarge, and what `fetch` or `progress` raises.
    """
    opened = OpenedModel({}, ())
    total, done = sum(body.size for body in manifest.bodies), 0
    try:
        opened = _map(manifest)
        # 1. and 2. Nobody sees `opened` before the last body has agreed (sealed-model.md 5).
        for body in manifest.bodies:
            for size in _open_body(manifest, body, key, opened.files[body.name], fetch):
                done += size
                progress(Opening(done, total))
        # 3. Contents (sealed-model.md 3).
        check_contents(manifest, opened.files)
    except BaseException:
        opened.wipe()
        raise
    finally:
        key.wipe()
    return opened


def check_contents(manifest: Manifest, files: Mapping[str, memoryview]) -> None:
    """The weights are those the descriptor's tensor index was made from, and the settings are data alone.

    With a `base` it has to be an adapter in every file, without one a model.
    """
    headers, tensors = {}, {}
    for name in files:
        if is_weights(name):
            view = files[name]
            headers[name] = bytes(view[: header_size(view[:8], len(view))])
            tensors[name] = read_header(headers[name], len(view))
    actual = index_digest(headers)
    if actual != manifest.descriptor.tensor_index:
        expected = manifest.descriptor.tensor_index
        raise Mismatch("tensor index", expected=expected, actual=actual, code="tensor-index")
    settings = {name: view for name, view in files.items() if not is_weights(name)}
    check_meaning(settings, tensors, adapter=manifest.descriptor.base is not None)


def zero(view: memoryview) -> None:
    """Zero a buffer in place, without a second one of its size."""
    if len(view):
        anchor = (ctypes.c_char * len(view)).from_buffer(view)
        ctypes.memset(ctypes.addressof(anchor), 0, len(view))


def _map(manifest: Manifest) -> OpenedModel:
    files: dict[str, memoryview] = {}
    mappings: list[mmap.mmap] = []
    for file in manifest.descriptor.files:
        try:
            mapping = mmap.mmap(-1, file.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise Malformed(f"no memory for {file.name!r} of {file.size} bytes") from error
        with contextlib.suppress(OSError):  # an old kernel: the process forbids core dumps anyhow
            mapping.madvise(_MADV_DONTDUMP)
        mappings.append(mapping)
        files[file.name] = memoryview(mapping)
    return OpenedModel(files, tuple(mappings))


def _open_body(manifest: Manifest, body: Body, key: Secret, buffer: memoryview, fetch: Fetch) -> Iterator[int]:
    own = file_key(key.view(), manifest.digest, body.name)
    try:
        opener = BodyOpener(own, manifest.digest, body.name, buffer=buffer, digest=body.digest, wipe=zero)
    finally:
        own[:] = bytes(len(own))
    for piece in fetch(body.body):
        opener.update(piece)
        yield len(piece)
    opener.finish()
