"""Tenants' adapters: opened when one is first asked for, under leases of its own, wiped when they end (adapters.md).

The model serves on, whatever becomes of an adapter. Each has a gate, a keeper and a watcher of its own; whatever ends
the gate, the watcher wipes. An opening that still holds something then, because the parent does not let go of a read,
ends the whole boot after a fixed time: a lease that is over is obeyed by the process if by nobody else.
"""

import asyncio
import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.deployed import check_deployed
from anchorhold.attestation.sealed.manifest import Manifest, WrappedShare
from anchorhold.attestation.sealed.signature import MAX_BUNDLE, verify_manifest
from anchorhold.attestation.transcript import bodies
from anchorhold.attestation.types import ModelDigest
from anchorhold.enclave.boot import MAX_MANIFEST, Booted, boottime
from anchorhold.enclave.keys.clock import ClockDoubt
from anchorhold.enclave.keys.gate import Gate
from anchorhold.enclave.keys.keeper import KeeperEvent, LeaseKeeper
from anchorhold.enclave.keys.lease import LeaseEnded, State
from anchorhold.enclave.keys.source import Refused, SourceUnavailable
from anchorhold.enclave.model.engine import AdapterHost, ModelRefused
from anchorhold.enclave.model.sealed_files import OpenedModel, open_sealed, unlock
from anchorhold.enclave.parent_ports import fetch_ahead, fetch_small
from anchorhold.enclave.serve.log_errors import LogContradiction, LogUnavailable
from anchorhold.enclave.serve.recorder import SPARE, Recorder
from anchorhold.enclave.serve.service import AdapterRefused, AdmissionGate, Lent
from anchorhold.enclave.serve.transport import WindowError
from anchorhold.enclave.sources import asked_purposes, key_sources

REFUSED_S = 10.0  # before one that was refused is tried again: a tenant's retries cost the sources nothing
AWAY_S = 2.0  # the same where a source, the log or the engine did not answer: retries do not crowd out renewals
POLL_S = 0.05  # between two looks at a wipe: a waiting request holds no thread, of which the loop has few
MAX_REFUSED = 256  # of those remembered at a time
MAX_KNOWN = 4_096  # adapters of one boot whose request numbers are remembered
OPENINGS = 2  # at a time
RECORDS_TIMEOUT_S = 30.0  # for the log to take the entries of an opening
WIPING_S = 12.0  # for an opening to let go once its lease is over
IDLE, NOT_OPENED = "idle", "not-opened"


class Stop(Protocol):
    """The boot's own gate: an adapter that cannot be wiped ends it."""

    def require(self) -> None: ...
    def fault(self, code: str) -> None: ...


@dataclass(slots=True, eq=False)
class _Entry:
    """One adapter from the first request to its wipe."""

    digest: ModelDigest
    gate: Gate
    opening: "asyncio.Future[None] | None" = None
    opened: OpenedModel | None = None
    users: int = 0
    used_at: float = 0.0
    keeper: LeaseKeeper | None = None
    recorded: bool = False
    """Its first entry is in the transcript's queue, and its last is not."""
    why: str | None = None
    settled: threading.Event = field(default_factory=threading.Event)
    """The opening makes nothing secret any more: it is over, or waits for the log alone."""
    wiped: threading.Event = field(default_factory=threading.Event)


class _Loan:
    """One request's use of one adapter."""

    def __init__(self, entry: _Entry, give_back: Callable[[_Entry], None]) -> None:
        self._entry, self._give_back = entry, give_back

    @property
    def gate(self) -> AdmissionGate:
        return self._entry.gate

    def release(self) -> None:
        give_back, self._give_back = self._give_back, _nothing
        give_back(self._entry)


def _nothing(_entry: _Entry) -> None:
    """It was given back before."""


class Adapters:
    """The room where adapters are; `lend` on the serving loop, all else from any thread."""

    def __init__(self, booted: Booted, engine: AdapterHost, recorder: Recorder, stop: Stop) -> None:
        self._booted, self._engine, self._recorder, self._stop = booted, engine, recorder, stop
        self._lock = threading.Lock()
        self._entries: dict[ModelDigest, _Entry] = {}
        self._refused: dict[ModelDigest, tuple[float, Code]] = {}
        self._numbers: dict[ModelDigest, dict[str, int]] = {}
        self._ended = False
        self._work = ThreadPoolExecutor(OPENINGS, thread_name_prefix="adapter")

    async def lend(self, adapter: ModelDigest) -> Lent:
        """See `AdapterRoom`. The first request for an adapter opens it; others meanwhile wait for that."""
        entry = await self._entry(adapter)
        try:
            assert entry.opening is not None
            await asyncio.shield(entry.opening)
            entry.gate.admit()
        except LeaseEnded as error:
            self._give_back(entry)
            raise AdapterRefused(Code.ADAPTER) from error
        except BaseException:
            self._give_back(entry)
            raise
        return _Loan(entry, self._give_back)

    def end(self) -> None:
        """No adapter is used any more; each is being wiped."""
        with self._lock:
            self._ended = True
            entries = list(self._entries.values())
        for entry in entries:
            entry.gate.close()

    def close(self) -> None:
        """All are wiped when this returns; who waits for it for too long ends the process."""
        self.end()
        with self._lock:
            entries = list(self._entries.values())
        for entry in entries:
            entry.wiped.wait()
        self._work.shutdown(wait=False)

    # Lending

    async def _entry(self, adapter: ModelDigest) -> _Entry:
        while True:
            with self._lock:
                found = self._entries.get(adapter) or self._begin(adapter)
                if isinstance(found, _Entry) and found.gate.state() is not State.ENDED:
                    found.users += 1
                    return found
            # Full, and what nobody uses makes room first; or it is on its way out, and may be opened anew after that.
            gone = found.wiped if isinstance(found, _Entry) else found
            while not gone.is_set():  # noqa: ASYNC110 - set by a thread, which has no loop
                await asyncio.sleep(POLL_S)

    def _begin(self, adapter: ModelDigest) -> "_Entry | threading.Event":
        """A new entry, or what to wait for until there is room. Raises AdapterRefused. Under the lock."""
        now = boottime()
        if self._ended:
            raise AdapterRefused(Code.LEASE_ENDED)
        until, code = self._refused.get(adapter, (now, Code.ADAPTER))
        if now < until:
            raise AdapterRefused(code)
        if adapter not in self._numbers and len(self._numbers) >= MAX_KNOWN:
            raise AdapterRefused(Code.BUSY)
        configuration = self._booted.configuration
        if len(self._entries) >= configuration.adapters:
            return self._make_room()
        sources = ((source.name, source.lease_ttl_ms / 1000) for source in configuration.sources)
        return self._start(_Entry(adapter, Gate(sources, boottime, after=self._numbers.get(adapter, {}), logged=False)))

    def _start(self, entry: _Entry) -> _Entry:
        # The watcher first: nothing is opened that nobody would wipe.
        threading.Thread(target=self._watch, args=(entry,), name="adapter-watch", daemon=True).start()
        self._entries[entry.digest] = entry
        try:
            entry.opening = asyncio.get_running_loop().run_in_executor(self._work, self._open, entry)
        except BaseException:
            entry.settled.set()
            entry.gate.close()
            raise
        entry.opening.add_done_callback(_seen)
        return entry

    def _make_room(self) -> threading.Event:
        idle = [
            one for one in self._entries.values() if one.users == 0 and one.opening is not None and one.opening.done()
        ]
        if not idle:
            raise AdapterRefused(Code.BUSY)
        oldest = min(idle, key=lambda one: one.used_at)
        oldest.why = oldest.why or IDLE
        oldest.gate.close()
        return oldest.wiped

    def _give_back(self, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
            entry.used_at = boottime()

    # Opening, on a thread of its own

    def _open(self, entry: _Entry) -> None:
        """Raises AdapterRefused; the entry is on its way out then."""
        try:
            self._opened(entry)
        except Exception as error:  # noqa: BLE001 - of whatever kind: its text stays inside, and a code goes on
            code = _code(error)
            # The console's line: a code and public values.
            sys.stderr.write(
                f"anchorhold enclave: adapter {entry.digest.hex()[:16]} not opened: {type(error).__name__}\n"
            )
            with self._lock:
                entry.why = entry.why or NOT_OPENED
                self._remember(entry.digest, code)
            entry.gate.close()
            raise AdapterRefused(code) from None
        finally:
            entry.settled.set()

    def _opened(self, entry: _Entry) -> None:
        # 1. Signed, of this digest, for this model, and of the configuration's sources: before any key is asked for.
        self._require_wanted(entry)
        fetched = partial(self._fetched, entry)
        raw, bundle = fetched("manifest", MAX_MANIFEST), fetched("signature", MAX_BUNDLE)
        configuration = self._booted.configuration
        manifest, _signed_by = verify_manifest(raw, bundle, configuration.signers, entry.digest)
        wrapped = check_deployed(manifest, configuration)
        sources = key_sources(self._booted, manifest)
        self._require_wanted(entry)  # a boot that has ended meanwhile writes no more
        self._record(entry, manifest, wrapped, raw, bundle)
        # 2. Every share, then the leases are kept.
        keeper = entry.keeper = LeaseKeeper(
            sources,
            entry.gate,
            purposes=lambda: asked_purposes(self._booted),
            observe=partial(self._observe, entry),
        )
        shares = keeper.obtain()
        try:
            keeper.start()
        except BaseException:
            for share in shares.values():
                share.wipe()
            raise
        # 3. The bodies. The key is wiped with the last of them.
        key = unlock(manifest, shares)
        entry.opened = open_sealed(manifest, key, partial(self._body, entry), lambda _: self._require(entry))
        self._engine.load_adapter(entry.digest, entry.opened.files)
        entry.settled.set()
        # 4. What was released is in the log before a token is made with it.
        self._recorder.barrier(RECORDS_TIMEOUT_S)
        self._require(entry)

    def _fetched(self, entry: _Entry, name: str, limit: int) -> bytes:
        return fetch_small(self._booted.launch.window, _blob(entry.digest, name), limit)

    def _body(self, entry: _Entry, name: str) -> Iterator[bytes]:
        return fetch_ahead(self._booted.launch.window, _blob(entry.digest, name))

    def _require_wanted(self, entry: _Entry) -> None:
        """Before there is a lease."""
        if entry.gate.state() is State.ENDED:
            raise LeaseEnded("ended before it was opened")
        self._stop.require()

    def _require(self, entry: _Entry) -> None:
        entry.gate.require()
        self._stop.require()

    def _observe(self, entry: _Entry, event: KeeperEvent) -> None:
        """Nothing of an adapter follows its last entry: an answer that comes later counts for nothing, here too."""
        with self._lock:
            if entry.recorded:
                self._recorder.observe(event, adapter=entry.digest)

    def _record(
        self, entry: _Entry, manifest: Manifest, wrapped: tuple[WrappedShare, ...], raw: bytes, bundle: bytes
    ) -> None:
        body = bodies.Adapter(
            adapter=entry.digest,
            model=self._booted.configuration.model,
            model_id=manifest.descriptor.model_id,
            manifest=hashlib.sha256(raw).digest(),
            signature=hashlib.sha256(bundle).digest(),
            keys=tuple(share.key for share in wrapped),
        )
        with self._lock:
            self._recorder.put(body, (raw, bundle), spare=SPARE)
            entry.recorded = True

    def _remember(self, adapter: ModelDigest, code: Code) -> None:
        self._refused.pop(adapter, None)
        while len(self._refused) >= MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._refused[adapter] = boottime() + (REFUSED_S if code is Code.ADAPTER else AWAY_S), code

    # The end, on the watcher's thread

    def _watch(self, entry: _Entry) -> None:
        entry.gate.wait_end()
        try:
            self._wipe(entry)
        except Exception as error:  # noqa: BLE001 - of whatever kind: weights that may be there are not served beside
            self._stop.fault(type(error).__name__)

    def _wipe(self, entry: _Entry) -> None:
        # 1. Streams end and tensors are zeroed at once; again once the opening, if it still runs, has let go.
        self._engine.drop_adapter(entry.digest)
        if not entry.settled.wait(WIPING_S):
            self._stop.fault("adapter-held")
            entry.settled.wait()
        self._engine.drop_adapter(entry.digest)
        if entry.opened is not None:
            entry.opened.wipe()
        # 2. The transcript says so before the adapter can come again. After the boot's own end nothing follows.
        why = entry.gate.drain or entry.gate.end
        assert why is not None
        try:
            wiped_ms = self._booted.clock.now_ms()  # in doubt there is no time, and the boot ends as this is raised
            if entry.keeper is not None:
                entry.keeper.join()  # what was being asked as it ended has its outcome, if it comes soon
            with self._lock:
                recorded, entry.recorded = entry.recorded, False
                if recorded and not self._ended:
                    reason = entry.why or why.event.value
                    self._recorder.put(bodies.AdapterEnd(entry.digest, reason, why.source or "enclave", wiped_ms))
        finally:
            with self._lock:
                if any((numbers := entry.gate.numbers()).values()):
                    self._numbers[entry.digest] = numbers
                del self._entries[entry.digest]
            entry.wiped.set()


def _code(error: Exception) -> Code:
    """What the client is told: `adapter` for what another try does not mend."""
    if isinstance(error, SourceUnavailable | LogUnavailable | LogContradiction | ClockDoubt):
        return Code.BUSY
    if isinstance(error, Refused | EvidenceError | ModelRefused | WindowError | LeaseEnded):
        return Code.ADAPTER
    return Code.ENGINE


def _blob(adapter: ModelDigest, name: str) -> str:
    return f"adapter/{adapter.hex()}/{name}"


def _seen(opening: "asyncio.Future[None]") -> None:
    """Whoever asked may have left: what came of it is not an error that nobody looked at."""
    if not opening.cancelled():
        opening.exception()
