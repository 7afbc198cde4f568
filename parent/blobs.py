"""Files for the enclave, by name: sealed chunks, the deployment configuration, purposes, credentials. All ciphertext or
public, but for the credentials, which select a caller and decide nothing.

Below a folder that the operator named no link is followed, at no component of a path.
"""

import asyncio
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from anchorhold.parent.health import Class, Event, Health
from anchorhold.parent.link import Link
from anchorhold.parent.stored import Stored
from anchorhold.wire.frames import MAX_BODY
from anchorhold.wire.messages import MAX_NAME, Kind, pack_fields

MANIFEST = Path("signed/manifest")
ADAPTER = b"adapter/"
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,%d}" % (MAX_NAME - 1))
_DIGEST = re.compile(rb"[0-9a-f]{96}")  # upper case would be a second name of one adapter
# NONBLOCK: a pipe put there must not hold a thread before fstat sees what it is.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Refused(Exception):
    """No such file for the enclave."""


class Blobs:
    """Port 9003: FETCH by name out of the sealed folder; PUT into another, where a model is being sealed anew.

    `adapters`: each in a folder named by its digest, for names `adapter/HEX/NAME`.
    """

    def __init__(self, folder: Path, health: Health, out: Path | None = None, adapters: Path | None = None) -> None:
        self._folder, self._adapters, self._health = folder, adapters, health
        self._stored = None if out is None else Stored(out, health)

    async def handle(self, link: Link) -> None:
        """One blob after another, as long as the enclave asks."""
        while (frame := await link.frames_in.read()) is not None:
            self._health.count(Class.CONTROL, len(frame.body))
            if frame.kind == Kind.PUT and self._stored is not None:
                await self._stored.take(link, frame.body)
                continue
            name = frame.body if frame.kind == Kind.FETCH else b""
            try:
                descriptor = await asyncio.to_thread(self._open, name)
            except Refused:
                self._health.event(Event.BLOB_REFUSED)
                await link.frames_out.write(Kind.REFUSED, b"unknown-blob")
                continue
            try:
                await self._send(link, descriptor)
            finally:
                os.close(descriptor)

    def _open(self, name: bytes) -> int:
        if not name.startswith(ADAPTER):
            return open_blob(self._folder, name)
        if self._adapters is None:
            raise Refused
        return open_adapter_blob(self._adapters, name)

    async def _send(self, link: Link, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        await link.frames_out.write(Kind.SIZE, pack_fields({"size": str(size).encode()}))
        left = size
        # No more than was announced, even where the file grows meanwhile; a file that shrinks ends the connection.
        while left and (chunk := await asyncio.to_thread(os.read, descriptor, min(left, MAX_BODY))):
            left -= len(chunk)
            self._health.count(Class.BLOBS, len(chunk))
            await link.frames_out.write(Kind.CHUNK, chunk)
        if left:
            raise EOFError("the blob became shorter while it was sent")
        await link.frames_out.write(Kind.END)


class BootFiles:
    """Port 9001: GET of the files named here, read anew each time, because credentials rotate and tickets end.

    A name without a file has no bytes.
    """

    def __init__(self, files: Mapping[str, Path | None], health: Health) -> None:
        self._files, self._health = files, health

    async def handle(self, link: Link) -> None:
        """One file after another, each at most one frame."""
        while (frame := await link.frames_in.read()) is not None:
            self._health.count(Class.CONTROL, len(frame.body))
            try:
                raw = await asyncio.to_thread(self._read, frame.kind, frame.body)
            except Refused:
                self._health.event(Event.BOOT_REFUSED)
                await link.frames_out.write(Kind.REFUSED, b"unknown-name")
                continue
            self._health.count(Class.BOOT, len(raw))
            await link.frames_out.write(Kind.GOT, raw)

    def _read(self, kind: int, name: bytes) -> bytes:
        known = name.decode("ascii", "replace")
        if kind != Kind.GET or known not in self._files:
            raise Refused
        path = self._files[known]
        if path is None:
            return b""
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BODY + 1)
        except OSError as error:
            raise Refused from error
        if len(raw) > MAX_BODY:
            raise Refused
        return raw


def open_blob(folder: Path, name: bytes) -> int:
    """A descriptor of a regular file directly in `folder`; `manifest` lies alone in `signed/`. Raises Refused."""
    with _folder(folder) as inside:
        return _open_in(inside, name)


def open_adapter_blob(adapters: Path, name: bytes) -> int:
    """The same for `adapter/HEX/NAME`, in the folder HEX of `adapters`. Raises Refused."""
    digest, _, rest = name.removeprefix(ADAPTER).partition(b"/")
    if len(name) > MAX_NAME or not name.startswith(ADAPTER) or _DIGEST.fullmatch(digest) is None:
        raise Refused
    with _folder(adapters) as above, _folder(digest, above) as inside:
        return _open_in(inside, rest)


def _open_in(folder: int, name: bytes) -> int:
    if _NAME.fullmatch(name) is None:
        raise Refused
    if name == b"manifest":
        with _folder(MANIFEST.parent, folder) as signed:
            return _regular(signed, name)
    return _regular(folder, name)


def _regular(folder: int, name: bytes) -> int:
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        raise Refused from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused
    return descriptor


@contextmanager
def _folder(path: Path | bytes, within: int | None = None) -> Iterator[int]:
    """A folder: the one that the operator named, by link or not, or one `within` it, which is no link."""
    try:
        descriptor = os.open(path, _FOLDER if within is None else _FOLDER | os.O_NOFOLLOW, dir_fd=within)
    except OSError as error:
        raise Refused from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
