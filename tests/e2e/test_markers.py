"""Random markers in prompts, answers and weights are nowhere outside the enclave and the client (DESIGN 7).

Looked at: every byte on every socket of the parent (a relay records it), the memory of the parent, the log and both
authorities, in mid-answer and afterwards, and every file of the stack. As bytes, hex, base64, UCS-2 and -4, token ids.
Out of scope: the hypervisor, which is the platform, and what a scan cannot see: registers, caches, and memory at other
moments. A control plants every marker in every form in a file, in a recording and in the memory of a live process.
"""

import asyncio
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from anchorhold.attestation.channel.client import Delta
from anchorhold.client.errors import ClientError
from anchorhold.client.sdk import AsyncClient
from anchorhold.client.sdk import Settings as Asking
from anchorhold.client.trust import Trust, parse_trust
from anchorhold.sim.deploy import Settings
from anchorhold.sim.processes import from_json
from anchorhold.sim.stack import Options, Stack, down, enclave_pids
from anchorhold.wire.messages import Port

from .conftest import ROOT, TINY
from .random_model import model_markers, random_model
from .recording import Recording
from .scan import Marker, Scanner, forms, memory_chunks, regular_files

pytestmark = pytest.mark.slow
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the memory of other processes")

QUESTIONS = (33, 120, 470, 900)  # characters; equal sizes would overwrite each other's traces
ANSWERS = (600, 250, 64, 40)  # tokens, for the same requests
REFUSED = 1_990  # characters: too long to be answered, so it goes through the error path
LONG = 1_500  # tokens of the answer in whose middle memory is looked at
WATCHED = ("parent", "log", "kms", "owner")
NONCE = 32
PATIENCE_S = 90.0


@dataclass
class Watched:
    """A stack that was asked while every socket of its parent was recorded."""

    state: Path
    record: dict[str, Any]
    recording: Recording
    markers: list[Marker]
    nonce: bytes = b""
    snapshots: dict[str, list[tuple[str, list[bytes]]]] = field(default_factory=dict)
    """Writable memory by process, taken in the middle of an answer."""

    @property
    def pids(self) -> dict[str, int]:
        return {one.name: one.pid for one in from_json(self.record["processes"])}


def text_marker(name: str, text: str, tokenizer: Tokenizer) -> Marker:
    return Marker(name, text.encode(), ids=tuple(tokenizer.encode(text, add_special_tokens=False).ids))


def bring_up(folder: Path, recording: Recording, model: Path) -> tuple[Path, dict[str, Any]]:
    """A stack whose parent has a relay before each of its sockets but the public one."""

    def rewire(config: dict[str, Any]) -> dict[str, Any]:
        outer = Path(config["window"])
        inner = outer.with_name("e")
        recording.unix("window", outer, inner)
        for port in (Port.HEARTBEAT, Port.BOOT, Port.EGRESS, Port.BLOBS, Port.RECORDS):
            recording.unix(f"port-{port.value}", Path(f"{inner}_{port.value}"), Path(f"{outer}_{port.value}"))
        egress = {name: recording.tcp(f"egress-{name}", target) for name, target in config["egress"].items()}
        log = f"http://{recording.tcp('log', config['log'].removeprefix('http://'))}"
        return config | {
            "egress": egress,
            "log": log,
            "enclave": config["enclave"] | {"args": ["--window", str(inner)]},
        }

    options = Options(
        state=folder / "s",
        model=str(model),
        cache=ROOT / ".cache",
        settings=Settings(engine=TINY),
        lock=ROOT / "requirements/enclave.lock",
        rewire=rewire,
    )
    return folder / "s", Stack(options).up()


def sampled(tokens: int) -> Asking:
    """Warm, so that an answer does not run in circles, and of the likelier half: those tokens print."""
    return Asking(max_tokens=tokens, temperature_milli=1_000, top_p_milli=500)


async def converse(trust: Trust, watched: Watched, tokenizer: Tokenizer) -> None:
    """Several requests at once, one refused, one broken off, one looked at in its middle."""
    drawn: list[bytes] = []

    def entropy(count: int) -> bytes:
        drawn.append(secrets.token_bytes(count))
        return drawn[-1]

    def note(name: str, text: str) -> str:
        watched.markers.append(text_marker(name, text, tokenizer))
        return text

    def question(size: int) -> str:
        return note(f"prompt of {size}", secrets.token_hex(size)[:size])

    async with AsyncClient(trust, entropy=entropy) as client:

        async def ask(size: int, tokens: int) -> None:
            answer = await client.ask(question(size), sampled(tokens))
            assert answer.finish.completion_tokens == tokens
            note(f"answer of {tokens}", answer.text)

        await client.verify()
        watched.nonce = next(one for one in drawn if len(one) == NONCE)
        with pytest.raises(ClientError):
            await client.ask(question(REFUSED))
        await asyncio.gather(*(ask(size, tokens) for size, tokens in zip(QUESTIONS, ANSWERS, strict=True)))
        pieces: list[str] = []
        async for event in client.stream(question(77), sampled(LONG)):
            assert isinstance(event, Delta), "broken off before its end"
            pieces.append(event.text)
            if not watched.snapshots and len("".join(pieces)) > LONG // 16 and os.geteuid() == 0:
                await asyncio.to_thread(look, watched)
            if len("".join(pieces)) > LONG // 2:
                break
        note("answer broken off", "".join(pieces))


def look(watched: Watched) -> None:
    """Keep the writable memory of every process as it is now."""
    for name in WATCHED:
        maps = memory_chunks(watched.pids[name], writable=True)
        watched.snapshots[name] = [(where, list(chunks)) for where, _start, chunks in maps]


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    folder = Path(tempfile.mkdtemp(prefix="ah-"))
    # The plaintext and the recordings lie outside what is scanned as the stack's files.
    recording = Recording(folder / "recording")
    try:
        model = random_model(folder / "plain")
        state, record = bring_up(folder, recording, model)
        seen = Watched(state, record, recording, model_markers(model))
        trust = json.loads((state / "trust.json").read_text())
        trust["gateway"] = recording.tcp("client", trust["gateway"])
        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        asyncio.run(converse(parse_trust(json.dumps(trust).encode()), seen, tokenizer))
        yield seen
    finally:
        down(folder / "s")
        recording.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def scanner(watched: Watched) -> Scanner:
    return Scanner(watched.markers)


def say(text: str) -> None:
    sys.stdout.write(f"\n  {text}")


def test_no_marker_crosses_the_parent(watched: Watched, scanner: Scanner) -> None:
    began = time.monotonic()
    before, counted = scanner.scanned, Counter(watched.recording.bytes)
    assert scanner.tree(watched.recording.folder) == []
    say(f"{scanner.scanned - before:,} bytes recorded in {len(counted)} ways, {time.monotonic() - began:.1f} s")
    say(", ".join(f"{way} {count:,}" for way, count in sorted(counted.items())))
    say(f"{len(watched.markers)} markers, {len(scanner.forms)} forms, {scanner.windows:,} windows")
    # Renewals go on, and are recorded, while this is scanned.
    assert scanner.scanned - before >= counted.total()


def test_the_recording_has_every_socket_and_what_crossed_it(watched: Watched) -> None:
    """The nonce of the client's first question for evidence, the sealed model, every record."""
    ways = {f"port-{port.value}" for port in (Port.HEARTBEAT, Port.BOOT, Port.EGRESS, Port.BLOBS, Port.RECORDS)}
    for name in ways | {"client", "window", "egress-kms", "egress-owner", "log"}:
        assert watched.recording.bytes[f"{name}.up"] > 0
        assert watched.recording.bytes[f"{name}.down"] > 0
    found = {hit.place.rpartition("/")[2].split(".")[0] for hit in scan_for(watched.nonce, watched.recording.folder)}
    assert found == {"client", "window"}
    sealed = sum(path.stat().st_size for path in (watched.state / "model").glob("*.sealed"))
    assert watched.recording.bytes[f"port-{Port.BLOBS.value}.down"] > sealed
    assert watched.recording.bytes["client.down"] > sum(ANSWERS)


def scan_for(content: bytes, folder: Path) -> list[Any]:
    return Scanner([Marker("one", content)]).tree(folder)


def test_no_marker_is_in_a_file_of_the_stack(watched: Watched, scanner: Scanner) -> None:
    before, files = scanner.scanned, regular_files(watched.state)
    assert scanner.tree(watched.state) == []
    say(f"{len(files)} files, {scanner.scanned - before:,} bytes")
    assert len(files) > 50


def test_no_process_writes_a_file_outside_the_stack(watched: Watched) -> None:
    for name in WATCHED:
        for link in Path(f"/proc/{watched.pids[name]}/fd").iterdir():
            try:
                target = link.readlink()
            except FileNotFoundError:
                continue  # closed since it was listed
            if target.is_absolute() and target.is_file() and link.lstat().st_mode & 0o200:
                assert target.is_relative_to(watched.state), f"{name} holds {target} open for writing"


@needs_root
def test_no_marker_is_in_the_memory_of_parent_log_or_authorities(watched: Watched, scanner: Scanner) -> None:
    for name in WATCHED:
        before, began = scanner.scanned, time.monotonic()
        for where, chunks in watched.snapshots[name]:
            assert scanner.data(f"{name} in mid-answer {where}", chunks) == []
        middle = scanner.scanned - before
        assert scanner.memory(name, watched.pids[name]) == []
        total = scanner.scanned - before
        say(f"{name}: {middle:,} bytes in mid-answer, {total - middle:,} after, {time.monotonic() - began:.1f} s")
        assert middle > 1 << 20


@needs_root
def test_the_same_scan_of_the_enclave_finds_the_weights(watched: Watched, scanner: Scanner) -> None:
    """A control on the real thing: this is the one process that does hold them."""
    (pid,) = enclave_pids(watched.state)
    before, began = scanner.scanned, time.monotonic()
    found = {hit.marker for hit in scanner.memory("enclave", pid, writable=True)}
    say(f"enclave: {scanner.scanned - before:,} bytes, {time.monotonic() - began:.1f} s, {len(found)} markers")
    assert {marker.name for marker in watched.markers if marker.halves} <= found


# The control: what is there is found


def plants(markers: list[Marker]) -> tuple[bytes, set[tuple[str, str]]]:
    """Every form of every marker, in pieces of different sizes and alignments; and what must be found."""
    planted = bytearray(secrets.token_bytes(64))
    for number, marker in enumerate(markers):
        for form in forms(marker):
            needed = form.least + 2 * 8
            size = needed + number % (len(form.encoded) - needed + 1)
            start = number % (len(form.encoded) - size + 1)
            if form.lens > 1 or form.name in ("ucs-2", "int32 ids", "int64 ids"):
                start, size = start & ~1, size & ~1
            piece = form.encoded[start : start + size]
            if form.lens > 1:
                piece = np.frombuffer(piece, "<u2").astype(f"<u{form.lens}").tobytes()
            planted += secrets.token_bytes(1 + number % 13) + piece + secrets.token_bytes(8)
    return bytes(planted), {(marker.name, form.name) for marker in markers for form in forms(marker)}


def test_what_is_planted_in_a_file_is_found(watched: Watched, scanner: Scanner, tmp_path: Path) -> None:
    content, expected = plants(watched.markers)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/planted").write_bytes(content)
    found = {(hit.marker, hit.form) for hit in scanner.tree(tmp_path)}
    assert found == expected
    say(f"{len(expected)} forms of {len(watched.markers)} markers planted in {len(content):,} bytes, all found")


def test_what_is_planted_in_a_recording_is_found(watched: Watched, scanner: Scanner, tmp_path: Path) -> None:
    """Through the relay itself, both ways."""
    content, expected = plants(watched.markers)
    recording = Recording(tmp_path / "recording")
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_echo, args=(server,), daemon=True).start()
        address = recording.tcp("control", f"127.0.0.1:{server.getsockname()[1]}")
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as stream:
            threading.Thread(target=_send, args=(stream, content), daemon=True).start()
            while stream.recv(1 << 16):
                pass
    recording.close()
    for way in ("up", "down"):
        (path,) = recording.folder.glob(f"control.{way}.*")
        assert {(hit.marker, hit.form) for hit in scanner.file(path)} == expected


def _send(stream: socket.socket, content: bytes) -> None:
    stream.sendall(content)
    stream.shutdown(socket.SHUT_WR)


def _echo(server: socket.socket) -> None:
    stream, _ = server.accept()
    with stream:
        while piece := stream.recv(1 << 16):
            stream.sendall(piece)


HOLDER = """
import array, json, signal, sys
held = sys.stdin.buffer.read(int(sys.argv[1]))
texts = [json.loads(line) for line in sys.stdin.buffer]
wide = [text + chr(0x1F512) for text, ids in texts]
ids = [array.array(kind, ids) for text, ids in texts for kind in "iq"]
del texts
print("held", flush=True)
signal.pause()
"""


def held(scanner: Scanner, content: bytes, texts: list[Marker]) -> set[tuple[str, str]]:
    """What is found in a process that has read `content`, and `texts` as str and as arrays of ids."""
    lines = [json.dumps([marker.content.decode(), marker.ids]).encode() + b"\n" for marker in texts]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(len(content))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(content + b"".join(lines))
        process.stdin.close()
        assert process.stdout.readline() == b"held\n"
        return {(hit.marker, hit.form) for hit in scanner.memory("control", process.pid)}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@needs_root
def test_what_is_planted_in_the_memory_of_a_live_process_is_found(watched: Watched, scanner: Scanner) -> None:
    """The same program with nothing planted gives nothing."""
    content, expected = plants(watched.markers)
    assert held(scanner, content, []) == expected
    assert held(scanner, secrets.token_bytes(len(content)), []) == set()


@needs_root
def test_text_and_token_ids_as_python_holds_them_are_found(watched: Watched, scanner: Scanner) -> None:
    texts = [marker for marker in watched.markers if marker.ids]
    wanted = {(marker.name, form) for marker in texts for form in ("ucs-4", "int32 ids", "int64 ids")}
    assert wanted <= held(scanner, b"", texts)


PATHS = {"log": "/append", "kms": "/", "owner": "/v1/release"}


@contextmanager
def unfinished(watched: Watched, name: str, content: bytes) -> Iterator[None]:
    """`content` as the first part of a request that its receiver goes on waiting for, and so holds."""
    with ExitStack() as stack:
        if name == "parent":
            stream = stack.enter_context(socket.socket(socket.AF_UNIX))
            stream.connect(str(watched.state / f"window/w_{Port.BOOT.value}"))
            stream.sendall((len(content) + 2).to_bytes(4, "big") + b"\x01" + content)
        else:
            port = json.loads((watched.state / f"ready/{name}.json").read_text())["port"]
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            if name != "log":
                tls = ssl.create_default_context(cafile=watched.record[name]["ca"])
                stream = stack.enter_context(tls.wrap_socket(stream, server_hostname="localhost"))
            head = f"POST {PATHS[name]} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content) + 1}\r\n\r\n"
            stream.sendall(head.encode() + content)
        yield


@needs_root
@pytest.mark.parametrize("name", WATCHED)
def test_what_is_planted_in_each_process_that_is_scanned_is_found(watched: Watched, name: str) -> None:
    """New markers, handed to the live parent, log and authorities themselves as requests that never end."""
    text = secrets.token_hex(150)
    controls = [
        Marker("control text", text.encode(), ids=tuple(text.encode())),
        Marker("control weights", secrets.token_bytes(192), halves=True),
    ]
    content, expected = plants(controls)
    scanner = Scanner(controls)
    with unfinished(watched, name, content):
        until = time.monotonic() + PATIENCE_S
        while (found := {(h.marker, h.form) for h in scanner.memory(name, watched.pids[name])}) != expected:
            assert time.monotonic() < until, f"not found: {sorted(expected - found)}"
