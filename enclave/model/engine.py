"""The seam between serving and whatever turns a conversation into tokens, or texts into vectors (DESIGN 8).

An engine is made from buffers only and reaches no file, network or environment. Prompts of distrusting tenants share
one batch and never a cache block. What Python cannot promise: a request's strings and token lists are freed, not wiped.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from anchorhold.attestation.configuration import EngineSettings

__all__ = [
    "MAX_CONTENT_BYTES",
    "MAX_MESSAGES",
    "AdapterHost",
    "Buffer",
    "ChatMessage",
    "EmbeddingChunk",
    "EmbeddingRequest",
    "Engine",
    "EngineChunk",
    "EngineFailed",
    "EngineRefused",
    "EngineRequest",
    "EngineSettings",
    "EngineStats",
    "GenerationRequest",
    "ModelRefused",
    "TokenChunk",
    "TokenScore",
]

MAX_MESSAGES = 256  # turns of one conversation; a template walks them all
MAX_CONTENT_BYTES = 1 << 20  # UTF-8 of all turns together: one window frame
MAX_ROLE_BYTES = 32
MAX_INPUTS = 256  # texts of one embedding request
MAX_NEW_TOKENS = 1 << 16
MAX_TEMPERATURE = 2.0
MAX_PENALTY = 2.0
MAX_LOGPROBS = 20
MAX_STOPS = 4
MAX_STOP = 256  # characters
MAX_ID_BYTES = 64

Buffer: TypeAlias = memoryview | bytearray  # a decrypted file; writable, or it could not be wiped


class ModelRefused(Exception):
    """The model's own files do not hold: a lying header, an unknown architecture, a template out of bounds."""


class EngineRefused(Exception):
    """This request is not served; `code` may leave the enclave, the message may not name any of its content."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class EngineFailed(EngineRefused):
    """The engine broke under this request through no fault of the caller; a new request may succeed."""


class ChatMessage(Protocol):
    """One turn."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...
    @property
    def calls(self) -> str | None:
        """An assistant's tool calls, as JSON."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """`temperature` 0 is greedy. `namespace` is the verified tenant's; no cache is shared within it either, yet.

    `prompt` stands instead of messages and is taken as it is. `logprobs` is how many alternatives are told with each
    token, None for nothing. `tools` is JSON, for a template that takes it. `adapter` is the digest that one is loaded
    under.
    """

    id: str
    messages: Sequence[ChatMessage]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    namespace: bytes = b""
    prompt: str | None = None
    tools: str | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    adapter: bytes | None = None


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token's own bytes, the logarithm of its probability, and the likeliest at its place with theirs."""

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """New text and the tokens since the chunk before; the last one has a `finish_reason`, `stop` or `length`.

    Text that could be the beginning of a stop text comes later than its tokens. `scores` are those of the tokens whose
    text ends in this chunk's.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    scores: tuple[TokenScore, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to embed, each by itself."""

    id: str
    inputs: Sequence[str]
    namespace: bytes = b""


@dataclass(frozen=True, slots=True)
class EmbeddingChunk:
    """The vector of input `index`, float32 little-endian; `prompt_tokens` are those of all inputs so far."""

    index: int
    vector: bytes
    last: bool
    prompt_tokens: int


EngineRequest: TypeAlias = GenerationRequest | EmbeddingRequest
EngineChunk: TypeAlias = TokenChunk | EmbeddingChunk


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counts that may leave the enclave."""

    active: int
    finished: int
    cancelled: int
    failed: int
    rebuilds: int
    tokens: int


class Engine(Protocol):
    """What serving needs of an engine."""

    def submit(self, request: EngineRequest) -> AsyncIterator[EngineChunk]:
        """Chunks as they come; leaving the iterator cancels. The first step raises EngineRefused if not admitted.

        A request of the other kind, or for what the model cannot do, is refused with `unsupported`.
        """

    def cancel(self, request_id: str) -> None:
        """End that stream with EngineRefused `cancelled` and free its cache. Unknown ids are ignored."""

    def stats(self) -> EngineStats:
        """Now."""

    def wipe(self) -> None:
        """End every stream, zero weights and cache, stop. For good; safe to call again and from any thread."""

    def close(self) -> None:
        """The same: an engine that has stopped holds nothing."""


class AdapterHost(Protocol):
    """What the room for adapters needs of an engine. Its wipe ends them too."""

    def load_adapter(self, name: bytes, files: Mapping[str, Buffer]) -> None:
        """Keep and later wipe these buffers: a LoRA adapter that requests may name. Streams run on meanwhile.

        Blocks; from any thread but the loop's. Raises ModelRefused, and then the buffers are zeroed already.
        """

    def drop_adapter(self, name: bytes) -> None:
        """End every stream of it with EngineRefused `adapter` and zero it; done when this returns.

        From any thread. Unknown names are ignored.
        """


def check_inputs(request: EmbeddingRequest) -> None:
    """Bounds that need no model. Raises EngineRefused."""
    _check_id(request.id)
    if not 1 <= len(request.inputs) <= MAX_INPUTS or not all(request.inputs):
        raise EngineRefused("bad-request", f"inputs: expected 1 to {MAX_INPUTS} texts, none empty")
    size = sum(len(text.encode()) for text in request.inputs)
    if size > MAX_CONTENT_BYTES:
        raise EngineRefused("prompt-too-long", f"inputs: expected at most {MAX_CONTENT_BYTES} bytes, got {size}")


def check_request(request: GenerationRequest) -> None:
    """Bounds that need no model. Raises EngineRefused."""
    _check_id(request.id)
    if request.prompt is not None:
        _check_prompt(request)
    elif not 1 <= len(request.messages) <= MAX_MESSAGES:
        raise EngineRefused("bad-request", f"messages: expected 1 to {MAX_MESSAGES}, got {len(request.messages)}")
    if any(len(message.role.encode()) > MAX_ROLE_BYTES for message in request.messages):
        raise EngineRefused("bad-request", f"role: expected at most {MAX_ROLE_BYTES} bytes")
    size = sum(len(message.content.encode()) for message in request.messages)
    if size > MAX_CONTENT_BYTES:
        raise EngineRefused("prompt-too-long", f"messages: expected at most {MAX_CONTENT_BYTES} bytes, got {size}")
    if not 1 <= request.max_tokens <= MAX_NEW_TOKENS:
        raise EngineRefused("bad-request", f"max_tokens: expected 1 to {MAX_NEW_TOKENS}, got {request.max_tokens}")
    if not 0.0 <= request.temperature <= MAX_TEMPERATURE:
        raise EngineRefused("bad-request", f"temperature: expected 0 to {MAX_TEMPERATURE}, got {request.temperature}")
    if not 0.0 < request.top_p <= 1.0:
        raise EngineRefused("bad-request", f"top_p: expected over 0 to 1, got {request.top_p}")
    if not all(abs(one) <= MAX_PENALTY for one in (request.frequency_penalty, request.presence_penalty)):
        raise EngineRefused("bad-request", f"penalties: expected -{MAX_PENALTY} to {MAX_PENALTY}")
    if not 0 <= (request.logprobs or 0) <= MAX_LOGPROBS:
        raise EngineRefused("bad-request", f"logprobs: expected at most {MAX_LOGPROBS}, got {request.logprobs}")
    if len(request.stop) > MAX_STOPS or not all(1 <= len(one) <= MAX_STOP for one in request.stop):
        raise EngineRefused("bad-request", f"stop: expected at most {MAX_STOPS} texts of 1 to {MAX_STOP} characters")


def _check_prompt(request: GenerationRequest) -> None:
    if request.messages or request.tools is not None:
        raise EngineRefused("bad-request", "expected messages or a prompt, not both; tools go with messages")
    size = len((request.prompt or "").encode())
    if size > MAX_CONTENT_BYTES:
        raise EngineRefused("prompt-too-long", f"prompt: expected at most {MAX_CONTENT_BYTES} bytes, got {size}")


def _check_id(request_id: str) -> None:
    if not 1 <= len(request_id) <= MAX_ID_BYTES:
        raise EngineRefused(
            "bad-request", f"request id: expected 1 to {MAX_ID_BYTES} characters, got {len(request_id)}"
        )
