"""The plaintext models that `sim up` can seal: two fetched by digest, one of random weights, or anybody's folder."""

from collections.abc import Callable
from pathlib import Path

from anchorhold.publish import minilm, smollm
from anchorhold.publish.tiny import make_tiny_model

MODELS = ("smollm2", "minilm", "tiny")


def plaintext(chosen: str, state: Path, cache: Path, progress: Callable[[str, int, int], None]) -> tuple[Path, str]:
    """The folder of the model `chosen`, and its model id. Raises PublishError."""
    if chosen == "smollm2":
        folder = cache / smollm.MODEL_ID
        smollm.fetch_smollm(folder, progress)
        return folder, smollm.MODEL_ID
    if chosen == "minilm":
        folder = cache / minilm.MODEL_ID
        minilm.fetch_minilm(folder, progress)
        return folder, minilm.MODEL_ID
    if chosen == "tiny":
        folder = state / "tiny-plaintext"
        if not folder.exists():
            make_tiny_model(folder)
        return folder, "tiny-random-llama"
    folder = Path(chosen)
    return folder, folder.resolve().name
