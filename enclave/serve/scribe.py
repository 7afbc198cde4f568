"""The scribe writes this boot's transcript: one record at a time, in order, each seen in the log before the next.

Every reply is checked: the record is in the tree of a checkpoint signed by the configured log key, and that tree
extends the largest one seen before. What does not hold is a contradiction, and the scribe stays dead. A record that was
signed is sent again until the log has it, byte for byte: no sequence number is ever used twice.

All work runs on one thread of its own, so `write` is for boot code and `awrite` for asyncio, and both keep their order.
"""

import asyncio
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.transcript.append import AppendReply, AppendRequest
from anchorhold.attestation.transcript.batch import MAX_BATCH, ReceiptLeaf, batch_root, encode_leaves
from anchorhold.attestation.transcript.bodies import Batch, Body, Close, Death, Genesis, Heartbeat, LogLease
from anchorhold.attestation.transcript.checkpoint import Checkpoint, Vkey
from anchorhold.attestation.transcript.entry import Entry, SignedRecord, SigningKeys, sign_record
from anchorhold.attestation.transcript.tree import leaf_hash, verify_consistency, verify_inclusion
from anchorhold.attestation.types import Milliseconds, StatementDigest
from anchorhold.enclave.keys.clock import ClockDoubt
from anchorhold.enclave.serve.log_errors import BootEnded, EntryUnmade, LogBehind, LogContradiction, LogUnavailable

BATCH_INTERVAL_S = 1.0  # facts: a batch is one second or 256 receipts, whichever comes first
MAX_POSTED = 256  # entries not signed yet; a renewal makes two or three, so this is hours of a dead log
MAX_UNSENT = 64  # records signed and not yet in the log; a longer silence ends the log lease anyway
MAX_LEAVES_WAITING = 4_096  # receipts; sixteen batches
DEATH_OFFER_S = 5.0  # DESIGN 5: a death record is offered for at most so long

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Included:
    """A record of ours that the log has: entry number, place in the log, the checkpoint that shows it."""

    seq: int
    index: int
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class LogLeaseGrant:
    """Counts from the making of the heartbeat: feed `made_at` and `ttl_s` to the gate."""

    made_at: float
    ttl_s: float
    until_ms: Milliseconds


@dataclass(frozen=True, slots=True)
class _Unsent:
    seq: int
    t: Milliseconds
    record: SignedRecord
    attachments: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ScribeContext:
    """What a scribe is given. `append` blocks: it sends a request body to the log and returns the reply body."""

    keys: SigningKeys
    append: Callable[[bytes], bytes]
    log: Vkey
    clock_ms: Callable[[], int]
    boottime: Callable[[], float]


class Scribe:
    """One boot's writer. Thread-safe; `close` when the boot is over."""

    def __init__(self, context: ScribeContext) -> None:
        self._context = context
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scribe")
        self._boot: StatementDigest | None = None
        self._seq = 0
        self._head = b""
        self._time = 0
        self._seen: Checkpoint | None = None
        self._unsent: deque[_Unsent] = deque()
        self._failure: LogContradiction | None = None
        self._on_contradiction: Callable[[str], None] = lambda _code: None
        self._ended = False
        self._lock = threading.Lock()
        self._posted: deque[tuple[Body, tuple[bytes, ...]]] = deque()
        self._leaves: list[tuple[int, ReceiptLeaf]] = []
        self._timer: threading.Timer | None = None

    def watch(self, on_contradiction: Callable[[str], None]) -> None:
        """Who is told at once, by a code, when the log is caught; not to block."""
        self._on_contradiction = on_contradiction

    # For boot code

    def open_checkpoint(self, note: bytes) -> Checkpoint | None:
        """The checkpoint the genesis nonce is made of, checked; the log is held to it from then on. None if empty.

        Raises LogContradiction.
        """
        return self._submit(lambda: self._take_first(note)).result()

    def genesis(self, boot: StatementDigest, body: Genesis, attachments: Sequence[bytes]) -> Included:
        """The first entry. Raises LogUnavailable, LogContradiction."""
        return self._submit(lambda: self._genesis(boot, body, attachments)).result()

    def write(self, body: Body, attachments: Sequence[bytes] = ()) -> Included:
        """Signs and logs one entry. Raises LogUnavailable (the entry stays, and goes first), LogContradiction.

        Raises LogBehind or EntryUnmade where the entry was not signed.
        """
        return self._submit(lambda: self._write(body, attachments)).result()

    def renew(self, heartbeat: Callable[[int], Heartbeat], ttl_ms: int) -> LogLeaseGrant:
        """Heartbeat, seen in the log, then the log lease entry. `heartbeat` gets the largest size seen.

        Raises LogUnavailable, LogContradiction.
        """
        return self._submit(lambda: self._renew(heartbeat, ttl_ms)).result()

    # For whoever must not wait

    def post(self, body: Body, attachments: Sequence[bytes] = (), *, spare: int = 0) -> None:
        """An entry that stands before all that is signed from now on; `push` sends it. Never blocks.

        So no batch, log lease or last record overtakes it, however slow the log. It leaves `spare` places for others.
        Raises LogUnavailable when too many wait, TooLarge for attachments that the log does not take.
        """
        AppendRequest(b"", tuple(attachments), 0).encode()
        with self._lock:
            if len(self._posted) >= MAX_POSTED - spare:
                raise LogUnavailable(f"{MAX_POSTED - spare} entries wait for the log")
            self._posted.append((body, tuple(attachments)))

    def push(self, timeout_s: float | None = None) -> None:
        """Everything posted so far is signed and in the log.

        Raises LogBehind, EntryUnmade, LogUnavailable (also after `timeout_s`; it goes on then), LogContradiction.
        """
        try:
            self._submit(self._push).result(timeout_s)
        except FutureTimeout as error:
            raise LogUnavailable(f"the log did not take what waits within {timeout_s:g} s") from error

    # For asyncio

    async def awrite(self, body: Body, attachments: Sequence[bytes] = ()) -> Included:
        """`write`, without blocking the loop. A cancelled caller does not take its entry back."""
        return await asyncio.shield(asyncio.wrap_future(self._submit(lambda: self._write(body, attachments))))

    async def arenew(self, heartbeat: Callable[[int], Heartbeat], ttl_ms: int) -> LogLeaseGrant:
        """`renew`, without blocking the loop."""
        return await asyncio.shield(asyncio.wrap_future(self._submit(lambda: self._renew(heartbeat, ttl_ms))))

    # For the exchanges

    def receipt(self, commitment: bytes, tag: bytes) -> None:
        """Takes what the log gets of one receipt; it is in the log with the next batch. Never blocks.

        Raises LogUnavailable when too many wait, LogContradiction.
        """
        leaf = ReceiptLeaf(commitment, tag)
        self.check()
        with self._lock:
            if len(self._leaves) >= MAX_LEAVES_WAITING:
                raise LogUnavailable(f"{MAX_LEAVES_WAITING} receipts wait for the log")
            self._leaves.append((self._clock(), leaf))
            if len(self._leaves) % MAX_BATCH == 0:
                self._thread.submit(self._flush_quietly)
            elif self._timer is None:
                self._start_timer()

    def flush(self) -> None:
        """Logs all receipts taken so far. Raises LogUnavailable, LogContradiction."""
        self._submit(self._flush).result()

    def check(self) -> None:
        """Raises LogContradiction once the log was caught."""
        if self._failure is not None:
            raise self._failure

    # The end

    def offer_death(self, death: Death, *, within_s: float = DEATH_OFFER_S) -> Included | None:
        """Signs and offers the last entry, behind all that was posted. Never raises for the log.

        None where the log did not take it in time: it goes on for as long as the process does.
        """
        future = self._submit(lambda: self._last(death))
        try:
            return future.result(timeout=within_s)
        except (FutureTimeout, LogUnavailable, LogContradiction):
            return None

    def close(self) -> None:
        """No more entries. What the process does not live to send is lost: the auditor sees a boot without an end."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
        self._thread.shutdown(wait=False)

    # On the scribe's own thread

    def _take_first(self, note: bytes) -> Checkpoint | None:
        if not note:
            return None
        try:
            checkpoint = self._context.log.open_checkpoint(note)
        except EvidenceError as error:
            raise self._dead(error) from error
        self._seen = checkpoint
        return checkpoint

    def _genesis(self, boot: StatementDigest, body: Genesis, attachments: Sequence[bytes]) -> Included:
        if self._boot is not None:
            raise ValueError("this boot has its genesis")
        self._boot = boot
        return self._write(body, attachments)

    def _write(self, body: Body, attachments: Sequence[bytes]) -> Included:
        self._enqueue(body, attachments)
        included = self._send_all()
        assert included is not None  # the entry just queued was among them
        return included

    def _push(self) -> None:
        self.check()
        self._sign_posted()
        self._send_all()

    def _sign_posted(self) -> None:
        """What was posted, in its order; what cannot be made stays the first, so that nothing takes its place."""
        while self._posted:
            try:
                self._queue(*self._posted[0])
            except (LogUnavailable, LogContradiction):
                raise
            except Exception as error:
                raise EntryUnmade(f"an entry could not be made: {type(error).__name__}") from error
            self._posted.popleft()

    def _enqueue(self, body: Body, attachments: Sequence[bytes]) -> _Unsent:
        self._sign_posted()
        return self._queue(body, attachments)

    def _queue(self, body: Body, attachments: Sequence[bytes]) -> _Unsent:
        self.check()
        if self._ended:
            raise BootEnded("the last record of this boot is signed")
        if isinstance(body, Genesis) != (self._seq == 0):
            raise ValueError(f"entry {self._seq}: genesis is the first entry, and only the first")
        if len(self._unsent) >= MAX_UNSENT:
            try:
                self._send_all()
            except LogUnavailable as error:
                raise LogBehind(f"{MAX_UNSENT} entries wait for the log") from error
        unsent = self._sign(body, attachments)
        self._unsent.append(unsent)
        return unsent

    def _sign(self, body: Body, attachments: Sequence[bytes]) -> _Unsent:
        if self._boot is None:
            raise ValueError("no entry before the genesis")
        entry = Entry(self._boot, self._seq, self._head, Milliseconds(self._clock()), body)
        record = sign_record(entry, self._context.keys)
        # Only an entry that can be sent takes its number.
        AppendRequest(record.raw, tuple(attachments), 0).encode()
        self._seq, self._head, self._time = entry.seq + 1, record.head, entry.t
        self._ended = isinstance(body, Close | Death)
        return _Unsent(entry.seq, entry.t, record, tuple(attachments))

    def _send_all(self) -> Included | None:
        included = None
        while self._unsent:
            included = self._send(self._unsent[0])
            self._unsent.popleft()
        return included

    def _send(self, unsent: _Unsent) -> Included:
        since = self._seen.size if self._seen is not None else 0
        request = AppendRequest(unsent.record.raw, unsent.attachments, since)
        try:
            raw = self._context.append(request.encode())
        except OSError as error:
            raise LogUnavailable(f"entry {unsent.seq}: no answer from the log") from error
        try:
            return self._accept(unsent, AppendReply.decode(raw))
        except EvidenceError as error:
            raise self._dead(error) from error

    def _accept(self, unsent: _Unsent, reply: AppendReply) -> Included:
        # 1. The configured log signed this head.
        checkpoint = self._context.log.open_checkpoint(reply.checkpoint)
        # 2. Its tree extends the largest one seen, which never shrinks.
        seen = self._seen
        if seen is not None and checkpoint.size < seen.size:
            raise Mismatch("log size", expected=f"at least {seen.size}", actual=checkpoint.size)
        if seen is not None and seen.size:
            verify_consistency(seen.size, checkpoint.size, seen.root, checkpoint.root, reply.consistency)
        # 3. Our record is in it, behind all that was seen before it was sent.
        leaf = leaf_hash(unsent.record.raw)
        verify_inclusion(leaf, reply.index, checkpoint.size, reply.proof, checkpoint.root)
        if seen is not None and reply.index < seen.size:
            raise Mismatch(f"index of entry {unsent.seq}", expected=f"at least {seen.size}", actual=reply.index)
        self._seen = checkpoint
        return Included(unsent.seq, reply.index, checkpoint)

    def _renew(self, heartbeat: Callable[[int], Heartbeat], ttl_ms: int) -> LogLeaseGrant:
        self.check()
        self._push()  # what waits goes first, so that tries during a silence do not pile up heartbeats
        made_at = self._context.boottime()
        beat = self._enqueue(heartbeat(self._seen.size if self._seen is not None else 0), ())
        included = self._send_all()
        assert included is not None  # the heartbeat was the last of the queue
        head = included.checkpoint
        until = Milliseconds(beat.t + ttl_ms)
        self._write(LogLease(included.index, head.size, head.root, ttl_ms, until, ()), ())
        return LogLeaseGrant(made_at, ttl_ms / 1000, until)

    def _flush(self) -> None:
        while chunk := self._waiting():
            leaves = [leaf for _, leaf in chunk]
            raw = encode_leaves(leaves)
            digest = hashlib.sha256(raw).digest()
            self._enqueue(Batch(batch_root(leaves), len(leaves), digest, chunk[0][0], chunk[-1][0]), (raw,))
            # Only now: an entry that could not be made leaves its receipts waiting.
            with self._lock:
                del self._leaves[: len(chunk)]
        self._push()

    def _waiting(self) -> list[tuple[int, ReceiptLeaf]]:
        with self._lock:
            return self._leaves[:MAX_BATCH]

    def _flush_quietly(self) -> None:
        try:
            self._flush()
        except LogUnavailable:
            with self._lock:
                if self._timer is None:
                    self._start_timer()
        except LogContradiction:
            return  # kept in `check`, and whoever watches was told

    def _flush_what_can_be_made(self) -> None:
        while True:
            try:
                return self._flush()
            except EntryUnmade:
                self._posted.popleft()  # the boot ends for this one; the others keep their places

    def _last(self, death: Death) -> Included:
        with suppress(LogUnavailable, LogContradiction):
            self._flush_what_can_be_made()
        if self._failure is None:
            return self._write(death, ())
        # A log that was caught is still offered the record: if it keeps it, the auditor reads why the boot ended.
        unsent = self._sign(death, ())
        with suppress(OSError):
            self._context.append(AppendRequest(unsent.record.raw, (), 0).encode())
        raise self._failure

    def _dead(self, error: EvidenceError) -> LogContradiction:
        self._failure = LogContradiction(str(error))
        self._on_contradiction(self._failure.code)
        return self._failure

    def _clock(self) -> int:
        try:
            return max(self._time, self._context.clock_ms())
        except ClockDoubt:
            return self._time  # the record that says so still needs a time, and may not go back

    def _start_timer(self) -> None:
        self._timer = threading.Timer(BATCH_INTERVAL_S, self._on_timer)
        self._timer.daemon = True
        self._timer.start()

    def _on_timer(self) -> None:
        with self._lock:
            self._timer = None
        with suppress(RuntimeError):  # the scribe was closed meanwhile
            self._thread.submit(self._flush_quietly)

    def _submit(self, work: Callable[[], T]) -> "Future[T]":
        return self._thread.submit(work)
