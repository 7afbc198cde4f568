"""Channel keys, one an epoch, each with the `serve` statement that attests it (DESIGN 3.6).

A new request on the key before is taken for the grace time; then the key is dropped, and the library clears it. It is
drawn in the library too, so Python never holds a private byte that it could not wipe. Streams in flight do not need
it: they run on their own record keys.

The boot clock may jump ahead (a machine that was paused): keys end by it, and a pause only ends them. It never goes
back; where it does, no end holds any more, and all keys are dropped for good.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from anchorhold.attestation.binding import Serve, encode_statement, key_id, statement_digest
from anchorhold.attestation.channel.enclave import OpenKey
from anchorhold.attestation.channel.seal import SUITE, HybridPrivateKey
from anchorhold.attestation.types import BootId, ConfigDigest, KeyId, Milliseconds, ModelDigest, StatementDigest
from anchorhold.enclave.keys.hybrid import draw_hybrid

CLOCK_BACK = "clock-back"


@dataclass(frozen=True, slots=True)
class Identity:
    """What every `serve` statement of this boot says."""

    boot_id: BootId
    genesis: StatementDigest
    receipt_key: bytes
    model: ModelDigest
    configuration: ConfigDigest


@dataclass(frozen=True, slots=True)
class Epoch:
    """One channel key. The two ends are on the boot clock, in seconds."""

    serve: Serve
    raw_statement: bytes
    statement: StatementDigest
    key_id: KeyId
    key: HybridPrivateKey = field(repr=False)
    rotates_at: float
    forgotten_at: float


class Wiped(Exception):
    """The channel keys are gone, for good."""


class Epochs:
    """Thread-safe. The current epoch, and those before it that are still in their grace time."""

    def __init__(
        self,
        identity: Identity,
        *,
        epoch_ms: int,
        grace_ms: int,
        now_ms: Callable[[], Milliseconds],
        boottime: Callable[[], float],
        on_doubt: Callable[[str], None],
        draw: Callable[[], HybridPrivateKey] = draw_hybrid,
    ) -> None:
        self._identity = identity
        self._epoch_ms = epoch_ms
        self._grace_ms = grace_ms
        self._now_ms = now_ms
        self._boottime = boottime
        self._on_doubt = on_doubt
        self._draw = draw
        self._lock = threading.Lock()
        self._open: list[Epoch] = []
        self._number = 0
        self._wiped = False
        self._latest = boottime()

    @property
    def keep_s(self) -> float:
        """How long replay memory must remember a request."""
        return (self._epoch_ms + self._grace_ms) / 1000

    def current(self) -> Epoch:
        """The epoch to attest now; a new one once the last has ended. Raises Wiped."""
        with self._lock:
            now = self._expire()
            if self._wiped:
                raise Wiped("the channel keys are wiped")
            if not self._open or now >= self._open[-1].rotates_at:
                self._open.append(self._make(now))
            return self._open[-1]

    def find(self, key_id: KeyId) -> OpenKey | None:
        """The key of that name, if a new request may still be sealed to it."""
        with self._lock:
            self._expire()
            for epoch in self._open:
                if epoch.key_id == key_id:
                    return OpenKey(epoch.key, epoch.statement)
            return None

    def key_ids(self) -> tuple[KeyId, ...]:
        """Names of the keys that a new request may be sealed to, the oldest first: what a router goes by."""
        with self._lock:
            self._expire()
            return tuple(epoch.key_id for epoch in self._open)

    def takes(self, statement: StatementDigest) -> bool:
        """Whether a new request under this statement may still be taken now."""
        with self._lock:
            self._expire()
            return any(epoch.statement == statement for epoch in self._open)

    def expire(self) -> None:
        """Drop the keys whose grace time is over; to be called on a timer, so that an idle enclave forgets too."""
        with self._lock:
            self._expire()

    def wipe(self) -> None:
        """Drop every key and make no other."""
        with self._lock:
            self._wiped = True
            self._open.clear()

    def _expire(self) -> float:
        """Drop what is over; what time it is on the boot clock."""
        now = self._boottime()
        if now < self._latest and not self._wiped:
            self._wiped = True
            self._open.clear()
            self._on_doubt(CLOCK_BACK)
        self._latest = now
        self._open = [epoch for epoch in self._open if now < epoch.forgotten_at]
        return now

    def _make(self, now: float) -> Epoch:
        self._number += 1
        key = self._draw()
        ours = self._identity
        serve = Serve(
            boot_id=ours.boot_id,
            genesis=ours.genesis,
            suite=SUITE,
            channel_key=key.public,
            receipt_key=ours.receipt_key,
            model=ours.model,
            configuration=ours.configuration,
            epoch=self._number,
            not_after=Milliseconds(self._now_ms() + self._epoch_ms),
        )
        rotates_at = now + self._epoch_ms / 1000
        digest = statement_digest(serve)
        return Epoch(
            serve,
            encode_statement(serve),
            digest,
            key_id(digest),
            key,
            rotates_at,
            rotates_at + self._grace_ms / 1000,
        )
