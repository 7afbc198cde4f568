"""One request's output: written by callbacks on the engine's loop, read by the generator that serves it."""

import asyncio
from typing import Any

from anchorhold.enclave.model.choice_engine import Choice
from anchorhold.enclave.model.engine import EngineFailed, EngineRefused
from anchorhold.enclave.model.lora_engine import LoadedAdapter

FINISHED_STATUS = 3  # RequestStatus.FINISHED; 4 is FAILED


class Stream:
    """Tokens so far, and whether and how it ended."""

    def __init__(self, inner: str) -> None:
        self.inner = inner  # the id the library knows
        self.changed = asyncio.Event()
        self.tokens: list[int] = []
        self.over = False
        self.error: EngineRefused | None = None
        self.choice: Choice | None = None
        self.adapter: LoadedAdapter | None = None

    def deliver(self, output: Any) -> None:
        if self.adapter is not None and self.adapter.gone:
            self.lose_adapter()  # the step may have been computed on zeros
            return
        # The library sends the whole list each time, so only the newest matters: a slow reader gets larger chunks.
        self.tokens = output.generated_tokens
        if output.error is not None:
            self.end(EngineFailed("engine-failed", "the engine failed while this request ran"))
        elif output.status >= FINISHED_STATUS:
            self.end(None)
        self.changed.set()

    def lose_adapter(self) -> None:
        self.end(EngineRefused("adapter", "the adapter was taken away"))

    def end(self, error: EngineRefused | None) -> None:
        if not self.over:
            self.over, self.error = True, error
        self.changed.set()
