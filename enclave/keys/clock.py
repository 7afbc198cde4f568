"""Enclave time: what the NSM documents' timestamps say, carried on by the boot clock (DESIGN 5, ADR 4).

Every document this enclave makes is a reading of the module's clock, taken at some time while it was waited for. One
that proves enclave time wrong puts it right; one that only came late does not. If it disagrees with the boot clock by
more than 2 s beyond what the call itself took, one of the two lies: that is clock doubt, and the gate is cut at once.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from anchorhold.attestation.document import parse_document
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import Milliseconds
from anchorhold.enclave.nsm.module import Description, Register, SecurityModule
from anchorhold.enclave.nsm.turns import Turns

TOLERANCE_MS = 2_000
_DIGITS = 3  # of a millisecond; what a float of this size has beyond is noise, and would cut a whole one off


class ClockDoubt(Exception):
    """The module's clock and the boot clock disagree; no deadline can be trusted."""

    code = "clock-disagrees"


@dataclass(frozen=True, slots=True)
class Reading:
    """The module said `timestamp_ms` some time between two readings of the boot clock, in seconds."""

    timestamp_ms: int
    before: float
    after: float


def check_readings(last: Reading, new: Reading) -> None:
    """Raises ClockDoubt unless the time between two readings is the same on both clocks, within the tolerance."""
    passed = new.timestamp_ms - last.timestamp_ms
    least = (new.before - last.after) * 1000 - TOLERANCE_MS
    most = (new.after - last.before) * 1000 + TOLERANCE_MS
    if not (last.before <= last.after <= new.before <= new.after and least <= passed <= most):
        raise ClockDoubt(f"module clock moved {passed} ms: expected {least:.0f} to {most:.0f} ms by the boot clock")


class EnclaveClock:
    """Thread-safe. Doubt is for ever: after one disagreement every reading raises."""

    def __init__(self, boottime: Callable[[], float]) -> None:
        self._boottime = boottime
        self._lock = threading.Lock()
        self._last: Reading | None = None
        self._zero_ms = 0.0  # enclave time at zero of the boot clock
        self._doubt: ClockDoubt | None = None

    def observe(self, reading: Reading) -> None:
        """Take a reading. Raises ClockDoubt."""
        with self._lock:
            if self._doubt is None and self._last is not None:
                try:
                    check_readings(self._last, reading)
                except ClockDoubt as doubt:
                    self._doubt = doubt
            if self._doubt is not None:
                raise self._doubt
            # A timestamp is cut to milliseconds.
            least, most = reading.timestamp_ms - reading.after * 1000, reading.timestamp_ms + 1 - reading.before * 1000
            self._zero_ms = least if self._last is None else min(max(self._zero_ms, least), most)
            self._last = reading

    def now_ms(self) -> Milliseconds:
        """Enclave time. Raises ClockDoubt, also before the first document."""
        return self.at_ms(self._boottime())

    def at_ms(self, moment: float) -> Milliseconds:
        """Enclave time at a moment of the boot clock, in seconds. Raises as `now_ms`.

        Of two moments the later is never the smaller, unless a document between the calls has put enclave time right.
        """
        with self._lock:
            if self._doubt is not None:
                raise self._doubt
            if self._last is None:
                raise ClockDoubt("no document yet, so no time")
            return Milliseconds(math.floor(round(self._zero_ms + moment * 1000, _DIGITS)))


@dataclass(frozen=True, slots=True)
class RecordClock:
    """Enclave time for what is recorded of a boot that ends at a doubt: then the gate is cut, and the time is 0."""

    clock: EnclaveClock
    on_doubt: Callable[[str], None]

    def now_ms(self) -> Milliseconds:
        """See EnclaveClock; never raises."""
        return self._read(self.clock.now_ms)

    def at_ms(self, moment: float) -> Milliseconds:
        """See EnclaveClock; never raises, never negative."""
        return self._read(lambda: self.clock.at_ms(moment))

    def _read(self, reading: Callable[[], Milliseconds]) -> Milliseconds:
        try:
            return Milliseconds(max(0, reading()))
        except ClockDoubt as doubt:
            self.on_doubt(doubt.code)
            return Milliseconds(0)


class ObservedModule:
    """A SecurityModule whose every document is also a reading of its clock. `on_doubt` closes the gate."""

    def __init__(
        self,
        module: SecurityModule,
        clock: EnclaveClock,
        boottime: Callable[[], float],
        on_doubt: Callable[[str], None],
    ) -> None:
        self._module = module
        self._clock = clock
        self._boottime = boottime
        self._on_doubt = on_doubt
        self.turns = Turns()  # one at a time also because readings are compared in the order they were taken

    def attest(
        self, *, user_data: bytes | None = None, nonce: bytes | None = None, public_key: bytes | None = None
    ) -> bytes:
        """See SecurityModule. Raises ClockDoubt too."""
        with self.turns.take(patient=False):
            return self._observed(user_data, nonce, public_key)

    def attest_patiently(self, *, user_data: bytes, nonce: bytes) -> bytes:
        """As `attest`, once nobody else wants a document: a renewal goes before the public."""
        with self.turns.take(patient=True):
            return self._observed(user_data, nonce, None)

    def _observed(self, user_data: bytes | None, nonce: bytes | None, public_key: bytes | None) -> bytes:
        before = self._boottime()
        document = self._module.attest(user_data=user_data, nonce=nonce, public_key=public_key)
        after = self._boottime()
        try:
            self._clock.observe(Reading(_timestamp_ms(document), before, after))
        except ClockDoubt as doubt:
            self._on_doubt(doubt.code)
            raise
        return document

    def describe(self) -> Description:
        """See SecurityModule."""
        return self._module.describe()

    def extend_pcr(self, index: int, data: bytes) -> bytes:
        """See SecurityModule."""
        return self._module.extend_pcr(index, data)

    def describe_pcr(self, index: int) -> Register:
        """See SecurityModule."""
        return self._module.describe_pcr(index)

    def lock_pcrs(self, count: int) -> None:
        """See SecurityModule."""
        self._module.lock_pcrs(count)

    def random(self) -> bytes:
        """See SecurityModule."""
        return self._module.random()


@dataclass(frozen=True, slots=True)
class PublicModule:
    """What the public is given of an ObservedModule: documents, and only while nobody else wants one."""

    module: ObservedModule

    def attest(self, *, user_data: bytes, nonce: bytes) -> bytes:
        """See SecurityModule. Raises ClockDoubt too."""
        return self.module.attest_patiently(user_data=user_data, nonce=nonce)


def _timestamp_ms(document: bytes) -> int:
    try:
        return parse_document(document).timestamp_ms
    except EvidenceError as error:
        raise ClockDoubt("the module's document cannot be read") from error
