"""Sealed chunks from the parent: all of them in order, one received ahead, and every way of breaking off is typed."""

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from anchorhold.enclave.parent_ports import fetch_ahead
from anchorhold.enclave.serve.transport import UnixWindow, WindowError
from anchorhold.wire import frames
from anchorhold.wire.messages import Kind, Port, pack_fields

CHUNKS = [bytes([number]) * 1000 for number in range(5)]


class Blobs:
    """A parent that answers one FETCH with the given frames and then closes."""

    def __init__(self, window: Path) -> None:
        self.window = UnixWindow(window)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(f"{window}_{int(Port.BLOBS)}")
        self._listener.listen()

    def answer(self, size: int, chunks: Sequence[bytes], *, end: bool = True) -> threading.Thread:
        thread = threading.Thread(target=self._answer, args=(size, chunks, end))
        thread.start()
        return thread

    def _answer(self, size: int, chunks: Sequence[bytes], end: bool) -> None:
        stream, _ = self._listener.accept()
        with stream, contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a caller may stop early
            frames.read_frame(stream)
            stream.sendall(frames.encode(Kind.SIZE, pack_fields({"size": str(size).encode()})))
            for chunk in chunks:
                stream.sendall(frames.encode(Kind.CHUNK, chunk))
            if end:
                stream.sendall(frames.encode(Kind.END))

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[Blobs]:
    made = Blobs(tmp_path / "w")
    yield made
    made.close()


def test_every_chunk_comes_in_order(blobs: Blobs) -> None:
    parent = blobs.answer(5000, CHUNKS)
    assert list(fetch_ahead(blobs.window, "model")) == CHUNKS
    parent.join()


def test_an_empty_file_has_no_chunk(blobs: Blobs) -> None:
    parent = blobs.answer(0, [])
    assert list(fetch_ahead(blobs.window, "model")) == []
    parent.join()


@pytest.mark.parametrize(
    ("size", "chunks", "end"),
    [(5000, CHUNKS[:4], False), (5000, CHUNKS[:4], True), (4000, CHUNKS, True), (1 << 41, [], True)],
    ids=["cut", "short", "long", "absurd"],
)
def test_what_was_announced_is_what_comes_or_it_is_refused(
    blobs: Blobs, size: int, chunks: Sequence[bytes], end: bool
) -> None:
    parent = blobs.answer(size, chunks, end=end)
    with pytest.raises(WindowError):
        list(fetch_ahead(blobs.window, "model"))
    parent.join()


def test_a_caller_that_stops_leaves_no_thread(blobs: Blobs) -> None:
    before = set(threading.enumerate())
    parent = blobs.answer(5000, CHUNKS)
    pieces = fetch_ahead(blobs.window, "model")
    assert next(pieces) == CHUNKS[0]
    pieces.close()  # type: ignore[attr-defined]  # an iterator by type, a generator in fact
    parent.join()
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("fetch")]
