"""Newly sealed files on their way to disk: whole under their name or not there, and never over one that is."""

import asyncio
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorhold.enclave.parent_ports import store
from anchorhold.enclave.serve.transport import UnixWindow, WindowError
from anchorhold.parent.blobs import Blobs
from anchorhold.parent.config import UnixWindow as ParentWindow
from anchorhold.parent.health import Health
from anchorhold.parent.link import listen
from anchorhold.wire.messages import Port

PIECES = [b"a" * 700_000, b"b" * 3, b"c" * 2_000_000]
SIZE = sum(len(piece) for piece in PIECES)


class Parent:
    """A real BLOBS port in a thread of its own."""

    def __init__(self, window: Path, out: Path | None) -> None:
        self.window, self.out = UnixWindow(window), out
        self.health = Health(len)
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(window, ready))
        self._thread.start()
        assert ready.wait(10)

    def _run(self, window: Path, ready: threading.Event) -> None:
        async def go() -> None:
            self._end = asyncio.Event()
            handler = Blobs(window.parent, self.health, self.out).handle
            server = await listen(ParentWindow(window), Port.BLOBS, handler)
            ready.set()
            await self._end.wait()
            server.close()

        self._loop.run_until_complete(go())
        self._loop.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Parent]:
    (tmp_path / "out").mkdir()
    made = Parent(tmp_path / "w", tmp_path / "out")
    yield made
    made.close()


def names(parent: Parent) -> list[str]:
    assert parent.out is not None
    return sorted(one.name for one in parent.out.iterdir())


def test_a_file_arrives_whole_and_counted(parent: Parent) -> None:
    store(parent.window, "model.safetensors.sealed", SIZE, iter(PIECES))
    assert parent.out is not None
    assert (parent.out / "model.safetensors.sealed").read_bytes() == b"".join(PIECES)
    assert names(parent) == ["model.safetensors.sealed"]
    assert parent.health.snapshot()["out.sealed"] == SIZE


def test_an_empty_file_is_a_file(parent: Parent) -> None:
    store(parent.window, "empty.sealed", 0, iter([]))
    assert names(parent) == ["empty.sealed"]


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "x" * 200])
def test_no_name_leads_out_of_the_folder(parent: Parent, name: str) -> None:
    with pytest.raises(WindowError):
        store(parent.window, name, 1, iter([b"x"]))
    assert names(parent) == []


def test_a_file_that_is_there_is_never_written_over(parent: Parent) -> None:
    store(parent.window, "one", 3, iter([b"abc"]))
    with pytest.raises(WindowError, match="refused"):
        store(parent.window, "one", 3, iter([b"xyz"]))
    assert parent.out is not None
    assert (parent.out / "one").read_bytes() == b"abc"


@pytest.mark.parametrize("size", [SIZE - 1, SIZE + 1])
def test_other_than_the_size_announced_leaves_no_name(parent: Parent, size: int) -> None:
    with pytest.raises(WindowError):
        store(parent.window, "one", size, iter(PIECES))
    assert "one" not in names(parent)


def test_a_file_that_the_disk_cannot_hold_is_a_refusal_and_leaves_nothing(parent: Parent) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # Python has SIGXFSZ ignored: a write fails
    try:
        with pytest.raises(WindowError, match="disk"):
            store(parent.window, "one", SIZE, iter(PIECES))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(parent) == []
    store(parent.window, "one", 3, iter([b"abc"]))
    assert names(parent) == ["one"]


def test_a_link_in_the_way_is_not_followed(parent: Parent, tmp_path: Path) -> None:
    assert parent.out is not None
    (parent.out / ".one.new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WindowError, match="disk"):
        store(parent.window, "one", 3, iter([b"abc"]))
    assert not (tmp_path / "elsewhere").exists()


def test_without_a_folder_for_it_nothing_is_taken(tmp_path: Path) -> None:
    parent = Parent(tmp_path / "w", None)
    try:
        with pytest.raises(WindowError, match="refused"):
            store(parent.window, "one", 3, iter([b"abc"]))
    finally:
        parent.close()
    assert not (tmp_path / "one").exists()


def test_the_manifest_lies_alone_in_its_folder_as_it_will_be_signed(parent: Parent) -> None:
    store(parent.window, "manifest", 3, iter([b"abc"]))
    assert parent.out is not None
    assert (parent.out / "signed/manifest").read_bytes() == b"abc"
    assert [one.name for one in (parent.out / "signed").iterdir()] == ["manifest"]
    with pytest.raises(WindowError, match="refused"):
        store(parent.window, "manifest", 3, iter([b"xyz"]))
