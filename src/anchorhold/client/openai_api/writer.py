"""Events of one answer become OpenAI's objects, whole or in pieces. A choice ends with its verified receipt, or not."""

from collections.abc import Callable

from anchorhold.attestation.channel.client import Delta, Finished
from anchorhold.client.openai_api.answers import DONE, Choice, Head, Object, chunk, event_line, usage
from anchorhold.client.openai_api.calls import CallReader
from anchorhold.client.openai_api.requests import Generation


class Writer:
    """One answer. `keep` takes a verified receipt and names it; `told` is what we say beside OpenAI's members."""

    done = DONE

    def __init__(
        self,
        wanted: Generation,
        head: Head,
        *,
        keep: Callable[[Finished], str],
        told: Callable[[list[str]], Object],
    ) -> None:
        self.receipts: list[str] = []
        self._wanted = wanted
        self._head = head
        self._keep = keep
        self._told = told
        self._choices = tuple(Choice(at) for at in range(wanted.choices))
        offered = wanted.settings.tools is not None
        self._readers = tuple(
            CallReader(f"call_{head.id[-12:]}_{at}_") if offered else None for at in range(len(self._choices))
        )

    def line(self, value: Object) -> bytes:
        """One server-sent event."""
        return event_line(value)

    def take(self, index: int, event: Delta | Finished) -> list[Object]:
        """The pieces that a stream sends for it."""
        choice, reader = self._choices[index], self._readers[index]
        if isinstance(event, Delta):
            text = event.text if reader is None else reader.feed(event.text)
            return [self._piece(choice, text, event)]
        pieces: list[Object] = []
        if reader is not None:
            rest, choice.calls = reader.end()
            if rest or choice.calls:
                pieces.append(self._piece(choice, rest, None))
        elif not choice.begun:
            pieces.append(self._piece(choice, "", None))
        choice.finished = event
        kept = self._keep(event)
        self.receipts.append(kept)
        last = chunk(self._head, index, reason=choice.reason)
        return [*pieces, last | self._told([kept]) | self._no_usage()]

    def end(self) -> list[Object]:
        """What a stream sends when all choices have ended."""
        if not self._wanted.usage:
            return []
        return [{**self._head.members(chunk=True), "choices": [], "usage": self._usage()}]

    def whole(self) -> Object:
        """The answer that is not streamed."""
        logprobs = self._wanted.settings.logprobs is not None
        choices = [one.whole(chat=self._head.chat, logprobs=logprobs) for one in self._choices]
        members = self._head.members(chunk=False) | {"choices": choices, "usage": self._usage()}
        return members | self._told(self.receipts)

    def _piece(self, choice: Choice, text: str, delta: Delta | None) -> Object:
        tokens = () if delta is None else delta.logprobs
        first, choice.begun = not choice.begun, True
        offset = sum(len(one) for one in choice.text) if tokens else 0
        choice.text.append(text)
        choice.tokens.extend(tokens)
        piece = chunk(
            self._head, choice.index, text=text, tokens=tokens, offset=offset, first=first, calls=choice.calls
        )
        return piece | self._no_usage()

    def _no_usage(self) -> Object:
        return {"usage": None} if self._wanted.usage else {}

    def _usage(self) -> Object:
        return usage([one.finished.finish for one in self._choices if one.finished is not None])
