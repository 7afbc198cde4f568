"""One exchange between a client's stream and the window: opaque bodies both ways, the kernel's flow control between.

What a body holds is nobody's business here. A client that goes takes its connection to the window with it, so the
enclave stops generating.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from anchorhold.parent.config import UnixWindow, VsockWindow
from anchorhold.parent.health import Class, Health
from anchorhold.parent.link import Unreachable, WindowLink, dial
from anchorhold.wire.frames import Frame, FrameError
from anchorhold.wire.messages import Kind, pack_fields, unpack_fields

# For one document, a farewell, or the first frame of an answer once the whole request was handed over: an enclave that
# hangs holds no client, and no parent, for ever.
ANSWER_S = 30.0
STATUS_S = 5.0  # for the phase, which an enclave says of itself at once
KEY_ID_BYTES = 16
MAX_KEY_IDS = 64  # of one enclave; epochs overlap for a minute
_EVIDENCE = frozenset({"document", "statement", "owner_lease", "kms_lease", "configuration"})
NONCE_PROOF = "nonce_proof"


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
        self.key_ids: frozenset[bytes] = frozenset()
        """Under which it takes new requests, by its own word when it was last asked."""

    async def infer(self, frames: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Serialized frames in, serialized frames out. Raises Unreachable, Hint, Cut, OSError or FrameError."""
        async with dial(self._window) as link:
            self._health.exchanges += 1
            up = asyncio.create_task(self._upload(frames, link))
            try:
                async for body in self._answer(link, up):
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
            return _evidence(frame.body)

    async def status(self) -> bool:
        """Whether an enclave answers at the window; its key ids are kept. Raises Unreachable, OSError or FrameError."""
        try:
            async with dial(self._window) as link:
                frame = await self._one_answer(link, Kind.STATUS, within_s=min(STATUS_S, self._answer_s))
        except Unreachable:
            self.key_ids = frozenset()
            raise
        self._count_status(frame)
        if frame is None or frame.kind != Kind.STATUS_IS:
            return False
        self.key_ids = _key_ids(unpack_fields(frame.body).get("key_ids", b""))
        return True

    async def shutdown(self) -> None:
        """Ask the enclave to close its transcript and end. Raises Unreachable, OSError or FrameError."""
        async with dial(self._window) as link:
            self._count_status(await self._one_answer(link, Kind.SHUTDOWN))

    async def _upload(self, frames: AsyncIterator[bytes], link: WindowLink) -> None:
        async for body in frames:
            self._health.count(Class.REQUEST, len(body))
            await link.write(Kind.INFER_FRAME, body)
        await link.write(Kind.INFER_END)

    async def _answer(self, link: WindowLink, up: "asyncio.Task[None]") -> AsyncIterator[bytes]:
        frame = await self._first(link, up)
        while True:
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
            frame = await link.read()

    async def _first(self, link: WindowLink, up: "asyncio.Task[None]") -> Frame | None:
        """Raises Cut where nothing comes in time. How long the client takes to send its request is the client's."""
        first = asyncio.create_task(link.read())
        try:
            await asyncio.wait({first, up}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({first}, timeout=self._answer_s)
            if not first.done():
                raise Cut
            return first.result()
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    async def _one_answer(
        self, link: WindowLink, kind: Kind, body: bytes = b"", *, within_s: float | None = None
    ) -> Frame | None:
        """Raises OSError (TimeoutError among them) or FrameError."""
        async with asyncio.timeout(self._answer_s if within_s is None else within_s):
            await link.write(kind, body)
            return await link.read()

    def _count_status(self, frame: Frame | None) -> None:
        if frame is not None and frame.kind == Kind.STATUS_IS:
            self._health.count(Class.STATUS, len(frame.body))

    def _hint(self, body: bytes) -> Hint:
        self._health.count(Class.HINT, len(body))
        return Hint(hint_code(body))


def _evidence(body: bytes) -> dict[str, bytes]:
    """What ATTESTED must hold, and the nonce's path where the enclave shared its document. Raises FrameError."""
    fields = unpack_fields(body)
    if fields.keys() - {NONCE_PROOF} != _EVIDENCE:
        raise FrameError(f"expected fields {sorted(_EVIDENCE)}, got {sorted(fields)}")
    return {NONCE_PROOF: b"", **fields}


def _key_ids(raw: bytes) -> frozenset[bytes]:
    """Raises FrameError."""
    if len(raw) % KEY_ID_BYTES or len(raw) > MAX_KEY_IDS * KEY_ID_BYTES:
        raise FrameError(f"key ids: expected at most {MAX_KEY_IDS} of {KEY_ID_BYTES} bytes, got {len(raw)} bytes")
    return frozenset(raw[at : at + KEY_ID_BYTES] for at in range(0, len(raw), KEY_ID_BYTES))


def hint_code(body: bytes) -> str:
    """A code fit for a header of gRPC: short, lower-case letters, digits and hyphens; anything else is `malformed`."""
    text = body.decode("ascii", "replace")
    plain = len(text) <= 64 and text.replace("-", "").isalnum() and text.isascii() and text.lower() == text
    return text if plain else "malformed"
