"""What a hostile parent may do to the bytes, each by a name, each with the one error that the client must end with."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.attacks.hostile_parent import WAIT_S, Attack, Cut, Evidence, answer_of

from anchorhold.attestation.binding import Serve, decode_statement, encode_statement
from anchorhold.attestation.channel.errors import OutOfOrder, RecordInvalid, Truncated
from anchorhold.attestation.channel.header import Header, decode_opening, encode_header, encode_opening
from anchorhold.attestation.channel.padding import BASIC_MULTIPLE, Padding
from anchorhold.attestation.channel.record import FrameKind, frame
from anchorhold.attestation.channel.seal import HYBRID_SEED, HybridPrivateKey
from anchorhold.attestation.errors import Malformed, Mismatch
from anchorhold.attestation.types import Milliseconds
from anchorhold.client import errors as client
from anchorhold.enclave.serve.transport import CONNECT_LINE
from anchorhold.wire.frames import FrameReader, encode, wrap_proto
from anchorhold.wire.messages import Kind

Change = Callable[[Header], Header]
SOON = Milliseconds(1)


class Drops(Attack):
    """One frame of the answer, by kind: the opening, the first record, or the final one."""

    def __init__(self, kind: FrameKind) -> None:
        self._kind, self._done = kind, False

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        if frame[0] == self._kind and not self._done:
            self._done = True
            return ()
        return (frame,)


class Repeats(Attack):
    """Every frame comes twice."""

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        return (frame, frame)


class Reorders(Attack):
    """The first two records come in the other order."""

    def __init__(self) -> None:
        self._held = b""

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        if at == 1:
            self._held = frame
            return ()
        return (frame, self._held) if at == 2 else (frame,)


class Splits(Attack):
    """From the first record on, each byte is a frame of its own."""

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        return (frame,) if at == 0 else (frame[each : each + 1] for each in range(len(frame)))


class Merges(Attack):
    """The first two records come as one frame."""

    def __init__(self) -> None:
        self._held = b""

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        if at == 1:
            self._held = frame
            return ()
        return (self._held + frame,) if at == 2 else (frame,)


class Truncates(Attack):
    """Nothing from the final record on; with a plain end, or an error."""

    def __init__(self, *, quietly: bool) -> None:
        self._quietly = quietly

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        if frame[0] != FrameKind.FINAL:
            return (frame,)
        if self._quietly:
            return ()
        raise Cut


class EndsEarly(Attack):
    """The first text record is made the final one, and the stream ends there."""

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        if at == 0:
            return (frame,)
        return (bytes([FrameKind.FINAL]) + frame[1:],) if at == 1 else ()


class GoesOn(Attack):
    """After the final record the first text comes again."""

    def __init__(self) -> None:
        self._kept = b""

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        if at == 1:
            self._kept = frame
        return (frame,) if frame[0] != FrameKind.FINAL else (self._kept, frame)


class StripsPadding(Attack):
    """A record without its last 256 bytes of padded ciphertext."""

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        return (frame[:-BASIC_MULTIPLE],) if at == 1 else (frame,)


class Flips(Attack):
    """One bit of the first text."""

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        return (frame[:30] + bytes([frame[30] ^ 1]) + frame[31:],) if at == 1 else (frame,)


class Echoes(Attack):
    """The request's own record as the first of the answer."""

    def __init__(self) -> None:
        self._sent: list[bytes] = []

    def up(self, frames: list[bytes]) -> Iterable[bytes]:
        self._sent = frames
        return frames

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        return (bytes([FrameKind.RECORD]) + self._sent[1][1:],) if at == 1 else (frame,)


class OldAnswer(Attack):
    """The first request is answered; every later one with the same frames."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._whole = False

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        if self._whole:
            return (self._kept[at],) if at < len(self._kept) else ()
        self._kept.append(frame)
        self._whole = frame[0] == FrameKind.FINAL
        return (frame,)


class ReplaysFirst(Attack):
    """The enclave gets the request once before, so that the client's own turn is the second."""

    async def carry(self, window: Path, frames: Iterable[bytes]) -> list[bytes]:
        kept = list(frames)
        await super().carry(window, kept)
        return await super().carry(window, kept)


class ToAnother(Attack):
    """The last of the enclaves gets what is sealed to the first."""

    def enclave(self, count: int) -> int:
        return count - 1


class ChangesHeader(Attack):
    """The clear header says something else: another profile, another deadline, another alias."""

    def __init__(self, change: Change) -> None:
        self._change = change

    def up(self, frames: list[bytes]) -> Iterable[bytes]:
        opening = decode_opening(frames[0][1:])
        header = encode_header(self._change(opening.header))
        return [frame(FrameKind.OPEN, encode_opening(header, opening.slots)), *frames[1:]]


class CutsRequest(Attack):
    """The enclave never gets the last record of the request."""

    def up(self, frames: list[bytes]) -> Iterable[bytes]:
        return frames[:-1]


class BytesAtTheWindow(Attack):
    """No error, for nothing is changed: the request byte by byte, and all of it again as one write in `all_at_once`."""

    def __init__(self, *, all_at_once: bool) -> None:
        self._all_at_once = all_at_once

    async def carry(self, window: Path, frames: Iterable[bytes]) -> list[bytes]:
        raw = b"".join(encode(Kind.INFER_FRAME, wrap_proto(one)) for one in frames) + encode(Kind.INFER_END)
        reader, writer = await asyncio.open_unix_connection(window)
        try:
            writer.write(CONNECT_LINE)
            await reader.readline()
            for piece in [raw] if self._all_at_once else [raw[at : at + 1] for at in range(len(raw))]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            return await answer_of(FrameReader(reader).read)
        finally:
            writer.close()


class Swaps(Attack):
    """Two users of one enclave get each other's frames, from the first or from the one after the opening."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._answers: list[list[bytes]] = []
        self._both = asyncio.Event()

    async def carry(self, window: Path, frames: Iterable[bytes]) -> list[bytes]:
        own = await super().carry(window, frames)
        self._answers.append(own)
        if len(self._answers) == 2:
            self._both.set()
        await asyncio.wait_for(self._both.wait(), WAIT_S)
        other = next(one for one in self._answers if one is not own)
        return own[: self._first] + other[self._first :]


class OthersEvidence(Attack):
    """Another enclave's evidence, genuine and for this very nonce, whole or in part."""

    def __init__(self, *fields: str) -> None:
        self._fields = fields

    def evidence(self, said: Evidence, others: Sequence[Evidence]) -> Evidence:
        return {**said, **{name: others[-1][name] for name in self._fields}}


class OwnKey(Attack):
    """A genuine document, and a statement with a channel key of the parent's own."""

    def evidence(self, said: Evidence, others: Sequence[Evidence]) -> Evidence:
        serve = decode_statement(said["statement"], Serve)
        mine = HybridPrivateKey(bytes(HYBRID_SEED)).public
        return {**said, "statement": encode_statement(replace(serve, channel_key=mine))}


class OldEvidence(Attack):
    """What was said first, for ever: of another nonce, and in time of another epoch."""

    def __init__(self, *fields: str) -> None:
        self._fields = fields
        self.kept: Evidence = {}

    def evidence(self, said: Evidence, others: Sequence[Evidence]) -> Evidence:
        self.kept = self.kept or said
        return {**said, **{name: self.kept[name] for name in self._fields}}


class NoLease(Attack):
    """No owner's lease."""

    def evidence(self, said: Evidence, others: Sequence[Evidence]) -> Evidence:
        return {**said, "owner_lease": b""}


class Hints(Attack):
    """Nothing but a word of its own, which looks like the enclave's."""

    def down(self, at: int, frame: bytes) -> Iterable[bytes]:
        raise Cut


@dataclass(frozen=True)
class Named:
    """An attack and how a client must end: the error's type, its code, and whether any text may have been shown."""

    make: Callable[[], Attack]
    error: type[Exception]
    code: str
    text: bool = False
    before: int = 0
    """Requests of others that go well first."""


_DOCUMENT = ("document", "statement", "owner_lease", "kms_lease", "nonce_proof")
ATTACKS: dict[str, Named] = {
    "drop-opening": Named(lambda: Drops(FrameKind.ANSWER), OutOfOrder, "out-of-order"),
    "drop-first-record": Named(lambda: Drops(FrameKind.RECORD), RecordInvalid, "record"),
    "drop-final": Named(lambda: Drops(FrameKind.FINAL), Truncated, "truncated", text=True),
    "repeat": Named(Repeats, OutOfOrder, "out-of-order"),
    "reorder": Named(Reorders, RecordInvalid, "record"),
    "split": Named(Splits, RecordInvalid, "record"),
    "merge": Named(Merges, RecordInvalid, "record"),
    "truncate": Named(lambda: Truncates(quietly=True), Truncated, "truncated", text=True),
    "cut": Named(lambda: Truncates(quietly=False), Truncated, "truncated", text=True),
    "end-early": Named(EndsEarly, RecordInvalid, "record"),
    "go-on": Named(GoesOn, RecordInvalid, "record", text=True),
    "strip-padding": Named(StripsPadding, RecordInvalid, "record"),
    "flip": Named(Flips, RecordInvalid, "record"),
    "echo": Named(Echoes, RecordInvalid, "record"),
    "old-answer": Named(OldAnswer, Mismatch, "commitment", before=1),
    "replay": Named(ReplaysFirst, client.Refused, "replayed"),
    "replay-to-another": Named(ToAnother, client.Hinted, "unknown-key"),
    "downgrade": Named(
        lambda: ChangesHeader(lambda one: replace(one, padding=Padding.OFF)), client.Hinted, "malformed"
    ),
    "deadline": Named(lambda: ChangesHeader(lambda one: replace(one, deadline=SOON)), client.Hinted, "malformed"),
    "alias": Named(lambda: ChangesHeader(lambda one: replace(one, alias="other")), client.Hinted, "malformed"),
    "cut-request": Named(CutsRequest, client.Hinted, "truncated"),
    "hint": Named(Hints, client.Hinted, "cut"),
    "others-evidence": Named(lambda: OthersEvidence(*_DOCUMENT), client.Hinted, "unknown-key"),
    "others-document": Named(lambda: OthersEvidence("document"), Mismatch, "user-data"),
    "others-statement": Named(lambda: OthersEvidence("statement"), Mismatch, "user-data"),
    "others-lease": Named(lambda: OthersEvidence("owner_lease"), Mismatch, "lease-mismatch"),
    "own-key": Named(OwnKey, Mismatch, "user-data"),
    "old-evidence": Named(lambda: OldEvidence(*_DOCUMENT), Mismatch, "nonce", before=1),
    "no-lease": Named(NoLease, Malformed, "lease-missing"),
}
