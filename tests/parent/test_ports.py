"""The parent's own ports: what the enclave may ask for, and what nobody gets."""

import asyncio
import contextlib
import http.server
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from anchorhold.parent.blobs import Blobs, BootFiles, Refused, open_blob
from anchorhold.parent.config import Address, UnixWindow
from anchorhold.parent.egress import Egress
from anchorhold.parent.health import Health
from anchorhold.parent.link import Handler, listen
from anchorhold.parent.records import LogClient, Records
from anchorhold.wire.frames import MAX_BODY, Frame, FrameReader, FrameWriter
from anchorhold.wire.messages import Kind, Port, require_fields

Run = Callable[[Any], Any]


async def port(window: Path, number: Port, handler: Handler) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Serves one port, as long as the loop runs, and connects to it as the enclave would."""
    await listen(UnixWindow(window), number, handler)
    return await asyncio.open_unix_connection(f"{window}_{int(number)}")


async def talk(window: Path, number: Port, handler: Handler, *sent: tuple[int, bytes]) -> list[Frame]:
    """All answers to these frames."""
    reader, writer = await port(window, number, handler)
    for kind, body in sent:
        await FrameWriter(writer).write(kind, body)
    writer.write_eof()
    answers = []
    frames = FrameReader(reader)
    while (frame := await frames.read()) is not None:
        answers.append(frame)
    writer.close()
    return answers


@contextlib.contextmanager
def held() -> Iterator[Address]:
    """A port where nobody listens, and nobody else comes to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield Address("127.0.0.1", bound.getsockname()[1])


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "signed").mkdir(parents=True)
    (folder / "signed" / "manifest").write_bytes(b"the manifest")
    (folder / "signature").write_bytes(b"the signature")
    (folder / "model.safetensors.sealed").write_bytes(secrets.token_bytes(MAX_BODY * 2 + 5))
    (folder / "empty.sealed").write_bytes(b"")
    (folder / "folder").mkdir()
    (tmp_path / "secret").write_bytes(b"SECRET")
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("name", ["manifest", "signature", "model.safetensors.sealed", "empty.sealed"])
def test_a_blob_comes_whole_and_counted(window: Path, sealed: Path, run: Run, name: str) -> None:
    health = Health(len)
    answers = run(talk(window, Port.BLOBS, Blobs(sealed, health).handle, (Kind.FETCH, name.encode())))
    want = (sealed / ("signed/manifest" if name == "manifest" else name)).read_bytes()
    assert int(require_fields(answers[0].body, "size")["size"]) == len(want)
    assert b"".join(frame.body for frame in answers[1:-1]) == want
    assert [frame.kind for frame in (answers[0], answers[-1])] == [Kind.SIZE, Kind.END]
    assert all(frame.kind == Kind.CHUNK for frame in answers[1:-1])
    assert health.snapshot()["in.blobs"] == len(want)


OUTSIDE = [
    b"../secret", b"signed/manifest", b"/etc/passwd", b"..", b".", b"", b"link", b"folder", b"pipe", b"signed",
    b"absent", b".hidden", b"a\x00b", b"manifest\n", b"x" * 161, "ü".encode(), b"folder/../signature",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_the_sealed_folder(window: Path, sealed: Path, run: Run, name: bytes) -> None:
    with pytest.raises(Refused):
        open_blob(sealed, name)
    answers = run(talk(window, Port.BLOBS, Blobs(sealed, Health(len)).handle, (Kind.FETCH, name)))
    assert answers == [Frame(Kind.REFUSED, b"unknown-blob")]


def test_a_blob_that_grows_or_shrinks_while_sent_never_differs_from_its_size(
    window: Path, sealed: Path, run: Run
) -> None:
    body = sealed / "model.safetensors.sealed"

    async def go(change: Callable[[], object]) -> tuple[int, int, bool]:
        reader, writer = await port(window, Port.BLOBS, Blobs(sealed, Health(len)).handle)
        await FrameWriter(writer).write(Kind.FETCH, body.name.encode())
        frames = FrameReader(reader)
        first = await frames.read()
        assert first is not None
        change()
        writer.write_eof()
        got, ended = 0, False
        while (frame := await frames.read()) is not None:
            got, ended = got + len(frame.body), ended or frame.kind == Kind.END
        writer.close()
        return int(require_fields(first.body, "size")["size"]), got, ended

    size, got, ended = run(go(lambda: os.truncate(body, body.stat().st_size + 100)))
    assert (got, ended) == (size, True)
    size, got, ended = run(go(lambda: os.truncate(body, 1)))
    assert got < size
    assert not ended


def test_boot_gives_two_names_read_anew_each_time(window: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "c").write_bytes(b"one")
    (tmp_path / "large").write_bytes(bytes(MAX_BODY + 1))
    files: Mapping[str, Path] = {"configuration": tmp_path / "c", "credentials": tmp_path / "large"}

    async def go() -> list[Frame | None]:
        reader, writer = await port(window, Port.BOOT, BootFiles(files, Health(len)).handle)
        frames, answers = FrameReader(reader), []
        for number, name in enumerate([b"configuration", b"configuration", b"credentials", b"../c", b"c"]):
            await FrameWriter(writer).write(Kind.GET, name)
            answers.append(await frames.read())
            (tmp_path / "c").write_bytes(b"two %d" % number)
        await FrameWriter(writer).write(Kind.FETCH, b"configuration")
        answers.append(await frames.read())
        writer.close()
        return answers

    refused = Frame(Kind.REFUSED, b"unknown-name")
    assert run(go()) == [Frame(Kind.GOT, b"one"), Frame(Kind.GOT, b"two 0"), refused, refused, refused, refused]


def test_egress_passes_bytes_both_ways_to_a_listed_name_and_closes_with_it(window: Path, run: Run) -> None:
    health = Health(len)

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            writer.write(piece.upper())
        writer.close()

    async def go() -> bytes:
        async with await asyncio.start_server(shout, "127.0.0.1", 0) as server:
            target = Address("127.0.0.1", server.sockets[0].getsockname()[1])
            reader, writer = await port(window, Port.EGRESS, Egress({"kms": target}, health).handle)
            await FrameWriter(writer).write(Kind.OPEN, b"kms")
            opened = await FrameReader(reader).read()
            assert opened == Frame(Kind.OPENED, b"")
            writer.write(b"client hello" * 10_000)
            writer.write_eof()
            whole = await reader.read(-1)
            writer.close()
            return whole

    assert run(go()) == b"CLIENT HELLO" * 10_000
    assert health.snapshot()["out.keys"] == health.snapshot()["in.keys"] == 120_000


@pytest.mark.parametrize("name", [b"owner", b"127.0.0.1:1", b"kms\x00", b"", b"KMS", b"x" * 5000])
def test_egress_refuses_a_name_off_the_list_and_connects_nowhere(window: Path, run: Run, name: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.05)
        allowed = {"kms": Address("127.0.0.1", trap.getsockname()[1])}
        answers = run(talk(window, Port.EGRESS, Egress(allowed, Health(len)).handle, (Kind.OPEN, name)))
        assert answers == [Frame(Kind.REFUSED, b"unknown-source")]
        with pytest.raises(TimeoutError):
            trap.accept()


def test_egress_to_a_source_that_is_down_is_refused_as_unreachable(window: Path, run: Run) -> None:
    with held() as silent:
        handler = Egress({"kms": silent}, Health(len)).handle
        assert run(talk(window, Port.EGRESS, handler, (Kind.OPEN, b"kms"))) == [Frame(Kind.REFUSED, b"unreachable")]


class _Log(http.server.BaseHTTPRequestHandler):
    status = 200
    seen: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, body))  # type: ignore[attr-defined]  # the fixture's list
        self._reply(b"reply to " + body)

    def do_GET(self) -> None:
        self.server.seen.append((self.path, b""))  # type: ignore[attr-defined]  # as above
        self._reply(b"the checkpoint")

    def _reply(self, body: bytes) -> None:
        self.send_response(self.server.status)  # type: ignore[attr-defined]  # as above
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        return


@pytest.fixture
def log() -> Iterator[Any]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Log) as server:
        server.seen, server.status = [], 200  # type: ignore[attr-defined]  # what the handler above reads
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_records_reach_the_log_unread_and_its_answers_come_back(window: Path, log: Any, run: Run) -> None:
    handler = Records(LogClient(Address("127.0.0.1", log.server_port)), Health(len)).handle
    sent = [(Kind.APPEND, b"\x00\xffrecord"), (Kind.CHECKPOINT, b""), (Kind.APPEND, b"two")]
    answers = run(talk(window, Port.RECORDS, handler, *sent))
    assert [frame.body for frame in answers] == [b"reply to \x00\xffrecord", b"the checkpoint", b"reply to two"]
    assert {frame.kind for frame in answers} == {Kind.APPENDED}
    assert log.seen == [("/append", b"\x00\xffrecord"), ("/checkpoint", b""), ("/append", b"two")]


@pytest.mark.parametrize(("status", "kind"), [(507, Kind.APPEND), (400, Kind.APPEND), (500, Kind.CHECKPOINT)])
def test_a_log_that_refuses_is_a_refusal_never_an_empty_success(
    window: Path, log: Any, run: Run, status: int, kind: Kind
) -> None:
    log.status = status
    handler = Records(LogClient(Address("127.0.0.1", log.server_port)), Health(len)).handle
    answers = run(talk(window, Port.RECORDS, handler, (kind, b"r")))
    assert answers == [Frame(Kind.REFUSED, f"log-{status}".encode())]


def test_no_checkpoint_yet_is_an_empty_note(window: Path, log: Any, run: Run) -> None:
    log.status = 404
    handler = Records(LogClient(Address("127.0.0.1", log.server_port)), Health(len)).handle
    assert run(talk(window, Port.RECORDS, handler, (Kind.CHECKPOINT, b""))) == [Frame(Kind.APPENDED, b"")]


def test_a_log_that_is_down_is_said_so_and_the_connection_lives_on(window: Path, run: Run) -> None:
    with held() as silent:
        handler = Records(LogClient(silent), Health(len)).handle
        answers = run(talk(window, Port.RECORDS, handler, (Kind.APPEND, b"a"), (Kind.APPEND, b"b")))
    assert answers == [Frame(Kind.REFUSED, b"log-unreachable")] * 2


@pytest.mark.parametrize("number", [Port.BOOT, Port.EGRESS, Port.BLOBS, Port.RECORDS])
def test_rubbish_on_a_port_ends_that_connection_alone(window: Path, sealed: Path, run: Run, number: Port) -> None:
    health = Health(len)
    handlers: dict[Port, Handler] = {
        Port.BOOT: BootFiles({}, health).handle,
        Port.EGRESS: Egress({}, health).handle,
        Port.BLOBS: Blobs(sealed, health).handle,
        Port.RECORDS: Records(LogClient(Address("127.0.0.1", 1)), health).handle,
    }

    async def go() -> None:
        server = await listen(UnixWindow(window), number, handlers[number])
        for rubbish in (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x05\x50ab"):
            reader, writer = await asyncio.open_unix_connection(f"{window}_{int(number)}")
            writer.write(rubbish)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        server.close()

    run(go())
