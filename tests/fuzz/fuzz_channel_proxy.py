"""Any bytes give a request, OpenAI's error form or an EvidenceError, nothing else, in bounded time and memory.

The bodies that programs on this machine send to the proxy, on each route. What is understood can be sealed, or is
refused by the request's own reader; what is not understood is an error whose own text is JSON.
"""

import json
from collections.abc import Callable

from anchorhold.attestation.channel.body import decode_infer, encode_infer
from anchorhold.attestation.errors import EvidenceError
from anchorhold.client.conversation import Inputs, request_of
from anchorhold.client.openai_api.calls import CallReader
from anchorhold.client.openai_api.errors import ApiError
from anchorhold.client.openai_api.fields import Fields, load_body
from anchorhold.client.openai_api.requests import Texts, chat_request, completion_request, embeddings_request
from anchorhold.client.sdk import Settings

MAX_LEN = 8_192
TOKENS = (
    b'"messages"',
    b'"role"',
    b'"content"',
    b'"tools"',
    b'"tool_calls"',
    b'"stream_options"',
    b'"stop"',
    b'"seed"',
    b'"n"',
    b"1e999",
    b"-0",
    b"[[[[",
    b"\\ud800",
    b"NaN",
    b"<tool_call>",
)
NAMES = ("m",)
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
_BODIES: tuple[dict[str, object], ...] = (
    {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    {
        "model": "m",
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "hi"}]},
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "content": "1", "tool_call_id": "c"},
        ],
        "tools": [_TOOL],
        "n": 2,
        "seed": 7,
        "stop": ["x"],
        "logprobs": True,
        "top_logprobs": 2,
        "temperature": 0.5,
        "frequency_penalty": -1.25,
    },
    {"model": "m", "prompt": "once", "max_tokens": 4, "logprobs": 2},
    {"model": "m", "input": ["one", "two"], "encoding_format": "base64"},
)
_CALLS = b'<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'


def seeds() -> list[bytes]:
    """A body of each route, and a text with calls in it."""
    return [*(json.dumps(one).encode() for one in _BODIES), _CALLS, b"{}", b"[" * 2_000, b'{"model":"m","model":"m"}']


def one_input(data: bytes) -> None:
    """The same body on each route, and the same text as a model's."""
    for route in (chat_request, completion_request):
        _asked(data, lambda fields, route=route: route(fields, NAMES, Settings()))  # type: ignore[misc]
    _asked(data, lambda fields: embeddings_request(fields, NAMES))
    _model_says(data.decode("utf-8", "replace"))


def _asked(data: bytes, read: Callable[[Fields], object]) -> None:
    try:
        wanted = read(load_body(data))
    except ApiError as error:
        _refused(error)
        return
    if isinstance(wanted, Texts):
        asked, settings = Inputs(wanted.texts), Settings()
    else:
        asked, settings = wanted.asked, wanted.settings_of(1)  # type: ignore[attr-defined]
    try:
        request = request_of(asked, settings.sampling, "chat", tools=settings.tools, adapter=settings.adapter_digest)
        raw = encode_infer(request)
    except EvidenceError:
        return
    assert decode_infer(raw) == request


def _refused(error: ApiError) -> None:
    assert 400 <= error.status < 500
    assert json.loads(error.body())["error"]["code"] == error.code


def _model_says(text: str) -> None:
    """However a model's text comes in pieces, nothing of it is lost, and it is either text or calls."""
    whole, pieces = CallReader("c"), CallReader("c")
    shown = whole.feed(text)
    bit_by_bit = "".join(pieces.feed(one) for one in text)
    ends = whole.end(), pieces.end()
    assert shown + ends[0][0] == bit_by_bit + ends[1][0]
    assert ends[0][1] == ends[1][1]
    if not ends[0][1]:
        assert shown + ends[0][0] == text
