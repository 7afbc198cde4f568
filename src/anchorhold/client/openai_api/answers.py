"""Answers in OpenAI's form. Pure. `finish_reason` and `usage` are only made from a verified receipt's `Finished`."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from anchorhold.attestation.channel.body import Finish
from anchorhold.attestation.channel.client import Finished
from anchorhold.attestation.channel.pieces import Candidate, Embedding, TokenLogprob
from anchorhold.client.openai_api.calls import Call

Object = dict[str, object]


@dataclass(frozen=True, slots=True)
class Head:
    """What every object of one answer has in common."""

    id: str
    created: int
    model: str
    fingerprint: str
    chat: bool

    def members(self, *, chunk: bool) -> Object:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.chat else "text_completion"
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


@dataclass(slots=True)
class Choice:
    """One choice as it comes together."""

    index: int
    text: list[str] = field(default_factory=list)
    tokens: list[TokenLogprob] = field(default_factory=list)
    calls: tuple[Call, ...] = ()
    begun: bool = False
    finished: Finished | None = None

    @property
    def reason(self) -> str:
        assert self.finished is not None, "a choice is told once it has its receipt"
        return "tool_calls" if self.calls else self.finished.finish.reason.value

    def whole(self, *, chat: bool, logprobs: bool) -> Object:
        """The choice of an answer that is not streamed."""
        text = "".join(self.text)
        scores = scored(self.tokens, chat=chat) if logprobs else None
        if not chat:
            return {"index": self.index, "text": text, "logprobs": scores, "finish_reason": self.reason}
        message: Object = {"role": "assistant", "content": text or None if self.calls else text, "refusal": None}
        if self.calls:
            message["tool_calls"] = [one.whole() for one in self.calls]
        return {"index": self.index, "message": message, "logprobs": scores, "finish_reason": self.reason}


def chunk(  # noqa: PLR0913 - the form has as many members
    head: Head,
    index: int,
    *,
    text: str = "",
    tokens: Sequence[TokenLogprob] = (),
    offset: int = 0,
    first: bool = False,
    calls: Sequence[Call] = (),
    reason: str | None = None,
) -> Object:
    """One piece of a stream."""
    scores = scored(tokens, chat=head.chat, offset=offset) if tokens else None
    if not head.chat:
        choice: Object = {"index": index, "text": text, "logprobs": scores, "finish_reason": reason}
    else:
        delta: Object = {"role": "assistant"} if first else {}
        if text or first:
            delta["content"] = text
        if calls:
            delta["tool_calls"] = [{"index": at, **one.whole()} for at, one in enumerate(calls)]
        choice = {"index": index, "delta": delta, "logprobs": scores, "finish_reason": reason}
    return {**head.members(chunk=True), "choices": [choice]}


def usage(finishes: Sequence[Finish]) -> Object:
    """The prompt counts once, as OpenAI counts it; every choice's tokens count."""
    prompt = finishes[0].prompt_tokens
    made = sum(one.completion_tokens for one in finishes)
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def embeddings(model: str, vectors: Sequence[Embedding], finish: Finish, *, as_base64: bool) -> Object:
    """The list of vectors."""
    data = [
        {
            "object": "embedding",
            "index": one.index,
            "embedding": base64.b64encode(one.raw).decode() if as_base64 else list(one.vector),
        }
        for one in vectors
    ]
    tokens = finish.prompt_tokens
    return {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def models(every: Sequence[Object]) -> Object:
    """The model under its alias, and under the name of each adapter."""
    return {"object": "list", "data": list(every)}


def model(named: str, extension: Mapping[str, object]) -> Object:
    return {"id": named, "object": "model", "created": 0, "owned_by": "anchorhold", "anchorhold": dict(extension)}


def scored(tokens: Sequence[TokenLogprob], *, chat: bool, offset: int = 0) -> Object:
    """Probabilities, in the form of either route."""
    if chat:
        content = [{**_candidate(one), "top_logprobs": [_candidate(other) for other in one.top]} for one in tokens]
        return {"content": content, "refusal": None}
    texts = [_text(one.token) for one in tokens]
    offsets, at = [], offset
    for text in texts:
        offsets.append(at)
        at += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [one.logprob_micro / 1e6 for one in tokens],
        "top_logprobs": [{_text(other.token): other.logprob_micro / 1e6 for other in one.top} for one in tokens],
        "text_offset": offsets,
    }


def encode(value: Object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def event_line(value: Object) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def _candidate(one: TokenLogprob | Candidate) -> Object:
    return {"token": _text(one.token), "logprob": one.logprob_micro / 1e6, "bytes": list(one.token)}


def _text(token: bytes) -> str:
    return token.decode("utf-8", "replace")
