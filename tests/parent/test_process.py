"""The parent as a process: what it refuses to start with, whom it starts and ends, and that it can come back."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anchorhold.parent.cell import Listed
from anchorhold.parent.config import ConfigError, UnixWindow, VsockWindow, parse_config
from anchorhold.parent.health import Health
from anchorhold.parent.lifecycle import Lifecycle
from anchorhold.parent.relay import Relay
from anchorhold.wire.frames import FrameReader, FrameWriter
from anchorhold.wire.messages import Kind, pack_fields

KEY_ID = bytes(16)
NITRO_CLI = """
import json, sys
from pathlib import Path
state = Path(sys.argv[1])
command, *rest = sys.argv[2:]
with (state / "calls").open("a") as calls:
    calls.write(json.dumps([command, *rest]) + "\\n")
running = (state / "running").exists()
if command == "run-enclave":
    (state / "running").touch()
    print("Start allocating memory...")
    print(json.dumps({"EnclaveID": "i-7", "EnclaveCID": 16}))
elif command == "terminate-enclave":
    (state / "running").unlink()
    print(json.dumps({"Terminated": True}))
else:
    print(json.dumps([{"EnclaveID": "i-7", "State": "RUNNING"}] if running else []))
"""


@pytest.fixture
def config(window: Path, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "cli.py").write_text(NITRO_CLI)
    return {
        "listen": "127.0.0.1:0", "ready_file": str(tmp_path / "ready"), "counters_file": str(tmp_path / "counters"),
        "window": str(window), "configuration": str(tmp_path / "c"), "credentials": str(tmp_path / "k"),
        "sealed": str(tmp_path), "log": "http://127.0.0.1:1", "egress": {"kms": "localhost:443"},
        "enclave": {
            "command": [sys.executable, str(tmp_path / "cli.py"), str(tmp_path)], "eif": "image.eif",
            "args": ["--window", str(window)], "start": True,
        },
    }  # fmt: skip


BAD: dict[str, Callable[[dict[str, Any]], object]] = {
    "a field too many": lambda c: c.update(credential="x"),
    "a field missing": lambda c: c.pop("sealed"),
    "a log on https": lambda c: c.update(log="https://127.0.0.1:1"),
    "no port": lambda c: c.update(listen="127.0.0.1"),
    "a port too high": lambda c: c.update(egress={"kms": "localhost:65536"}),
    "our own cid": lambda c: c.update(window={"cid": 3}),
    "any cid": lambda c: c.update(window={"cid": (1 << 32) - 1}),
    "a command in one text": lambda c: c["enclave"].update(command="nitro-cli"),
    "no command": lambda c: c["enclave"].update(command=[]),
    "a start that is no truth": lambda c: c["enclave"].update(start="yes"),
    "adapters that are no folder's name": lambda c: c.update(adapters=4),
    "too many destinations": lambda c: c.update(egress={str(n): "h:1" for n in range(17)}),
}


@pytest.mark.parametrize("name", BAD)
def test_a_configuration_with_a_fault_is_refused(config: dict[str, Any], name: str) -> None:
    parse_config(config)
    BAD[name](config)
    with pytest.raises(ConfigError):
        parse_config(config)


def several(config: dict[str, Any], *windows: object) -> dict[str, Any]:
    """The same parent with an enclave at each of `windows`."""
    run, shared = config["enclave"], {name: config[name] for name in config.keys() - {"window", "enclave"}}
    return shared | {"enclaves": [{"window": window, "enclave": run} for window in windows]}


@pytest.mark.parametrize("windows", [["/a"], ["/a", "/b"], ["/a", "/b", "/c", "/d"], [{"cid": 16}, {"cid": 17}]])
def test_one_to_four_enclaves_each_have_a_window_and_the_first_is_the_default(
    config: dict[str, Any], windows: list[object]
) -> None:
    parsed = parse_config(several(config, *windows)).enclaves
    expected = [
        UnixWindow(Path(one)) if isinstance(one, str) else VsockWindow(16 + at) for at, one in enumerate(windows)
    ]
    assert [one.window for one in parsed] == expected
    assert {one.command for one in parsed} == {tuple(config["enclave"]["command"])}


MANY_BAD: dict[str, list[object]] = {
    "none": [],
    "five": ["/a", "/b", "/c", "/d", "/e"],
    "one window twice": ["/a", "/a"],
    "one cid twice": [{"cid": 16}, {"cid": 16}],
    "windows of two kinds": ["/a", {"cid": 16}],
    "no window": ["/a", ""],
}


@pytest.mark.parametrize("name", MANY_BAD)
def test_enclaves_in_another_form_are_refused(config: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(several(config, *MANY_BAD[name]))


def test_one_enclave_beside_a_list_of_them_is_refused(config: dict[str, Any]) -> None:
    both = several(config, "/a") | {"window": config["window"], "enclave": config["enclave"]}
    with pytest.raises(ConfigError, match="unknown"):
        parse_config(both)
    for enclaves in ({"window": "/a"}, "/a", [{"window": "/a"}], [{**several(config, "/a")["enclaves"][0], "x": 1}]):
        with pytest.raises(ConfigError):
            parse_config(several(config) | {"enclaves": enclaves})


class Parent:
    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self._folder = folder
        (folder / "ready").unlink(missing_ok=True)
        (folder / "parent.json").write_text(json.dumps(config))
        command = [sys.executable, "-m", "anchorhold.parent", "--config", str(folder / "parent.json")]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.02)

    def calls(self) -> list[str]:
        path = self._folder / "calls"
        return [json.loads(line)[0] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def start(tmp_path: Path, config: dict[str, Any]) -> Iterator[Callable[[], Parent]]:
    started: list[Parent] = []

    def one() -> Parent:
        started.append(Parent(tmp_path, config))
        started[-1].until((tmp_path / "ready").exists)
        return started[-1]

    yield one
    for parent in started:
        parent.process.kill()
        parent.process.wait()


@pytest.mark.slow
def test_it_starts_the_enclave_and_ends_it_on_a_signal(start: Callable[[], Parent], tmp_path: Path) -> None:
    parent = start()
    parent.until(lambda: "run-enclave" in parent.calls())
    parent.until((tmp_path / "running").exists)
    parent.process.send_signal(signal.SIGTERM)
    _, said = parent.process.communicate(timeout=20)
    assert parent.process.returncode == 0, said
    assert parent.calls()[-1] == "terminate-enclave"
    assert not (tmp_path / "running").exists()
    events = [json.loads(line)["event"] for line in said.splitlines() if line.startswith("{")]
    # The signal may come before run-enclave has answered; the enclave is waited for and ended all the same.
    assert sorted(events[:-1]) == ["enclave-started", "started", "stopping"]
    assert events[-1] == "stopped"
    assert json.loads((tmp_path / "counters").read_text())["exchanges"] == 0


@pytest.mark.slow
def test_a_killed_parent_can_be_started_again_over_its_own_sockets(
    start: Callable[[], Parent], window: Path, tmp_path: Path
) -> None:
    first = start()
    first.process.kill()
    first.process.wait()
    assert os.path.exists(f"{window}_9001")  # noqa: PTH110 - a text, not a path of ours
    start().until((tmp_path / "ready").exists)


@pytest.mark.slow
def test_an_enclave_that_is_not_started_ends_the_parent_with_exit_2(config: dict[str, Any], tmp_path: Path) -> None:
    config["enclave"]["command"] = [sys.executable, "-c", "raise SystemExit(1)"]
    parent = Parent(tmp_path, config)
    _, said = parent.process.communicate(timeout=30)
    assert parent.process.returncode == 2, said
    assert "run-enclave" in said


@pytest.mark.slow
def test_a_public_port_in_use_is_said_and_nothing_is_started(config: dict[str, Any], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config["listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        parent = Parent(tmp_path, config)
        _, said = parent.process.communicate(timeout=30)
    assert parent.process.returncode == 2, said
    assert f"anchorhold: error: parent: cannot listen on {config['listen']}\n" in said
    assert "Traceback" not in said
    assert parent.calls() == []


def test_the_end_of_an_adopted_enclave_is_noticed_at_its_window(
    window: Path, run: Callable[[Any], Any], config: dict[str, Any]
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"OK 5005\n")
        await FrameReader(reader).read()
        await FrameWriter(writer).write(Kind.STATUS_IS, pack_fields({"key_ids": KEY_ID}))
        writer.close()

    async def go() -> list[Listed]:
        health = Health(len)
        (enclave,) = parse_config(config).enclaves
        relay = Relay(UnixWindow(window), health)
        lifecycle = Lifecycle(enclave, "tiny", relay, health)
        async with await asyncio.start_unix_server(answer, window):
            await lifecycle.start()
        seen = lifecycle.listed()
        assert relay.key_ids == {KEY_ID}
        await lifecycle.watch()
        assert not relay.key_ids, "what has ended takes no request"
        return [seen, lifecycle.listed()]

    assert run(go()) == [Listed("enclave-1", "tiny", "running"), Listed("enclave-1", "tiny", "ended")]
