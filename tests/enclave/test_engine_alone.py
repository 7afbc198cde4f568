"""The engine where the enclave puts it: no network, no home, no cache to write, only Unix sockets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anchorhold.publish.tiny import make_tiny_model

pytestmark = pytest.mark.slow
PROGRAM = """
import os, socket, sys
broken = []

def watch(event, arguments):
    if event == "socket.__new__" and arguments[1] != socket.AF_UNIX:
        if arguments[1] != socket.AF_INET6:  # urllib3 tries one when imported, and lives without
            broken.append(("socket", arguments[1]))
        raise PermissionError("only Unix sockets")
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen", "os.system", "os.exec"):
        broken.append((event,))
        raise PermissionError(event)
    if event == "open" and isinstance(arguments[0], str) and not arguments[0].startswith("/dev/"):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            broken.append(("write", arguments[0]))
            raise PermissionError("no disk")
    if event == "os.mkdir" and arguments[0] != "/proc":  # it exists; torch asks for it nevertheless
        broken.append(("mkdir", str(arguments[0])))
        raise PermissionError("no disk")

files = {}
for name in os.listdir(sys.argv[1]):
    with open(os.path.join(sys.argv[1], name), "rb") as file:
        files[name] = bytearray(file.read())
sys.addaudithook(watch)

import asyncio
from collections import namedtuple
from anchorhold.enclave.model.engine import EngineSettings, GenerationRequest
from anchorhold.enclave.model.transformers_engine import TransformersEngine

Turn = namedtuple("Turn", "role content calls", defaults=[None])

async def main():
    engine = TransformersEngine.load(files, EngineSettings("bfloat16", 512, 2, 1))
    chunks = [chunk async for chunk in engine.submit(GenerationRequest("1", [Turn("user", "hi")], 8))]
    engine.close()
    return sum(len(chunk.token_ids) for chunk in chunks)

print(asyncio.run(main()), broken)
"""


def test_the_engine_loads_and_answers_with_no_network_no_disk_and_no_environment(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    done = subprocess.run(
        [sys.executable, "-B", "-I", "-c", PROGRAM, str(tmp_path)],
        capture_output=True, text=True, timeout=120, env={"HOME": "/nonexistent"}, cwd="/", check=False,
    )  # fmt: skip
    assert done.stdout == "8 []\n", done.stdout + done.stderr[-2000:]
    assert not os.path.exists("/nonexistent")  # noqa: PTH110 - a name, not a file of ours
