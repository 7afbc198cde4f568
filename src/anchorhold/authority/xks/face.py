"""The XKS face: a batch of requests is one transaction. Each is authenticated, decided, done and journaled in it, and
answered once all of it is on disk.

1 each request is authenticated, under the secrets as they are now; 2 each is decided; 3 the work with keys that was
allowed is done side by side, each within its request's time; 4 each request's entry is appended; 5 commit.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLong

from sqlalchemy.exc import SQLAlchemyError

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.journal import Entry, Journal
from anchorhold.authority.keystore.store import KeyExhausted, Keystore, KeystoreBusy
from anchorhold.authority.xks.authenticate import Secrets, Signatures, Signed, authenticate
from anchorhold.authority.xks.decide import Around, decide
from anchorhold.authority.xks.denials import Denials
from anchorhold.authority.xks.faults import Error, XksFault
from anchorhold.authority.xks.paths import Operation
from anchorhold.authority.xks.state import ExternalKey, State, Transaction
from anchorhold.authority.xks.turn import ENTRY, ENTRY_REFUSED, Answer, Asked, Turn

HANDS = 8  # threads that work with keys: as many as a token's sessions
COMMIT_S = 0.05  # of each request's time is kept for its entry to reach the disk


class _OneFailed(Exception):
    """A decision that ended in a fault of ours."""

    def __init__(self, place: int, kind: str) -> None:
        super().__init__(kind)
        self.place = place
        self.kind = kind


class XksFace:
    """See the module. `run` is called by one thread at a time."""

    def __init__(  # noqa: PLR0913 - what a face is made of
        self,
        state: State,
        around: Around,
        keystore: Keystore,
        journal: Journal,
        *,
        clock: Callable[[], Milliseconds],
        ticks: Callable[[], float],
        signatures: Signatures,
        denials: Denials,
    ) -> None:
        self._state = state
        self._around = around
        self._secrets = Secrets(keystore)
        self._journal = journal
        self._clock = clock
        self._ticks = ticks
        self._signatures = signatures
        self._denials = denials
        self._hands = ThreadPoolExecutor(HANDS, "xks-keys")

    def run(self, batch: Sequence[Asked]) -> Sequence[Answer | XksFault]:
        """The answers, once they are in the journal and on disk. Raises what the database raises: nothing was done."""
        failed: dict[int, XksFault] = {}
        while True:
            try:
                return self._attempt(batch, failed)
            except _OneFailed as one:
                # A fault of ours in one decision undoes the batch; the others are decided again without it.
                failed[one.place] = XksFault(Error.INTERNAL, one.kind)

    def _attempt(self, batch: Sequence[Asked], failed: Mapping[int, XksFault]) -> Sequence[Answer | XksFault]:
        turns = [Turn(asked) for asked in batch]
        with self._state.batch() as transaction:
            # The time is read under the write lock. One from before would be older than what others did meanwhile: a
            # signature that they forgot since as too old would be taken again.
            now = self._clock()
            self._authenticate(turns, transaction, now)
            keys = transaction.keys_named({turn.asked.target.key for turn in turns if turn.open})
            for place, turn in enumerate(turns):
                if place in failed:
                    turn.fault, turn.rule = failed[place], "internal"
                elif turn.open:
                    self._decide(place, turn, keys, transaction, now)
            self._use(turns)
            self._enter(turns, transaction, now)
        return [turn.reply() for turn in turns]

    def close(self) -> None:
        """No work is begun any more."""
        self._hands.shutdown(wait=False, cancel_futures=True)
        self._state.close()

    def _authenticate(self, turns: Sequence[Turn], transaction: Transaction, now: Milliseconds) -> None:
        secrets = self._secrets.of(transaction.credentials())
        signed: list[tuple[Turn, Signed]] = []
        for turn in turns:
            try:
                self._in_time(turn.asked)
                who = authenticate(turn.asked.request, secrets, self._around.identity.region, now)
                signed.append((turn, who))
            except XksFault as fault:
                turn.fault = fault
        found = self._signatures.accept(transaction, [who for _, who in signed], now)
        for (turn, who), refused in zip(signed, found, strict=True):
            turn.fault = refused
            turn.credential = who.access_key_id if refused is None else None

    def _decide(
        self, place: int, turn: Turn, keys: Mapping[str, ExternalKey], transaction: Transaction, now: Milliseconds
    ) -> None:
        try:
            decide(turn, keys, transaction.connection, self._around, now)
        except XksFault as fault:
            # A denial's own counters and tickets are kept.
            turn.fault = fault
        except SQLAlchemyError:
            raise
        except Exception as error:
            raise _OneFailed(place, type(error).__name__) from error

    def _in_time(self, asked: Asked) -> None:
        if self._ticks() >= asked.deadline - COMMIT_S:
            raise XksFault(Error.DEPENDENCY_TIMEOUT, "the request waited too long for its turn")

    def _use(self, turns: Sequence[Turn]) -> None:
        """Everything that was allowed, side by side; what does not return in time is answered without it."""
        begun = [(turn, self._hands.submit(turn.use)) for turn in turns if turn.use is not None]
        for turn, work in begun:
            try:
                turn.answer = self._outcome(turn, work)
            except XksFault as fault:
                turn.fault = fault
                turn.rule = "key-store" if fault.error is not Error.INVALID_CIPHERTEXT else "ciphertext"

    def _outcome(self, turn: Turn, work: "Future[Answer]") -> Answer:
        try:
            return work.result(timeout=max(0.0, turn.asked.deadline - COMMIT_S - self._ticks()))
        except (TooLong, KeystoreBusy) as error:
            work.cancel()
            if turn.asked.target.operation is Operation.HEALTH:
                return self._around.health.unavailable()
            raise XksFault(Error.DEPENDENCY_TIMEOUT, "the key store did not answer in time") from error
        except KeyExhausted as error:
            raise XksFault(Error.INVALID_STATE, "the external key sealed as much as one key may: rotate it") from error
        except XksFault:
            raise
        except Exception as error:
            # A key store's own words may name objects and places: the journal gets the kind of fault alone.
            raise XksFault(Error.INTERNAL, f"the key store failed: {type(error).__name__}") from error

    def _enter(self, turns: Sequence[Turn], transaction: Transaction, now: Milliseconds) -> None:
        entries = [entry for turn in turns if (entry := self._entry(turn, now)) is not None]
        if entries:
            self._journal.append_all(transaction.connection, now, entries)

    def _entry(self, turn: Turn, now: Milliseconds) -> Entry | None:
        """None for a stranger whose refusal is over the budget of those."""
        if turn.authenticated:
            return ENTRY, turn.entry()
        left_out = self._denials.take(now)
        return None if left_out is None else (ENTRY_REFUSED, turn.refusal(left_out))
