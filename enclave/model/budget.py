"""What one rendering of a chat template may take: steps, seconds, and characters made.

Each operation that can multiply is predicted before it is done, so no single one is large.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

MAX_STEPS = 200_000
MAX_SECONDS = 1.0
MAX_TEXT = 2 << 20  # characters or items of any one value; messages have at most 1 MiB
MAX_MADE = 64 << 20  # characters and items made in one rendering, all values together
MAX_INTEGER = 1 << 63
MAX_INDENT = 8
CLOCK_EVERY = 64  # steps between two looks at the clock
_SCALARS = (str, int, float, bool, type(None))


class TemplateStopped(Exception):
    """The template went over a limit; the message names the limit and nothing of the content."""


class Budget:
    """Counts for one rendering at a time; `start` begins the next."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._steps = self._made = 0
        self._end = 0.0

    def start(self) -> None:
        self._steps, self._made, self._end = MAX_STEPS, MAX_MADE, self._clock() + MAX_SECONDS

    def step(self) -> str:
        """One step. Raises TemplateStopped."""
        self._steps -= 1
        if self._steps < 0:
            raise TemplateStopped(f"the chat template took more than {MAX_STEPS} steps")
        if self._steps % CLOCK_EVERY == 0 and self._clock() > self._end:
            raise TemplateStopped(f"the chat template took more than {MAX_SECONDS} s")
        return ""

    def charge(self, size: int) -> None:
        """A value of that size is made. Raises TemplateStopped."""
        self._made -= size
        if size > MAX_TEXT:
            raise TemplateStopped(f"the chat template made a value of more than {MAX_TEXT} characters")
        if self._made < 0:
            raise TemplateStopped(f"the chat template made more than {MAX_MADE} characters")

    def made(self, value: Any) -> Any:
        """A value that one bounded operation gave: its own length is charged."""
        if isinstance(value, str | list | tuple | dict):
            self.charge(len(value))
        elif isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise TemplateStopped("the chat template made an integer of more than 64 bits")
        return value

    def weighed(self, value: object) -> Any:
        """A container just built: all it holds counts, shared parts as often as they would be printed."""
        self.step()
        if not isinstance(value, list | tuple | dict):
            return self.made(value)
        weight = 0
        waiting: list[object] = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, dict):
                waiting += [*item.keys(), *item.values()]
            elif isinstance(item, list | tuple):
                waiting += item
            elif not isinstance(item, _SCALARS):
                raise TemplateStopped("the chat template put something other than plain values into a list")
            weight += 1 + (len(item) if isinstance(item, str) else 0)
            if weight > MAX_TEXT:
                break
        self.charge(weight)
        return value

    def shown(self, value: Any) -> Any:
        """A value about to be printed. A namespace is not: its text can be exponential in its depth."""
        if hasattr(value, "_Namespace__attrs"):
            raise TemplateStopped("the chat template printed a namespace")
        return value

    def concat(self, parts: Iterable[Any]) -> str:
        """The parts as one text."""
        texts, size = [], 0
        for part in parts:
            text = part if isinstance(part, str) else str(self.shown(part))
            size += len(text)
            if size > MAX_TEXT:
                break
            texts.append(text)
        self.charge(size)
        return "".join(texts)

    def join(self, value: Iterable[Any], separator: str = "") -> str:
        """The filter `join` and the method of that name."""
        self.step()
        texts: list[str] = []
        size = -len(separator)
        for part in value:
            texts.append(part if isinstance(part, str) else str(self.shown(part)))
            size += len(texts[-1]) + len(separator)
            if size > MAX_TEXT:
                break
        self.charge(max(size, 0))
        return str(separator).join(texts)

    def replace(self, text: object, old: object, new: object, count: int | None = None) -> str:
        """The filter `replace` and the method of that name; the result's size is known before it is made."""
        self.step()
        whole, part, other = str(self.shown(text)), str(self.shown(old)), str(self.shown(new))
        most = -1 if count is None else count
        found = whole.count(part) if most < 0 else min(whole.count(part), most)
        self.charge(max(0, len(whole) + found * (len(other) - len(part))))
        return whole.replace(part, other, most)

    def to_json(
        self, value: Any, indent: int | None = None, ensure_ascii: bool = False, sort_keys: bool = False
    ) -> str:
        """The filter `tojson` as transformers' templates expect it: nothing is escaped for HTML."""
        self.step()
        if indent is not None and not 0 <= indent <= MAX_INDENT:
            raise TemplateStopped(f"tojson: expected an indent of at most {MAX_INDENT}")
        text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, sort_keys=sort_keys)
        self.charge(len(text))
        return text

    def predict(self, operator: str, left: Any, right: Any) -> None:
        """Charge an operator's result before it is made. Raises TemplateStopped."""
        self.step()
        if operator == "**" or (operator == "%" and not isinstance(left, int | float)):
            raise TemplateStopped(f"the operator {operator} is not for chat templates")
        for many, times in ((left, right), (right, left)):
            if operator == "*" and isinstance(many, str | list | tuple) and isinstance(times, int):
                self.charge(max(0, len(many) * times))
        if operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            self.charge(len(left) + len(right))
