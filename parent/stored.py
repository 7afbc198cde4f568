"""Takes a newly sealed file from the enclave: ciphertext, written beside, synced, and named when it is whole.

Only into the folder of one resealing, only under names that sealed files have, and never over a file that is there.
What the bytes are worth is for whoever checks the manifest's signature.
"""

import asyncio
import os
import re
from pathlib import Path

from anchorhold.parent.health import Class, Event, Health
from anchorhold.parent.link import Link
from anchorhold.wire.frames import FrameError
from anchorhold.wire.messages import MAX_NAME, Kind, require_fields

MAX_SIZE = 1 << 40  # bytes of one sealed file; the disk's end comes before
_PLACES = {"manifest": "signed/manifest"}  # alone in its folder, as it will be signed
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,%d}" % (MAX_NAME - 1))


class Stored:
    """PUT of one connection after another. One folder, one writer: the enclave puts one file at a time."""

    def __init__(self, folder: Path, health: Health) -> None:
        self._folder, self._health = folder, health

    async def take(self, link: Link, body: bytes) -> None:
        """One file; a refusal leaves nothing behind. Raises EOFError where the enclave breaks off."""
        asked = _asked(body)
        target = None if asked is None else self._folder / _PLACES.get(asked[0], asked[0])
        if asked is None or target is None or target.exists():
            await self._refuse(link, b"name-or-size")
            return
        beside = target.with_name(f".{target.name}.new")
        try:
            target.parent.mkdir(exist_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError:
            await self._refuse(link, b"disk")
            return
        try:
            await link.frames_out.write(Kind.STORING)
            whole = await self._write(link, descriptor, asked[1])
        finally:
            os.close(descriptor)
        if whole:
            beside.rename(target)
            self._health.event(Event.BLOB_STORED, size=asked[1])
            await link.frames_out.write(Kind.STORED)
        else:
            beside.unlink(missing_ok=True)
            await self._refuse(link, b"disk")

    async def _write(self, link: Link, descriptor: int, size: int) -> bool:
        """Whether all of it is on disk. A full disk is read to the end all the same, so that the refusal arrives."""
        left, holds = size, True
        while (frame := await link.frames_in.read()) is not None:
            if frame.kind == Kind.END and left == 0:
                return holds and await asyncio.to_thread(_synced, descriptor)
            if frame.kind != Kind.CHUNK or not 0 < len(frame.body) <= left:
                raise EOFError(f"a sealed file: expected {left} more bytes and then the end")
            left -= len(frame.body)
            self._health.count(Class.SEALED, len(frame.body))
            holds = holds and await asyncio.to_thread(_written, descriptor, frame.body)
        raise EOFError(f"a sealed file: cut with {left} of {size} bytes to come")

    async def _refuse(self, link: Link, code: bytes) -> None:
        self._health.event(Event.BLOB_REFUSED)
        await link.frames_out.write(Kind.REFUSED, code)


def _asked(body: bytes) -> tuple[str, int] | None:
    try:
        fields = require_fields(body, "name", "size")
    except FrameError:
        return None
    name, digits = fields["name"], fields["size"]
    if _NAME.fullmatch(name) is None or not digits.isdigit() or len(digits) > len(str(MAX_SIZE)):
        return None
    size = int(digits)
    return (name.decode("ascii"), size) if size <= MAX_SIZE else None


def _written(descriptor: int, content: bytes) -> bool:
    view = memoryview(content)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        return False
    return True


def _synced(descriptor: int) -> bool:
    try:
        os.fsync(descriptor)
    except OSError:
        return False
    return True
