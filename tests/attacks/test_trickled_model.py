"""A parent that lets the model through byte by byte holds neither key nor plaintext past the lease (DESIGN 5, End)."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cell import PATIENCE_S, Base, Cells, wait_until
from tests.e2e.conftest import SHORT_LEASE_MS

from anchorhold.attestation.transcript.bodies import Death, KeyLease
from anchorhold.enclave.backstop import LETTING_GO_S, OFFER_S
from anchorhold.parent.blobs import Refused, open_blob
from anchorhold.wire import frames
from anchorhold.wire.frames import FrameReader, FrameWriter
from anchorhold.wire.messages import Kind, Port, pack_fields

from .hostile import Wire

pytestmark = pytest.mark.slow
SLACK_S = 15.0  # processes on a machine that stalls; the model would take hours
STEP_S = 0.5  # between two bytes: far below every timeout of a single read


class Trickle:
    """The BLOBS port of a window, taken over from its parent: honest but for weights, of which a frame never ends."""

    def __init__(self, window: Path, folder: Path) -> None:
        self.path, self.folder = Path(f"{window}_{int(Port.BLOBS)}"), folder
        self.trickling, self._over = threading.Event(), threading.Event()
        # At no moment does nobody listen: the enclave may be on its way here.
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        beside = self.path.with_name("blobs")
        self._listener.bind(str(beside))
        self._listener.listen()
        beside.replace(self.path)
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join(5)

    async def _serve(self) -> None:
        server = await asyncio.start_unix_server(self._accept, sock=self._listener)
        await asyncio.to_thread(self._over.wait)
        server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            asked, out = FrameReader(reader), FrameWriter(writer)
            while (frame := await asked.read()) is not None:
                await self._answer(frame.body, out, writer)

    async def _answer(self, name: bytes, out: FrameWriter, writer: asyncio.StreamWriter) -> None:
        try:
            descriptor = open_blob(self.folder, name)
        except Refused:
            return await out.write(Kind.REFUSED, b"unknown-blob")
        with os.fdopen(descriptor, "rb") as file:
            whole = file.read()
        await out.write(Kind.SIZE, pack_fields({"size": str(len(whole)).encode()}))
        if b".safetensors" in name:
            self.trickling.set()
            for byte in frames.encode(Kind.CHUNK, whole[: frames.MAX_BODY]):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(STEP_S)
        for at in range(0, len(whole), frames.MAX_BODY):
            await out.write(Kind.CHUNK, whole[at : at + frames.MAX_BODY])
        return await out.write(Kind.END)


@pytest.fixture
def wire(base: Base) -> Iterator[Wire]:
    made = Wire(base.config["egress"]["owner"])
    yield made
    made.close()


def test_a_model_that_never_finishes_loading_is_let_go_of_with_the_lease(base: Base, cells: Cells, wire: Wire) -> None:
    wire.hold(after=0)  # without the owner's share nothing is loaded before the port is taken over
    cell = cells.start(egress={"owner": wire.address})
    trickle = Trickle(cell.window, Path(base.config["sealed"]))
    try:
        wire.pass_all()
        assert trickle.trickling.wait(PATIENCE_S), cell.console()
        wire.hold(after=0)
        wait_until("the lease in the log", lambda: any(isinstance(body, KeyLease) for body in cell.bodies()))
        assert cell.ended(SHORT_LEASE_MS / 1000 + LETTING_GO_S + OFFER_S + SLACK_S) == 3
    finally:
        trickle.close()
    death = cell.bodies()[-1]
    assert isinstance(death, Death)
    assert (death.reason, death.source, death.last_token_ms) == ("lease-ended", "owner", None)
