"""Continuous batching by transformers, with its measured faults closed (docs/adr, facts: one fatal request kills all).

- A request that cannot fit the cache is refused before it is added; in the library it kills the generation thread.
- `add_request` answering None is an error here, not a warning; a dead thread is seen and the manager built anew.
- Cancelling ends our own stream, since the library delivers nothing, and takes the handler away.
- Block sharing is off: with it, anyone's earlier prompt shows in the next one's time to first token.
- The library's loggers are shut: its messages quote token ids.
- Seeds, penalties and probabilities are ours (`choice_engine.py`): the library has them for the whole batch or not.
- `may_step` is asked in every step, before its tokens exist; where it raises, the batch ends with that step.
- A GPU that has failed does not come back within a process: the engine then refuses, and can still be wiped.
All streams of one engine belong to the event loop of the first one.
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from anchorhold.enclave.model.choice_engine import Choice
from anchorhold.enclave.model.engine import (
    Buffer,
    EngineFailed,
    EngineRefused,
    EngineRequest,
    EngineSettings,
    EngineStats,
    GenerationRequest,
    TokenChunk,
    TokenScore,
    check_request,
)
from anchorhold.enclave.model.load import LoadedModel, load, settle, zero_tensors
from anchorhold.enclave.model.lora_engine import Adapters
from anchorhold.enclave.model.sampling_engine import KEY, RequestSampling, pack
from anchorhold.enclave.model.shown import Shown
from anchorhold.enclave.model.stream_engine import Stream
from anchorhold.enclave.model.text import TextStream

# After load.py, which sets the library's offline switches.
import torch  # isort: skip
import transformers  # isort: skip

PAGE_TOKENS = 32  # of one cache block; larger pages waste more of the last one
BATCH_TOKENS = 512  # prompt and decode tokens of one step: bounds the delay a long prompt puts on running streams
WATCH_SECONDS = 0.1  # between two looks at the generation thread
STOP_SECONDS = 10.0  # one step at most passes before the thread sees a stop


class TransformersEngine:
    """The default engine; implements `Engine`."""

    def __init__(
        self, loaded: LoadedModel, settings: EngineSettings, *, may_step: Callable[[], None] = lambda: None
    ) -> None:
        self._loaded = loaded
        self._may_step = may_step
        self._settings = settings
        self._capacity = settings.cache_tokens // PAGE_TOKENS * PAGE_TOKENS
        self._streams: dict[str, Stream] = {}
        # The library drains additions before cancellations, so an id used again at once would be cancelled unseen.
        self._serial = itertools.count()
        self._counts = {"finished": 0, "cancelled": 0, "failed": 0, "rebuilds": 0, "tokens": 0}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: asyncio.Task[None] | None = None
        # One thread, since the template has one budget; a rendering whose client left still ends before the next.
        self._text = ThreadPoolExecutor(max_workers=1, thread_name_prefix="text")
        self._life = threading.Lock()  # around building, stopping and wiping
        self._wiped = self._device_failed = False
        self._adapters = Adapters(loaded.model)
        self._manager = self._start_manager()

    @classmethod
    def load(
        cls, files: Mapping[str, Buffer], settings: EngineSettings, *, may_step: Callable[[], None] = lambda: None
    ) -> "TransformersEngine":
        """An engine out of decrypted buffers, which it keeps and wipes. Raises ModelRefused."""
        for name in ("transformers", "ContinuousBatchingLogger"):
            log = logging.getLogger(name)
            log.handlers, log.propagate, log.disabled = [logging.NullHandler()], False, True
        torch.set_num_threads(settings.threads)
        # The library's generator begins with the same number in every process: answers would be drawn alike.
        torch.manual_seed(secrets.randbits(63))
        return cls(load(files, settings), settings, may_step=may_step)

    async def submit(self, request: EngineRequest) -> AsyncIterator[TokenChunk]:
        """See `Engine`. Codes: unsupported, bad-request, prompt-too-long, busy, adapter, template-*, engine-*."""
        if not isinstance(request, GenerationRequest):
            raise EngineRefused("unsupported", "this model continues text and embeds none")
        self._enter()
        check_request(request)
        if request.id in self._streams:
            raise EngineRefused("bad-request", "the request id is in use")
        if len(self._streams) >= self._settings.max_requests:
            raise EngineRefused("busy", f"expected fewer than {self._settings.max_requests} requests at once")
        stream = self._streams[request.id] = Stream(str(next(self._serial)))
        try:
            stream.adapter = self._adapters.wear(stream.inner, request.adapter)
            prompt = await self._prompt(request)
            self._add(request, prompt, stream)
            plain = stream.choice is None and not request.stop
            chunks = self._chunks(stream, len(prompt)) if plain else self._watched(stream, len(prompt), request)
            async for chunk in chunks:
                yield chunk
        finally:
            self._leave(request.id, stream)

    def cancel(self, request_id: str) -> None:
        """See `Engine`. On the engine's loop only."""
        stream = self._streams.get(request_id)
        if stream is not None:
            stream.end(EngineRefused("cancelled", "the request was cancelled"))

    def stats(self) -> EngineStats:
        """See `Engine`."""
        return EngineStats(active=len(self._streams), **self._counts)

    def load_adapter(self, name: bytes, files: Mapping[str, Buffer]) -> None:
        """See `Engine`."""
        self._adapters.load(name, files)

    def drop_adapter(self, name: bytes) -> None:
        """See `Engine`. A step that runs meanwhile ends on zeros, and its tokens of these streams reach nobody."""
        self._adapters.drop(name, self._lose_adapter)

    def _lose_adapter(self, wearers: frozenset[str]) -> None:
        for stream in list(self._streams.values()):
            if stream.inner in wearers:
                self._on_loop(stream.lose_adapter)

    def wipe(self) -> None:
        """See `Engine`. Weights go first, while the batch may still run: its tokens reach no stream any more."""
        with self._life:
            if self._wiped:
                return
            self._wiped = True
            self._text.shutdown(wait=False, cancel_futures=True)
            for stream in list(self._streams.values()):
                self._on_loop(stream.end, EngineRefused("engine-closed", "the engine has ended"))
            self._loaded.wipe()
            self._adapters.wipe()
            self._stop_manager()
        if self._watch is not None:
            self._on_loop(self._watch.cancel)

    def close(self) -> None:
        """See `Engine`."""
        self.wipe()

    def _enter(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._watch = loop.create_task(self._watch_thread())
        if self._loop is not loop:
            raise ValueError("expected the event loop of the engine's first request")
        if self._wiped:
            raise EngineRefused("engine-closed", "the engine has ended")
        self._require_device()

    def _require_device(self) -> None:
        if self._device_failed:
            raise EngineFailed("engine-failed", "the device has failed and does not come back in this process")

    async def _prompt(self, request: GenerationRequest) -> list[int]:
        loop = asyncio.get_running_loop()
        prompt: list[int] = await loop.run_in_executor(self._text, self._tokens_of, request)
        room = min(self._capacity, self._loaded.context)
        if len(prompt) + request.max_tokens > room:
            raise EngineRefused(
                "prompt-too-long",
                f"expected at most {room} tokens of prompt and answer, got {len(prompt)} and {request.max_tokens}",
            )
        return prompt

    def _tokens_of(self, request: GenerationRequest) -> list[int]:
        if request.prompt is not None:
            ids: list[int] = self._loaded.tokenizer.encode(request.prompt).ids
        else:
            text = self._loaded.template.render(request.messages, request.tools)
            ids = self._loaded.tokenizer.encode(text, add_special_tokens=False).ids
        if not ids:
            raise EngineRefused("bad-request", "the request makes an empty prompt")
        return ids

    def _add(self, request: GenerationRequest, prompt: list[int], stream: Stream) -> None:
        if stream.over:
            return
        if self._wiped:
            raise EngineRefused("engine-closed", "the engine has ended")
        self._may_step()
        if not self._alive():
            self._rebuild()
            self._require_device()
        manager = self._manager
        if Choice.wanted(request):
            stream.choice = Choice(request)
            self._sampling.watch(stream.inner, stream.choice)
        manager.register_result_handler(stream.inner, stream.deliver)
        added = manager.add_request(
            prompt,
            request_id=stream.inner,
            max_new_tokens=request.max_tokens,
            streaming=True,
            eos_token_id=sorted(self._loaded.eos),
            **{KEY: pack(request.temperature, request.top_p)},
        )
        if added is None:
            raise EngineFailed("engine-failed", "the engine did not take the request")

    async def _chunks(self, stream: Stream, prompt_tokens: int) -> AsyncIterator[TokenChunk]:
        text = TextStream(self._decode)
        sent = 0
        while True:
            await stream.changed.wait()
            stream.changed.clear()
            if stream.error is not None:
                raise stream.error
            tokens, over = stream.tokens, stream.over
            new = tuple(tokens[sent:])
            sent += len(new)
            self._counts["tokens"] += len(new)
            piece = text.feed(new)
            if over:
                reason = "stop" if tokens and tokens[-1] in self._loaded.eos else "length"
                self._counts["finished"] += 1
                yield TokenChunk(piece + text.finish(), new, reason, prompt_tokens, sent)
                return
            if new:
                yield TokenChunk(piece, new, None, prompt_tokens, sent)

    async def _watched(
        self, stream: Stream, prompt_tokens: int, request: GenerationRequest
    ) -> AsyncIterator[TokenChunk]:
        """The same, token by token: where a text ends the answer, and what is told of each."""
        text, shown = TextStream(self._decode), Shown[TokenScore](request.stop)
        sent = 0
        while True:
            await stream.changed.wait()
            stream.changed.clear()
            if stream.error is not None:
                raise stream.error
            tokens, over = stream.tokens, stream.over
            first = sent
            while sent < len(tokens) and not shown.stopped:
                shown.feed(text.feed(tokens[sent : sent + 1]), self._score(stream, tokens, sent, request))
                sent += 1
            new = tuple(tokens[first:sent])
            self._counts["tokens"] += len(new)
            if over and not shown.stopped:
                shown.feed(text.finish())
            if shown.stopped or over:
                stream.over = True  # the stop text is an end like any other, and what is still made is cancelled
                reason = "stop" if shown.stopped or (tokens and tokens[-1] in self._loaded.eos) else "length"
                self._counts["finished"] += 1
                piece, scores = shown.take(final=True)
                yield TokenChunk(piece, new, reason, prompt_tokens, sent, scores)
                return
            if new:
                piece, scores = shown.take()
                yield TokenChunk(piece, new, None, prompt_tokens, sent, scores)

    def _score(self, stream: Stream, tokens: list[int], at: int, request: GenerationRequest) -> TokenScore | None:
        """What is told of one token; of the mark that ends an answer, nothing."""
        if request.logprobs is None or stream.choice is None or tokens[at] in self._loaded.eos:
            return None
        told = stream.choice.told[at]
        if told.token != tokens[at]:
            raise EngineFailed("engine-failed", "the engine's tokens are not those that were chosen")
        top = tuple((self._bytes(token), logprob) for token, logprob in told.top)
        return TokenScore(self._bytes(told.token), told.logprob, top)

    def _bytes(self, token: int) -> bytes:
        return self._loaded.bytes_of(str(self._loaded.tokenizer.id_to_token(token) or ""))

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._loaded.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _leave(self, request_id: str, stream: Stream) -> None:
        self._streams.pop(request_id, None)
        self._sampling.forget(stream.inner)
        self._adapters.forget(stream.inner)
        manager = self._manager
        with manager.output_router._lock:  # noqa: SLF001 - the library has no way to take a handler away
            handler = manager.output_router.result_handlers.pop(stream.inner, None)
        if handler is not None and not self._wiped:
            manager.cancel_request(stream.inner)
        if isinstance(stream.error, EngineFailed):
            self._counts["failed"] += 1
        elif not stream.over or stream.error is not None:
            self._counts["cancelled"] += 1

    async def _watch_thread(self) -> None:
        while not (self._wiped or self._device_failed):
            await asyncio.sleep(WATCH_SECONDS)
            if not self._alive():
                await asyncio.to_thread(self._rebuild)

    def _alive(self) -> bool:
        return bool(self._manager.is_running()) and self._manager.background_thread_status.fatal_error is None

    def _rebuild(self) -> None:
        """A new manager in place of a dead one; streams that ran on the old one end with EngineFailed.

        None where the device itself has failed.
        """
        with self._life:
            if self._wiped or self._device_failed or self._alive():
                return
            self._may_step()  # a batch that ended with the lease is not built anew
            old = self._manager
            with old.output_router._lock:  # noqa: SLF001 - as above
                lost = set(old.output_router.result_handlers)
            for stream in list(self._streams.values()):
                if stream.inner in lost:
                    failed = EngineFailed("engine-failed", "the engine failed while this request ran")
                    self._on_loop(stream.end, failed)
            try:
                settle()
            except RuntimeError:
                self._device_failed = True
                return
            self._stop_manager()
            self._counts["rebuilds"] += 1
            self._manager = self._start_manager()

    def _on_loop(self, function: Any, *arguments: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _start_manager(self) -> Any:
        sampling = transformers.GenerationConfig(do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
        sampling.eos_token_id = sorted(self._loaded.eos)
        batching = transformers.ContinuousBatchingConfig(
            page_size=PAGE_TOKENS,
            num_blocks=self._capacity // PAGE_TOKENS,
            max_batch_tokens=BATCH_TOKENS,
            max_requests_per_batch=self._settings.max_requests,
            max_queue_size=self._settings.max_requests,
            allow_block_sharing=False,
            use_async_batching=False,
            use_cuda_graph=False,
            auto_switch_to_flash=False,
            per_request_processors=True,
        )
        manager = self._loaded.model.init_continuous_batching(
            generation_config=sampling, continuous_batching_config=batching
        )
        # The list of processors is made by the manager from the generation config; ours is the only one on it.
        processors = manager.logit_processor
        processors.clear()
        self._sampling = RequestSampling(self._may_step)
        processors.logits_processor.append(self._sampling)
        processors.tensors_required, processors.do_processing = 1, True
        processors._retrieve_processors_kwargs()  # noqa: SLF001 - what the constructor itself calls after its list
        self._adapters.follow(processors)
        manager.start()
        return manager

    def _stop_manager(self) -> None:
        manager = self._manager
        processor = manager.batch_processor
        with contextlib.suppress(RuntimeError):  # a GPU that has failed; the thread has ended by then
            manager.stop(block=True, timeout=STOP_SECONDS, hard_stop=True)
        if processor is not None:
            with contextlib.suppress(RuntimeError):
                settle()  # the last step writes on a stream of its own, and is not to write after the zeros
            held = vars(processor.inputs_and_outputs).values()
            zero_tensors([processor.cache.cache_tensor, *(one for one in held if isinstance(one, torch.Tensor))])
