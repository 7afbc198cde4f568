"""`Attest` per second at the window, alone and batched: a real server, real documents, callers who wait for each other.

The toy module signs with P-384 in this process, in about a millisecond of CPU; a real one is a device behind a driver
and takes longer, so a second pair of lines has one that takes MODULE_S beside. What a batch costs the caller is the
path: hashing it is the last line.
"""

import asyncio
import contextlib
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from bench.common import Limit, Line, interleaved, median_line, microseconds, note, ratio_line

from anchorhold.attestation.channel.nonces import MAX_BATCH, batch, bound_nonce
from anchorhold.enclave.phases import Phases
from anchorhold.enclave.serve.egress import Ledger
from anchorhold.enclave.serve.server import Offer, Server
from anchorhold.sim.loopback import OWNER, START, LoopbackEnclave
from anchorhold.sim.pki import SimulatedPki
from anchorhold.wire.frames import FrameReader, FrameWriter
from anchorhold.wire.messages import Kind, pack_fields

ROUNDS = 5
CALLERS = 64  # at a time
EACH = 2  # times each asks in one round
MODULE_S = 0.01  # assumed for a device; nobody here has one to measure
CHECKS = 2_000
NO_SLOWER = Limit("at least", 1.0)  # where the module costs no more than the connection
WORTH_IT = Limit("at least", 4.0)
ALONE, TOGETHER = "one document each", f"up to {MAX_BATCH} callers a document"


class _Device:
    """The toy module, with the time that a device would take on top."""

    def __init__(self, enclave: LoopbackEnclave, seconds: float) -> None:
        self._enclave, self._seconds, self._never = enclave, seconds, threading.Event()

    def attest(self, *, user_data: bytes, nonce: bytes) -> bytes:
        if self._seconds:
            self._never.wait(self._seconds)
        return self._enclave.nsm.attest(user_data=user_data, nonce=nonce)


def run() -> list[Line]:
    """The toy module first, then one that takes its time."""
    note(f"attest: {CALLERS} callers at a time, {CALLERS * EACH} answers a round, {ROUNDS} rounds")
    with tempfile.TemporaryDirectory(prefix="ah-") as scratch:
        lines = [
            *_pair(Path(scratch), "toy module", 0.0, NO_SLOWER),
            *_pair(Path(scratch), f"module of {MODULE_S * 1000:.0f} ms", MODULE_S, WORTH_IT),
        ]
    return [*lines, _path()]


def _pair(scratch: Path, name: str, seconds: float, limit: Limit) -> list[Line]:
    cases: Mapping[str, Callable[[], float]] = {
        label: _case(scratch / f"{seconds}-{most}", seconds, most)
        for label, most in ((ALONE, 1), (TOGETHER, MAX_BATCH))
    }
    rates = interleaved(cases, ROUNDS)
    return [
        *(median_line(f"Attest, {name}, {label}", rates[label], "per s") for label in cases),
        ratio_line(f"Attest, {name}, together / alone", rates[TOGETHER], rates[ALONE], limit),
    ]


def _case(path: Path, seconds: float, most: int) -> Callable[[], float]:
    enclave = LoopbackEnclave(SimulatedPki.create(START))
    return lambda: asyncio.run(_round(path, _Device(enclave, seconds), enclave, most))


async def _round(path: Path, device: _Device, enclave: LoopbackEnclave, most: int) -> float:
    async with _served(path, device, enclave, most):
        began = time.perf_counter()
        await asyncio.gather(*(_caller(path) for _ in range(CALLERS)))
        return CALLERS * EACH / (time.perf_counter() - began)


@contextlib.asynccontextmanager
async def _served(path: Path, device: _Device, enclave: LoopbackEnclave, most: int) -> AsyncIterator[None]:
    offer = Offer(device, enclave.raw_configuration, enclave.gate.leases, frozenset({OWNER}), most)
    server = Server(enclave.service, offer, Phases(), Ledger(), on_shutdown=lambda: None)
    await server.start(_listener(path), greets=False)
    try:
        yield
    finally:
        await server.stop()


def _listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(CALLERS)
    return listener


async def _caller(path: Path) -> None:
    for _ in range(EACH):
        reader, writer = await asyncio.open_unix_connection(path)
        out = FrameWriter(writer)
        await out.write(Kind.ATTEST, pack_fields({"nonce": secrets.token_bytes(32), "configuration": b""}))
        answer = await FrameReader(reader).read()
        if answer is None or answer.kind != Kind.ATTESTED:
            raise RuntimeError(f"expected evidence, got {answer}")
        await out.close()


def _path() -> Line:
    nonces = [secrets.token_bytes(32) for _ in range(MAX_BATCH)]
    proof = batch(nonces).proofs[0]
    check = microseconds(lambda: bound_nonce(nonces[0], proof), CHECKS)
    return median_line(
        f"a caller's path in a batch of {MAX_BATCH} ({len(proof)} bytes)", [check() for _ in range(ROUNDS)], "us CPU"
    )
