"""The hostile parent as a program: a gateway with real enclaves behind it that does one named thing to the bytes.

    python -m tests.attacks.hostile_parent --window PATH [--window OTHER] --attack truncate

Clients reach it as they reach a parent; it reaches the enclaves at their windows, as a parent does. What it does to a
request, to each frame of an answer and to evidence stands in `attacks.py`; without an attack it is honest.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import grpc
import grpc.aio

from anchorhold.parent.config import UnixWindow
from anchorhold.parent.gateway import HINT_METADATA, SERVICE
from anchorhold.parent.link import dial
from anchorhold.v1 import gateway_pb2 as pb
from anchorhold.wire.frames import Frame, unwrap_proto, wrap_proto
from anchorhold.wire.messages import Kind, pack_fields, unpack_fields

Evidence = dict[str, bytes]
WAIT_S = 30.0


class Cut(Exception):
    """Break the stream off with an error, where a plain end would say that all is well."""


class Attack:
    """Honest. Override one method; each sees what a parent sees."""

    def up(self, frames: list[bytes]) -> Iterable[bytes]:
        """What the enclave gets of a request."""
        return frames

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        """What the client gets for frame number `at` of the answer. Raise Cut to break off."""
        return (frame,)

    def after(self) -> Iterable[bytes]:
        """What the client gets when the enclave has ended its answer."""
        return ()

    def evidence(self, said: Evidence, others: Sequence[Evidence]) -> Evidence:
        """What the client gets as evidence; `others` is what the other enclaves say to the same nonce."""
        return said

    def enclave(self, count: int) -> int:
        """Which enclave gets the request."""
        return 0

    async def carry(self, window: Path, frames: Iterable[bytes]) -> list[bytes]:
        """The request to the enclave, the answer from it. Raises Hinted."""
        async with dial(UnixWindow(window)) as link:
            with suppress(OSError):  # an enclave that has refused reads no further
                for one in frames:
                    await link.write(Kind.INFER_FRAME, wrap_proto(one))
                await link.write(Kind.INFER_END)
            return await answer_of(link.read)


class Hinted(Exception):
    """The enclave's side refused outside any seal."""


class HostileParent:
    """The service `Gateway`, with the enclaves at these windows."""

    def __init__(self, windows: Sequence[Path], attack: Attack) -> None:
        self._windows, self._attack = tuple(windows), attack
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self._handler(),))
        self.requests: list[list[bytes]] = []
        """Each request as it came, frame by frame."""

    async def start(self, address: str = "127.0.0.1:0") -> str:
        """The address that clients reach."""
        port = self._server.add_insecure_port(address)
        await self._server.start()
        return f"{address.rpartition(':')[0]}:{port}"

    async def stop(self) -> None:
        await self._server.stop(None)

    async def wait(self) -> None:
        await self._server.wait_for_termination()

    async def attest(self, request: Any, context: Any) -> Any:
        said = [await ask_window(window, request.nonce) for window in self._windows]
        shown = self._attack.evidence(said[0], said[1:])
        return pb.AttestResponse(**shown)

    async def infer(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        frames = [unwrap_proto(one) async for one in messages]
        self.requests.append(frames)
        attack, window = self._attack, self._windows[self._attack.enclave(len(self._windows))]
        try:
            answer = await attack.carry(window, attack.up(frames))
            for at, frame in enumerate(answer):
                for shown in attack.down(at, frame):
                    yield wrap_proto(shown)
            for shown in attack.after():
                yield wrap_proto(shown)
        except Hinted as hint:
            await _abort(context, str(hint))
        except Cut:
            await _abort(context, "cut")

    def _handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Infer": grpc.stream_stream_rpc_method_handler(self.infer),
                "Attest": grpc.unary_unary_rpc_method_handler(
                    self.attest, pb.AttestRequest.FromString, pb.AttestResponse.SerializeToString
                ),
            },
        )


async def ask_window(window: Path, nonce: bytes) -> Evidence:
    """What the enclave says of itself to this nonce."""
    async with dial(UnixWindow(window)) as link, asyncio.timeout(WAIT_S):
        await link.write(Kind.ATTEST, pack_fields({"nonce": nonce, "configuration": b"\x01"}))
        frame = await link.read()
        assert frame is not None
        assert frame.kind == Kind.ATTESTED, frame.body[:64]
        return {"nonce_proof": b"", **unpack_fields(frame.body)}


async def answer_of(read: Callable[[], Awaitable[Frame | None]]) -> list[bytes]:
    """Every frame of one answer. Raises Hinted."""
    frames: list[bytes] = []
    async with asyncio.timeout(WAIT_S):
        while (said := await read()) is not None and said.kind != Kind.INFER_END:
            if said.kind == Kind.HINT:
                raise Hinted(said.body.decode("ascii", "replace"))
            frames.append(unwrap_proto(said.body))
    return frames


async def _abort(context: Any, code: str) -> NoReturn:
    context.set_trailing_metadata(((HINT_METADATA, code),))
    await context.abort(grpc.StatusCode.UNAVAILABLE, "as I please")
    raise AssertionError("abort raises")


async def _run(windows: Sequence[Path], attack: Attack, listen: str) -> None:
    parent = HostileParent(windows, attack)
    sys.stdout.write(f"{await parent.start(listen)}\n")
    sys.stdout.flush()
    await parent.wait()


def main() -> None:
    """Serves until it is ended; the first line on stdout is its address."""
    from tests.attacks.attacks import ATTACKS

    parser = argparse.ArgumentParser(description="A parent that does one named thing to the bytes.")
    parser.add_argument("--window", type=Path, action="append", required=True, help="an enclave's socket; repeatable")
    parser.add_argument("--attack", choices=["none", *sorted(ATTACKS)], default="none")
    parser.add_argument("--listen", default="127.0.0.1:0")
    asked = parser.parse_args()
    attack = Attack() if asked.attack == "none" else ATTACKS[asked.attack].make()
    asyncio.run(_run(asked.window, attack, asked.listen))


if __name__ == "__main__":
    main()
