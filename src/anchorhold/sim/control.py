"""The toy hypervisor's control: one line of JSON each way over a Unix socket that its owner alone can open."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

MAX_LINE = 262_144  # bytes; a list of a few hundred enclaves
TIMEOUT_SECONDS = 60.0  # starting an enclave on a loaded machine takes a few

Json = dict[str, object]
Handler = Callable[[Json], Awaitable[object]]


class ControlRefused(Exception):
    """The hypervisor refused the command; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ControlUnavailable(Exception):
    """No hypervisor answers at the control socket."""


async def serve(path: Path, handler: Handler) -> asyncio.AbstractServer:
    """Listen at `path`; every line goes to `handler`, which answers or raises ControlRefused."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            reply = await _answer(await reader.readline(), handler)
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except (ConnectionError, ValueError):
            return
        finally:
            writer.close()

    return await asyncio.start_unix_server(answer, sock=_listener(path), limit=MAX_LINE)


def call(path: Path, request: Json) -> object:
    """The answer to one command. Raises ControlRefused or ControlUnavailable."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                reply = json.loads(lines.readline(MAX_LINE))
    except (OSError, ValueError) as error:
        raise ControlUnavailable(f"no hypervisor answers at {str(path)!r}") from error
    if "error" in reply:
        raise ControlRefused(reply["error"]["code"], reply["error"]["message"])
    return reply["ok"]


def _listener(path: Path) -> socket.socket:
    """A socket that is listening and its owner's alone by the time `path` exists."""
    partial = path.with_name(f"{path.name}.new")
    partial.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(partial))
    partial.chmod(0o600)
    listener.listen()
    partial.replace(path)
    return listener


async def _answer(line: bytes, handler: Handler) -> Json:
    try:
        request = json.loads(line)
    except ValueError:
        request = None
    if not isinstance(request, dict):
        return {"error": {"code": "malformed", "message": "expected one line with one JSON object"}}
    try:
        return {"ok": await handler(request)}
    except ControlRefused as error:
        return {"error": {"code": error.code, "message": str(error)}}
