"""The one state table of an exchange (docs/spec/channel.md 5). It does not know which end it serves: one set of rules.

What is not in the table is refused, and a refused exchange stays refused.
"""

from enum import Enum

from anchorhold.attestation.channel.errors import OutOfOrder


class State(Enum):
    IDLE = "idle"
    REQUESTING = "requesting"
    REQUESTED = "requested"
    ANSWERING = "answering"
    CONCLUDED = "concluded"
    DONE = "done"
    FAILED = "failed"


class Event(Enum):
    OPENING = "opening"
    REQUEST_RECORD = "request record"
    REQUEST_FINAL = "final request record"
    ANSWER = "answer"
    DELTA = "delta record"
    EMBEDDING = "embedding record"
    DUMMY = "dummy record"
    PART = "part of a record"
    CONCLUSION = "finish or error record"
    RECEIPT = "final record"


NEXT: dict[tuple[State, Event], State] = {
    (State.IDLE, Event.OPENING): State.REQUESTING,
    (State.REQUESTING, Event.REQUEST_RECORD): State.REQUESTING,
    (State.REQUESTING, Event.REQUEST_FINAL): State.REQUESTED,
    (State.REQUESTED, Event.ANSWER): State.ANSWERING,
    (State.ANSWERING, Event.DELTA): State.ANSWERING,
    (State.ANSWERING, Event.EMBEDDING): State.ANSWERING,
    (State.ANSWERING, Event.DUMMY): State.ANSWERING,
    (State.ANSWERING, Event.PART): State.ANSWERING,
    (State.ANSWERING, Event.CONCLUSION): State.CONCLUDED,
    (State.CONCLUDED, Event.DUMMY): State.CONCLUDED,
    (State.CONCLUDED, Event.RECEIPT): State.DONE,
}


class Machine:
    """Where an exchange stands."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = State.IDLE

    def require(self, event: Event) -> None:
        """Raises OutOfOrder, for good, unless `event` may come now. Moves nothing."""
        if (self.state, event) not in NEXT:
            was, self.state = self.state, State.FAILED
            raise OutOfOrder(f"a {event.value} cannot come in state {was.value!r}")

    def move(self, event: Event) -> None:
        """Raises OutOfOrder, for good, if the table has no such move."""
        self.require(event)
        self.state = NEXT[self.state, event]

    def fail(self) -> None:
        self.state = State.FAILED
