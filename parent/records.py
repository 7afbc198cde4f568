"""The log, as the parent reaches it: records go there as opaque bodies, its files come back read through.

A failed append is not tried again here: the enclave knows what its log has, and asks again itself.
"""

import asyncio
import http.client
import re
from concurrent.futures import ThreadPoolExecutor

from anchorhold.parent.config import Address
from anchorhold.parent.health import Class, Event, Health
from anchorhold.parent.link import Link
from anchorhold.wire.frames import MAX_BODY
from anchorhold.wire.messages import Kind

TIMEOUT_S = 30.0
THREADS = 4  # of one client: whoever reads slowly through one holds up no other, and no file of the enclave's
MAX_FILE = 64 << 20  # bytes; an attachment is at most a window frame, a full tile 8 KiB
MAX_PATH = 256
OK, NOT_FOUND = 200, 404
_PUBLIC = re.compile(r"checkpoint|policy\.tlog|(tile|cas)(/[A-Za-z0-9][A-Za-z0-9._-]*){1,8}")


class LogUnreachable(Exception):
    """No answer from the log."""


class LogClient:
    """HTTP/1.1 by the standard library, one connection a request, in threads of its own."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._threads = ThreadPoolExecutor(THREADS, "log")

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body. Raises LogUnreachable."""
        return await self._in_thread("POST", path, body)

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body. Raises LogUnreachable."""
        return await self._in_thread("GET", path, b"")

    async def _in_thread(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._exchange, method, path, body)

    def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._address.host, self._address.port, timeout=TIMEOUT_S)
        try:
            headers = {"Content-Type": "application/cbor"} if body else {}
            connection.request(method, path, body=body or None, headers=headers)
            answer = connection.getresponse()
            content = answer.read(MAX_FILE + 1)
        except (OSError, http.client.HTTPException) as error:
            raise LogUnreachable("the log does not answer") from error
        finally:
            connection.close()
        if len(content) > MAX_FILE:
            raise LogUnreachable(f"the log sent more than {MAX_FILE} bytes")
        return answer.status, content


class Records:
    """Port 9004: APPEND and CHECKPOINT."""

    def __init__(self, log: LogClient, health: Health) -> None:
        self._log, self._health = log, health

    async def handle(self, link: Link) -> None:
        """One request after another on a connection the enclave keeps."""
        while (frame := await link.frames_in.read()) is not None:
            self._health.count(Class.RECORDS, len(frame.body))
            kind, body = await self._answer(frame.kind, frame.body)
            self._health.count(Class.RECORDS_IN, len(body))
            await link.frames_out.write(kind, body)

    async def _answer(self, kind: int, body: bytes) -> tuple[Kind, bytes]:
        try:
            if kind == Kind.APPEND:
                status, answer = await self._log.post("/append", body)
            elif kind == Kind.CHECKPOINT:
                status, answer = await self._log.get("/checkpoint")
                if status == NOT_FOUND:
                    return Kind.APPENDED, b""
            else:
                return Kind.REFUSED, b"unknown-kind"
        except LogUnreachable:
            self._health.event(Event.LOG_UNREACHABLE)
            return Kind.REFUSED, b"log-unreachable"
        if status != OK or len(answer) > MAX_BODY:
            self._health.event(Event.LOG_REFUSED, status=status)
            return Kind.REFUSED, f"log-{status}".encode()
        return Kind.APPENDED, answer


def public_path(path: str) -> bool:
    """Whether `path` may be read through: files of the log's tree and store, with no way out of them."""
    return len(path) <= MAX_PATH and _PUBLIC.fullmatch(path) is not None
