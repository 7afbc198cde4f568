"""The processes of the loading bench: `serve`, and one load of `sealed`, `plain` or `from_pretrained`.

`python -m bench.loading_child ROLE ROOM FOLDER`; what the load must know comes in on stdin, figures go out on stdout.
"""

import asyncio
import gc
import json
import mmap
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from anchorhold.wire.messages import Port

DTYPE = "bfloat16"  # as in the files, so that every tensor is a view
_RESET_PEAK = "5"  # proc(5), clear_refs


def serve(room: Path, folder: Path) -> None:
    """The parent's blob port, sealed folder at `w-sealed` and plain one at `w-plain`, until stdin ends."""
    from anchorhold.parent.blobs import Blobs
    from anchorhold.parent.config import UnixWindow
    from anchorhold.parent.health import Health
    from anchorhold.parent.link import listen

    async def both() -> None:
        for name, source in (("w-sealed", room / "model"), ("w-plain", folder)):
            await listen(UnixWindow(room / name), Port.BLOBS, Blobs(source, Health(lambda _: None)).handle)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)

    asyncio.run(both())


def load(mode: str, room: Path, folder: Path) -> dict[str, float]:
    """One load and what it took."""
    given = json.loads(sys.stdin.buffer.read())
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    # Their modules load when first asked for, which takes over a second and has nothing to do with the way.
    _ = transformers.LlamaForCausalLM, transformers.AutoModelForCausalLM, transformers.AutoTokenizer
    transformers.utils.logging.disable_progress_bar()
    ways: dict[str, type[_Sealed] | type[_Pretrained]] = {
        "sealed": _Sealed,
        "plain": _Plain,
        "from_pretrained": _Pretrained,
    }
    way = ways[mode](room, folder, given)
    gc.collect()
    gc.freeze()  # as the enclave does: else a full collection over all of torch falls on one way or the other
    before = _memory()
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    wall, cpu = time.perf_counter(), time.process_time()
    way.read()
    read, read_cpu = time.perf_counter() - wall, time.process_time() - cpu
    way.make()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    after = _memory()
    # The kernel keeps the peak of all resident memory; file pages only ever come in here, so the rest was anonymous.
    mapped = after["RssFile"] + after["RssShmem"]
    peak = after["VmHWM"] - mapped - before["RssAnon"]
    return {
        "wall": wall,
        "cpu": cpu,
        "read": read,
        "read_cpu": read_cpu,
        "peak": peak,
        "mapped": mapped - before["RssFile"],
    }


class _Sealed:
    """As the enclave does between its shares and its engine: signature, key, bodies, engine's loader."""

    def __init__(self, room: Path, _folder: Path, given: Mapping[str, str]) -> None:
        from anchorhold.attestation.sealed.signature import MAX_BUNDLE, verify_manifest
        from anchorhold.attestation.types import ModelDigest
        from anchorhold.enclave.keys.secret import Secret
        from anchorhold.enclave.model import load, sealed_files
        from anchorhold.enclave.parent_ports import fetch_ahead, fetch_small
        from anchorhold.enclave.serve.transport import UnixWindow

        window = UnixWindow(room / "w-sealed")

        def read() -> Mapping[str, memoryview]:
            raw, bundle = fetch_small(window, "manifest", 1 << 20), fetch_small(window, "signature", MAX_BUNDLE)
            roots, model = (bytes.fromhex(given["root"]),), ModelDigest(bytes.fromhex(given["model"]))
            manifest, _ = verify_manifest(raw, bundle, roots, model)
            key = sealed_files.unlock(manifest, {"bench": Secret(bytes.fromhex(given["share"]))})
            self._opened = sealed_files.open_sealed(manifest, key, lambda name: fetch_ahead(window, name))
            return self._opened.files

        self._read, self._load = read, load.load

    def read(self) -> None:
        self._files = self._read()

    def make(self) -> None:
        from anchorhold.enclave.model.engine import EngineSettings

        self._loaded = self._load(self._files, EngineSettings(DTYPE, 1_024, 1, 1))


class _Plain(_Sealed):
    """The same frames of the plain files into buffers of the same kind, and the same loader."""

    def __init__(self, room: Path, folder: Path, given: Mapping[str, str]) -> None:
        super().__init__(room, folder, given)
        from anchorhold.enclave.parent_ports import fetch_ahead
        from anchorhold.enclave.serve.transport import UnixWindow

        window = UnixWindow(room / "w-plain")
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}

        def read() -> Mapping[str, memoryview]:
            files = {}
            for name, size in sizes.items():
                files[name] = memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
                at = 0
                for piece in fetch_ahead(window, name):
                    files[name][at : at + len(piece)] = piece
                    at += len(piece)
            return files

        self._read = read


class _Pretrained:
    """What transformers does with the folder on a disk. It maps the file: an enclave has no page cache to map."""

    def __init__(self, _room: Path, folder: Path, _given: Mapping[str, str]) -> None:
        import torch
        import transformers

        self._model, self._tokenizer = transformers.AutoModelForCausalLM, transformers.AutoTokenizer
        self._folder, self._dtype = folder, torch.bfloat16

    def read(self) -> None:
        """Nothing of its own."""

    def make(self) -> None:
        self._made = (
            self._model.from_pretrained(self._folder, dtype=self._dtype),
            self._tokenizer.from_pretrained(self._folder),
        )


def _memory() -> dict[str, int]:
    """Bytes, by the names of /proc/self/status."""
    fields = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in fields if words[-1] == "kB"}


def main(role: str, room: Path, folder: Path) -> None:
    if role == "serve":
        serve(room, folder)
    else:
        sys.stdout.write(json.dumps(load(role, room, folder)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
