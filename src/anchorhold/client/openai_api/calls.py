"""Tool calls in a model's text: `<tool_call>{"name", "arguments"}</tool_call>`, the form that open models are taught.

Only looked for where tools were offered. From the first mark on text is held back until the answer is whole: it is
either all calls, or it is text and goes out as text. Nothing is guessed.
"""

import json
from dataclasses import dataclass

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MAX_CALLS = 64


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """One call the model asks for. `arguments` is JSON text, as OpenAI has it."""

    id: str
    name: str
    arguments: str

    def whole(self) -> dict[str, object]:
        """The member of `tool_calls`."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


class CallReader:
    """Text goes in as it comes; what may be shown comes out."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._held = ""

    def feed(self, text: str) -> str:
        """The text that cannot be part of a call."""
        self._held += text
        at = self._held.find(OPEN)
        if at < 0:
            # The end may be the beginning of a mark.
            at = next((i for i in range(max(0, len(self._held) - len(OPEN)), len(self._held)) if self._starts(i)), -1)
        if at < 0:
            at = len(self._held)
        shown, self._held = self._held[:at], self._held[at:]
        return shown

    def end(self) -> tuple[str, tuple[Call, ...]]:
        """What was held: text, or calls."""
        held, self._held = self._held, ""
        calls = self._read(held)
        return ("", calls) if calls else (held, ())

    def _starts(self, at: int) -> bool:
        return OPEN.startswith(self._held[at:])

    def _read(self, held: str) -> tuple[Call, ...]:
        """The calls, if the text is calls and nothing else; otherwise none."""
        calls: list[Call] = []
        rest = held.strip()
        while rest:
            inside, mark, after = rest.removeprefix(OPEN).partition(CLOSE)
            call = self._one(inside, len(calls)) if rest.startswith(OPEN) and mark else None
            if call is None or len(calls) >= MAX_CALLS:
                return ()
            calls.append(call)
            rest = after.strip()
        return tuple(calls)

    def _one(self, text: str, number: int) -> Call | None:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return None
        arguments = value.get("arguments", {})
        if not isinstance(arguments, dict):
            return None
        return Call(f"{self._prefix}{number}", value["name"], json.dumps(arguments, ensure_ascii=False))
