"""Several processes behind one listening socket. One that dies is started again; a signal ends all.

A worker shares nothing with its siblings but the socket, the state folder and the database: what must be one for all
is there. Workers end with their supervisor, also when it is killed.
"""

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

MAX_WORKERS = 64
PAUSE_SECONDS = 1.0  # before a worker that died young is started again: a broken state must not spin
YOUNG_SECONDS = 5.0
MAX_YOUNG_DEATHS = 10  # in a row, over all workers: then what is wrong is not the worker
END_SECONDS = 10.0  # for a graceful end; then SIGKILL
_CONTEXT = multiprocessing.get_context("spawn")  # a fork would copy open databases and sessions of a token

Serve = Callable[[socket.socket], None]
Tell = Callable[[str], None]


class WorkersFailed(Exception):
    """Workers die as fast as they are started."""


def supervise(serve: Serve, listener: socket.socket, count: int, tell: Tell) -> None:
    """Run `count` processes of `serve` until SIGTERM or SIGINT. Raises WorkersFailed. `serve` crosses processes, so it
    is a function of a module, or a partial of one.
    """
    lifeline, held = _CONTEXT.Pipe(duplex=False)
    workers: list[tuple[SpawnProcess, float]] = []
    with _stop_signals() as stop:
        try:
            workers += [_start(serve, listener, lifeline) for _ in range(count)]
            _keep(workers, stop, lambda: _start(serve, listener, lifeline), tell)
        finally:
            _end([worker for worker, _ in workers])
            held.close()
            lifeline.close()


def _keep(
    workers: list[tuple[SpawnProcess, float]],
    stop: Connection,
    start: Callable[[], tuple[SpawnProcess, float]],
    tell: Tell,
) -> None:
    young = 0
    while stop not in wait([stop, *(worker.sentinel for worker, _ in workers)]):
        for index, (worker, since) in enumerate(workers):
            if worker.is_alive():
                continue
            tell(f"worker {worker.pid} ended ({_end_of(worker)}) and is started again")
            died_young = time.monotonic() - since < YOUNG_SECONDS
            young = young + 1 if died_young else 0
            if young >= MAX_YOUNG_DEATHS:
                raise WorkersFailed(f"{young} workers in a row ended within {YOUNG_SECONDS:.0f} s")
            if died_young and stop.poll(PAUSE_SECONDS):
                return
            workers[index] = start()


def _start(serve: Serve, listener: socket.socket, lifeline: Connection) -> tuple[SpawnProcess, float]:
    worker = _CONTEXT.Process(target=_work, args=(serve, listener, lifeline), daemon=True)
    worker.start()
    return worker, time.monotonic()


def _work(serve: Serve, listener: socket.socket, lifeline: Connection) -> None:
    threading.Thread(target=_follow, args=(lifeline,), daemon=True).start()
    serve(listener)


def _follow(lifeline: Connection) -> None:
    """Nothing is ever sent: the pipe becomes readable when the supervisor is gone."""
    wait([lifeline])
    os.kill(os.getpid(), signal.SIGTERM)


def _end(workers: list[SpawnProcess]) -> None:
    for worker in workers:
        worker.terminate()
    until = time.monotonic() + END_SECONDS
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))
        if worker.is_alive():
            worker.kill()
            worker.join()


@contextmanager
def _stop_signals() -> Iterator[Connection]:
    """Becomes readable when SIGTERM or SIGINT comes."""
    reader, writer = _CONTEXT.Pipe(duplex=False)
    before = {
        number: signal.signal(number, lambda *_: writer.send_bytes(b"")) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()


def _end_of(worker: SpawnProcess) -> str:
    code = worker.exitcode
    return f"signal {-code}" if code is not None and code < 0 else f"exit {code}"
