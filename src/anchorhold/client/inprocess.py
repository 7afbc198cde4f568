"""What the transports share: OpenAI's API answered in this process, with no proxy and no socket but the client's own to
the gateway.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from anchorhold.client.openai_api.core import Api, Body, Broken, Reply
from anchorhold.client.openai_api.kept import Receipts
from anchorhold.client.sdk import DEFAULTS, AsyncClient, Settings
from anchorhold.client.trust import Trust, load_trust

MakeClient = Callable[[Trust], AsyncClient]


class TimedOut(Exception):
    """Nothing came within the time that the caller's HTTP client allows."""


class Cut(Exception):
    """The answer broke off; what came of it is provisional."""


class InProcess:
    """The API over one client, made at the first request: a client belongs to the event loop that uses it."""

    def __init__(
        self, trust: Trust | Path | str, *, settings: Settings = DEFAULTS, make_client: MakeClient = AsyncClient
    ) -> None:
        """Raises TrustFileInvalid."""
        self._trust = trust if isinstance(trust, Trust) else load_trust(trust)
        self._settings = settings
        self._make = make_client
        self._api: Api | None = None
        self._client: AsyncClient | None = None

    @property
    def receipts(self) -> Receipts:
        """The last receipts; those of an answer are named in its `anchorhold` member."""
        return Receipts() if self._api is None else self._api.receipts

    async def handle(
        self, method: str, path: str, body: bytes, tier: str | None = None, timeout_s: float | None = None
    ) -> Reply:
        """Raises TimedOut."""
        if self._api is None:
            self._client = self._make(self._trust)
            self._api = Api(self._client, self._trust, base=self._settings)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._api.handle(method, path, body, tier=tier)
        except TimeoutError as error:
            raise TimedOut(f"no answer within {timeout_s} s") from error

    async def close(self) -> None:
        """Idempotent."""
        client, self._client, self._api = self._client, None, None
        if client is not None:
            await client.close()


class Pieces:
    """A reply's body, piece by piece."""

    def __init__(self, reply: Reply, timeout_s: float | None) -> None:
        self._body = reply.body
        self._iterator: AsyncIterator[bytes] = aiter(reply.body) if isinstance(reply.body, Body) else _once(reply.body)
        self._timeout_s = timeout_s

    async def next(self) -> bytes | None:
        """None at the end. Raises TimedOut, and Cut where the answer broke."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await anext(self._iterator, None)
        except TimeoutError as error:
            await self.close()
            raise TimedOut(f"nothing more within {self._timeout_s} s") from error
        except Broken as error:
            raise Cut(f"the answer broke off: {error}") from error

    async def close(self) -> None:
        """Cancels what is still to come."""
        if isinstance(self._body, Body):
            await self._body.aclose()


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def read_timeout(extensions: Mapping[str, object]) -> float | None:
    """What the HTTP client allows between two pieces."""
    timeout = extensions.get("timeout")
    value = timeout.get("read") if isinstance(timeout, dict) else None
    return float(value) if isinstance(value, (int, float)) else None
