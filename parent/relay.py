"""One exchange between a client's stream and the window: opaque bodies both ways, the kernel's flow control between.

What a body holds is nobody's business here. A client that goes takes its connection to the window with it, so the
enclave stops generating.
"""

import asyncio
from collections.abc import AsyncIterator

from anchorhold.parent.config import UnixWindow, VsockWindow
from anchorhold.parent.health import Class, Health
from anchorhold.parent.link import WindowLink, dial
from anchorhold.wire.frames import Frame
from anchorhold.wire.messages import Kind, pack_fields, require_fields

ANSWER_S = 30.0  # for one document, phase or farewell; an enclave that hangs holds no client, and no parent, for ever


class Hint(Exception):
    """The enclave's side answered with a code outside any seal; nobody vouches for it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Cut(Exception):
    """The enclave's side ended without saying that the answer is complete."""


class Relay:
    """Exchanges with one enclave."""

    def __init__(self, window: UnixWindow | VsockWindow, health: Health, answer_s: float = ANSWER_S) -> None:
        self._window, self._health, self._answer_s = window, health, answer_s

    async def infer(self, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Serialized frames in, serialized frames out. Raises Unreachable, Hint, Cut, OSError or FrameError."""
        async with dial(self._window) as link:
            self._health.exchanges += 1
            up = asyncio.create_task(self._upload(frames, link))
            try:
                async for body in self._answer(link):
                    yield body
            finally:
                up.cancel()
                await asyncio.gather(up, return_exceptions=True)

    async def attest(self, nonce: bytes, *, with_configuration: bool) -> dict[str, bytes]:
        """The fields of ATTESTED. Raises Unreachable, Hint, Cut, OSError or FrameError."""
        body = pack_fields({"nonce": nonce, "configuration": b"\x01" if with_configuration else b""})
        async with dial(self._window) as link:
            self._health.count(Class.NONCE, len(body))
            frame = await self._one_answer(link, Kind.ATTEST, body)
            if frame is None or frame.kind not in {Kind.ATTESTED, Kind.HINT}:
                raise Cut
            if frame.kind == Kind.HINT:
                raise self._hint(frame.body)
            self._health.count(Class.EVIDENCE, len(frame.body))
            return require_fields(frame.body, "document", "statement", "owner_lease", "kms_lease", "configuration")

    async def status(self) -> bool:
        """Whether an enclave answers at the window. Raises Unreachable, OSError or FrameError."""
        async with dial(self._window) as link:
            frame = await self._one_answer(link, Kind.STATUS)
            return frame is not None and frame.kind == Kind.STATUS_IS

    async def shutdown(self) -> None:
        """Ask the enclave to close its transcript and end. Raises Unreachable, OSError or FrameError."""
        async with dial(self._window) as link:
            await self._one_answer(link, Kind.SHUTDOWN)

    async def _upload(self, frames: AsyncIterator[bytes], link: WindowLink) -> None:
        async for body in frames:
            self._health.count(Class.REQUEST, len(body))
            await link.write(Kind.INFER_FRAME, body)
        await link.write(Kind.INFER_END)

    async def _answer(self, link: WindowLink) -> AsyncIterator[bytes]:
        while True:
            frame = await link.read()
            if frame is None:
                raise Cut
            if frame.kind == Kind.INFER_FRAME:
                self._health.count(Class.RESPONSE, len(frame.body))
                yield frame.body
            elif frame.kind == Kind.INFER_END:
                return
            elif frame.kind == Kind.HINT:
                raise self._hint(frame.body)
            else:
                raise Cut

    async def _one_answer(self, link: WindowLink, kind: Kind, body: bytes = b"") -> Frame | None:
        """Raises OSError (TimeoutError among them) or FrameError."""
        async with asyncio.timeout(self._answer_s):
            await link.write(kind, body)
            return await link.read()

    def _hint(self, body: bytes) -> Hint:
        self._health.count(Class.HINT, len(body))
        return Hint(hint_code(body))


def hint_code(body: bytes) -> str:
    """A code fit for a header of gRPC: short, lower-case letters, digits and hyphens; anything else is `malformed`."""
    text = body.decode("ascii", "replace")
    plain = len(text) <= 64 and text.replace("-", "").isalnum() and text.isascii() and text.lower() == text
    return text if plain else "malformed"
