"""The engine that a model's own configuration calls for: one that continues text, or one that embeds it."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from anchorhold.enclave.model.encoder_engine import EncoderEngine
from anchorhold.enclave.model.engine import Buffer, EngineSettings
from anchorhold.enclave.model.load import is_encoder
from anchorhold.enclave.model.transformers_engine import TransformersEngine

AnyEngine: TypeAlias = EncoderEngine | TransformersEngine
"""Each is an `Engine` and an `AdapterHost`."""


def load_engine(files: Mapping[str, Buffer], settings: EngineSettings, *, may_step: Callable[[], None]) -> AnyEngine:
    """An engine out of decrypted buffers, which it keeps and wipes. Raises ModelRefused."""
    if is_encoder(files):
        return EncoderEngine.load(files, settings, may_step=may_step)
    return TransformersEngine.load(files, settings, may_step=may_step)
