"""A model nobody has seen before, and the windows of it that no other process may hold."""

import json
import secrets
from pathlib import Path

from anchorhold.publish.tiny import PRINTABLE, make_tiny_model

from .scan import Marker

PIECE = 192  # bytes of each window of the weights
SETTING = 400  # bytes of each window of a settings file


def random_model(folder: Path) -> Path:
    """The tiny model with weights nobody has seen before, and a comment in its template."""
    make_tiny_model(folder, secrets.token_hex(32))
    with (folder / "chat_template.jinja").open("a") as template:
        template.write("{# " + secrets.token_hex(SETTING // 2) + " #}")
    return folder


def _tensors(raw: bytes) -> list[tuple[str, int, int]]:
    """Name and place of every matrix; of the last one, the rows that are not zero."""
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    found = []
    for name, tensor in header.items():
        if name != "__metadata__" and len(tensor["shape"]) == 2:
            start, stop = (8 + size + at for at in tensor["data_offsets"])
            row = (stop - start) // tensor["shape"][0]
            if name == "lm_head.weight":
                start, stop = start + PRINTABLE.start * row, start + PRINTABLE.stop * row
            found.append((name, start, stop))
    return found


def model_markers(folder: Path) -> list[Marker]:
    """Windows of every matrix, of odd offsets too, and of every settings file."""
    raw = (folder / "model.safetensors").read_bytes()
    found = []
    for name, start, stop in _tensors(raw):
        for at in (start, start + ((stop - start) // 2 & ~1), stop - PIECE):
            found.append(Marker(f"weights {name} {at - start}", raw[at : at + PIECE], halves=True))
    for path in sorted(folder.iterdir()):
        if path.name != "model.safetensors":
            content = path.read_bytes()
            middle = max(0, len(content) - SETTING) // 2
            # Settings share words with other JSON: only a longer piece is this file's.
            found.append(Marker(f"settings {path.name}", content[middle : middle + SETTING], least=48))
    return found
