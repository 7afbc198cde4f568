"""`POST /v1/responses`, the part of it that is text in and text out. Nothing is stored, so nothing can be continued."""

from collections.abc import Callable, Sequence

from anchorhold.attestation.channel.body import MAX_MESSAGES, MAX_NEW_TOKENS, Message, Role
from anchorhold.attestation.channel.client import Delta, Finished
from anchorhold.client.openai_api.answers import Head, Object, encode
from anchorhold.client.openai_api.errors import invalid, unsupported
from anchorhold.client.openai_api.fields import Fields
from anchorhold.client.openai_api.requests import (
    DEFAULT_CHAT_TOKENS,
    NOTHING,
    ROLES,
    Generation,
    check_model,
    common_settings,
)
from anchorhold.client.sdk import Settings

TEXT_PARTS = ("input_text", "output_text", "text")


def responses_request(fields: Fields, names: Sequence[str], base: Settings) -> Generation:
    """Raises ApiError."""
    check_model(fields, names)
    instructions = fields.text("instructions")
    asked = _input(fields)
    if instructions is not None:
        asked = (Message(Role.SYSTEM, instructions), *asked)
    length = fields.whole("max_output_tokens", 1, MAX_NEW_TOKENS) or DEFAULT_CHAT_TOKENS
    settings = common_settings(fields, base, max_tokens=length)
    stream = fields.flag("stream")
    form = fields.object("text")
    if form is not None:
        kind = form.object("format")
        if kind is not None and kind.take("type") != "text":
            raise unsupported("text", "only text is supported: nothing here can promise another form")
    fields.only("store", False, why="nothing is stored, so nothing can be")
    fields.only("truncation", "disabled")
    fields.only("tools", [])
    fields.only("tool_choice", "auto", "none")
    fields.only("include", [])
    fields.only("background", False)
    fields.only("service_tier", "auto", "default")
    for name in ("previous_response_id", "conversation", "prompt", "reasoning", "top_logprobs", "max_tool_calls"):
        fields.only(name)
    fields.ignore((*NOTHING, "parallel_tool_calls", "stream_options"))
    fields.end()
    return Generation(asked, settings, 1, stream, usage=False)


class ResponseWriter:
    """One response, whole or as events. It is `completed` once its receipt has been verified, and never before."""

    done = b""

    def __init__(self, head: Head, *, keep: Callable[[Finished], str], told: Callable[[list[str]], Object]) -> None:
        self.receipts: list[str] = []
        self._head = head
        self._keep = keep
        self._told = told
        self._text: list[str] = []
        self._finished: Finished | None = None
        self._number = 0
        self._item = f"msg_{head.id.removeprefix('resp_')}"

    def line(self, value: Object) -> bytes:
        """One server-sent event."""
        return b"event: " + str(value["type"]).encode() + b"\ndata: " + encode(value) + b"\n\n"

    def take(self, _index: int, event: Delta | Finished) -> list[Object]:
        """The events that a stream sends for it."""
        begun = [] if self._text or self._finished else self._begin()
        if isinstance(event, Delta):
            self._text.append(event.text)
            return [*begun, self._about("response.output_text.delta", delta=event.text, logprobs=[])]
        self._finished = event
        self.receipts.append(self._keep(event))
        part, text = self._part(), "".join(self._text)
        return [
            *begun,
            self._about("response.output_text.done", text=text, logprobs=[]),
            self._about("response.content_part.done", part=part),
            self._numbered("response.output_item.done", output_index=0, item=self._message()),
        ]

    def end(self) -> list[Object]:
        """What a stream sends last."""
        return [self._numbered(f"response.{self._status()}", response=self.whole())]

    def whole(self) -> Object:
        """The response object."""
        status = self._status()
        members: Object = {
            "id": self._head.id,
            "object": "response",
            "created_at": self._head.created,
            "model": self._head.model,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "output": [self._message()] if self._finished is not None else [],
            "parallel_tool_calls": False,
            "tool_choice": "auto",
            "tools": [],
            "store": False,
            "usage": self._usage(),
        }
        return members | (self._told(self.receipts) if self.receipts else {})

    def _begin(self) -> list[Object]:
        empty = {"type": "output_text", "text": "", "annotations": []}
        item: Object = {
            "id": self._item,
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        return [
            self._numbered("response.created", response=self.whole()),
            self._numbered("response.in_progress", response=self.whole()),
            self._numbered("response.output_item.added", output_index=0, item=item),
            self._about("response.content_part.added", part=empty),
        ]

    def _numbered(self, kind: str, **members: object) -> Object:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **members}

    def _about(self, kind: str, **members: object) -> Object:
        return self._numbered(kind, item_id=self._item, output_index=0, content_index=0, **members)

    def _status(self) -> str:
        if self._finished is None:
            return "in_progress"
        return "completed" if self._finished.finish.reason.value == "stop" else "incomplete"

    def _part(self) -> Object:
        return {"type": "output_text", "text": "".join(self._text), "annotations": [], "logprobs": []}

    def _message(self) -> Object:
        whole = {"role": "assistant", "status": self._status(), "content": [self._part()]}
        return {"id": self._item, "type": "message", **whole}

    def _usage(self) -> Object | None:
        if self._finished is None:
            return None
        finish = self._finished.finish
        return {
            "input_tokens": finish.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": finish.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": finish.prompt_tokens + finish.completion_tokens,
        }


def _input(fields: Fields) -> tuple[Message, ...]:
    value = fields.take("input")
    if isinstance(value, str) and value:
        return (Message(Role.USER, value),)
    items = fields.objects("input") if isinstance(value, list) else None
    if not items or len(items) > MAX_MESSAGES:
        raise invalid(f"input: expected a text, or 1 to {MAX_MESSAGES} messages", param="input")
    return tuple(_message(one) for one in items)


def _message(fields: Fields) -> Message:
    fields.only("type", "message", why="only messages are supported")
    name = fields.required("role")
    if name not in ROLES or ROLES[name] is Role.TOOL:
        raise invalid(f"role: expected system, developer, user or assistant, got {name!r:.40}", param="input")
    content = fields.take("content")
    fields.ignore(("id", "status", "phase"))
    fields.end()
    if isinstance(content, str):
        return Message(ROLES[name], content)
    if not isinstance(content, list):
        raise fields.wrong("content", "a string or a list", content)
    pieces: list[str] = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") not in TEXT_PARTS or not isinstance(part.get("text"), str):
            raise unsupported("content", "only parts of text are supported")
        pieces.append(str(part["text"]))
    return Message(ROLES[name], "".join(pieces))
