"""Texts to vectors by direct forward passes: mean over the tokens, then length one (docs/spec/sealed-model.md 3).

One thread computes, a few texts of one request at a time, so requests take turns and no two tenants share a batch.
`may_step` is asked before every pass. A text that is too long is refused: a vector of its head would be taken for its
own. What Python cannot promise: texts, tokens and activations are freed, not wiped.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from anchorhold.enclave.model.engine import (
    Buffer,
    EmbeddingChunk,
    EmbeddingRequest,
    EngineRefused,
    EngineRequest,
    EngineSettings,
    EngineStats,
    ModelRefused,
    check_inputs,
)
from anchorhold.enclave.model.load import LoadedEncoder, load_encoder, require_writable, zero

# After load.py, which sets the library's offline switches.
import torch  # isort: skip

BATCH_TEXTS = 16  # of one pass: bounds how long another request waits
BATCH_TOKENS = 2_048  # of one pass, padding counted
A = TypeVar("A")
T = TypeVar("T")


class EncoderEngine:
    """Implements `Engine` for an encoder."""

    def __init__(
        self, loaded: LoadedEncoder, settings: EngineSettings, *, may_step: Callable[[], None] = lambda: None
    ) -> None:
        self._loaded = loaded
        self._settings = settings
        self._may_step = may_step
        self._ends: dict[str, asyncio.Future[None]] = {}
        self._counts = {"finished": 0, "cancelled": 0, "failed": 0, "tokens": 0}
        self._work = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode")
        self._life = threading.Lock()
        self._wiped = False

    @classmethod
    def load(
        cls, files: Mapping[str, Buffer], settings: EngineSettings, *, may_step: Callable[[], None] = lambda: None
    ) -> "EncoderEngine":
        """An engine out of decrypted buffers, which it keeps and wipes. Raises ModelRefused."""
        torch.set_num_threads(settings.threads)
        return cls(load_encoder(files, settings), settings, may_step=may_step)

    async def submit(self, request: EngineRequest) -> AsyncIterator[EmbeddingChunk]:
        """See `Engine`. Codes: unsupported, bad-request, prompt-too-long, busy, cancelled, engine-closed."""
        if not isinstance(request, EmbeddingRequest):
            raise EngineRefused("unsupported", "this model embeds texts and continues none")
        self._require_open()
        check_inputs(request)
        if request.id in self._ends:
            raise EngineRefused("bad-request", "the request id is in use")
        if len(self._ends) >= self._settings.max_requests:
            raise EngineRefused("busy", f"expected fewer than {self._settings.max_requests} requests at once")
        end = self._ends[request.id] = asyncio.get_running_loop().create_future()
        end.add_done_callback(_seen)
        done = failed = False
        try:
            async for chunk in self._chunks(request, end):
                done = chunk.last
                yield chunk
        except EngineRefused:
            raise
        except Exception:
            failed = True
            raise
        finally:
            del self._ends[request.id]
            end.cancel()
            self._counts["finished" if done else "failed" if failed else "cancelled"] += 1

    def cancel(self, request_id: str) -> None:
        """See `Engine`. On the engine's loop only."""
        end = self._ends.get(request_id)
        if end is not None:
            _refuse(end, EngineRefused("cancelled", "the request was cancelled"))

    def stats(self) -> EngineStats:
        """See `Engine`."""
        return EngineStats(active=len(self._ends), rebuilds=0, **self._counts)

    def load_adapter(self, name: bytes, files: Mapping[str, Buffer]) -> None:
        """See `Engine`. Always refused."""
        require_writable(files)
        for buffer in files.values():
            zero(buffer)
        raise ModelRefused("an encoder takes no adapter")

    def drop_adapter(self, name: bytes) -> None:
        """See `Engine`. There is none."""

    def wipe(self) -> None:
        """See `Engine`. A pass that runs meanwhile ends on zeros, and its vectors reach nobody."""
        with self._life:
            if self._wiped:
                return
            self._wiped = True
            closed = EngineRefused("engine-closed", "the engine has ended")
            for end in list(self._ends.values()):
                loop = end.get_loop()
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_refuse, end, closed)
            self._loaded.wipe()
            self._work.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """See `Engine`."""
        self.wipe()

    async def _chunks(self, request: EmbeddingRequest, end: "asyncio.Future[None]") -> AsyncIterator[EmbeddingChunk]:
        tokens: list[list[int]] = await self._either(end, self._tokens_of, request)
        index = total = 0
        for batch in _batches(tokens):
            vectors: list[bytes] = await self._either(end, self._vectors_of, batch)
            self._counts["tokens"] += sum(len(one) for one in batch)
            for one, vector in zip(batch, vectors, strict=True):
                total += len(one)
                yield EmbeddingChunk(index, vector, index == len(tokens) - 1, total)
                index += 1

    async def _either(self, end: "asyncio.Future[None]", work: Callable[[A], T], argument: A) -> T:
        """What `work` gives in the thread, unless the request ends first. Raises what either raises."""
        self._require_open()
        made = asyncio.get_running_loop().run_in_executor(self._work, work, argument)
        made.add_done_callback(_seen)
        either: set[asyncio.Future[Any]] = {made, end}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if end.done():
            made.cancel()
            end.result()
        if made.cancelled():  # by `wipe`, before it began
            raise EngineRefused("engine-closed", "the engine has ended")
        return made.result()

    def _tokens_of(self, request: EmbeddingRequest) -> list[list[int]]:
        made = [encoding.ids for encoding in self._loaded.tokenizer.encode_batch(list(request.inputs))]
        longest = max(len(ids) for ids in made)
        if longest > self._loaded.max_tokens:
            raise EngineRefused(
                "prompt-too-long", f"expected at most {self._loaded.max_tokens} tokens of one text, got {longest}"
            )
        if not all(made):
            raise EngineRefused("bad-request", "a text makes no tokens")
        return made

    def _vectors_of(self, batch: Sequence[list[int]]) -> list[bytes]:
        self._require_open()
        self._may_step()
        model = self._loaded.model
        longest = max(len(ids) for ids in batch)
        ids = torch.tensor([one + [0] * (longest - len(one)) for one in batch], device=model.device)
        mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in batch], device=model.device)
        with torch.inference_mode():
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weights = mask.unsqueeze(-1).float()
        mean = (states * weights).sum(1) / weights.sum(1)
        unit = torch.nn.functional.normalize(mean, dim=1).cpu()
        self._require_open()
        if not bool(torch.isfinite(unit).all()):
            raise ValueError("the model gave numbers that are not finite")
        return [row.numpy().astype("<f4").tobytes() for row in unit]

    def _require_open(self) -> None:
        if self._wiped:
            raise EngineRefused("engine-closed", "the engine has ended")


def _batches(tokens: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    """In order, at most so many texts and tokens together."""
    batch: list[list[int]] = []
    longest = 0
    for one in tokens:
        wider = max(longest, len(one))
        if batch and (len(batch) == BATCH_TEXTS or wider * (len(batch) + 1) > BATCH_TOKENS):
            yield batch
            batch, wider = [], len(one)
        batch.append(one)
        longest = wider
    yield batch


def _seen(future: "asyncio.Future[Any]") -> None:
    """A failure that nobody waits for any more is no event for the loop, whose report would print it."""
    if not future.cancelled():
        future.exception()


def _refuse(end: "asyncio.Future[None]", error: EngineRefused) -> None:
    if not end.done():
        end.set_exception(error)
