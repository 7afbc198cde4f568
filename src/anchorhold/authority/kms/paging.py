"""Pages of lists: Limit, Marker, NextMarker, Truncated. A marker is opaque to callers: operation and place."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import KmsFault

MAX_MARKER = 1_024  # characters, the KMS model's limit
MAX_LIMIT = 1_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One list: the member it is answered in, its pages' size, and its rows in the order of `key`.

    `rows(after, limit)` are at most `limit` rows whose key comes after.
    """

    member: str
    default: int
    most: int
    rows: Callable[[str, int], Sequence[T]]
    key: Callable[[T], str]
    show: Callable[[T], object]

    def page(self, call: Call) -> Answer:
        """Raises InvalidMarkerException and ValidationException."""
        limit = call.fields.number("Limit", least=1, most=MAX_LIMIT) or self.default
        limit = min(limit, self.most)
        marker = call.fields.text("Marker", least=1, most=MAX_MARKER)
        after = "" if marker is None else self._after(call, marker)
        rows = self.rows(after, limit + 1)
        answer: dict[str, object] = {self.member: [self.show(row) for row in rows[:limit]]}
        if len(rows) > limit:
            answer["NextMarker"] = self._marker(call, self.key(rows[limit - 1]))
        return answer | {"Truncated": len(rows) > limit}

    def _marker(self, call: Call, at: str) -> str:
        return base64.urlsafe_b64encode(f"{call.draft.name}\n{at}".encode()).decode()

    def _after(self, call: Call, marker: str) -> str:
        try:
            operation, _, after = base64.urlsafe_b64decode(marker.encode()).decode().partition("\n")
        except (binascii.Error, ValueError) as error:
            raise _invalid() from error
        if operation != call.draft.name or "\0" in after:  # PostgreSQL has no text with NUL in it
            raise _invalid()
        return after


def sequence(rows: Mapping[str, T]) -> Callable[[str, int], Sequence[tuple[str, T]]]:
    """The rows of a list that is at hand."""
    return lambda after, limit: [one for one in sorted(rows.items()) if one[0] > after][:limit]


def _invalid() -> KmsFault:
    return KmsFault("InvalidMarkerException", "the marker is not one that this operation gave")
