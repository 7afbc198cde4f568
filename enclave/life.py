"""From LOGGED to DEAD: keys, model, service, and the end (DESIGN 5, 6, 8).

The end is the same whatever brought it: nothing leaves any more, weights and caches and channel keys are wiped, the
record that says why is signed and offered to the log for at most five seconds, and the process exits.
"""

import asyncio
import contextlib
import ctypes
import itertools
import os
import resource
import secrets
import sys
import threading
from dataclasses import dataclass

from anchorhold.attestation.configuration import EngineSettings
from anchorhold.attestation.transcript.bodies import Close, Death, Heartbeat
from anchorhold.attestation.types import Milliseconds
from anchorhold.enclave.adapters import Adapters
from anchorhold.enclave.backstop import Backstop
from anchorhold.enclave.boot import Booted, boottime
from anchorhold.enclave.keys.clock import PublicModule, RecordClock
from anchorhold.enclave.keys.gate import Gate
from anchorhold.enclave.keys.keeper import LeaseKeeper
from anchorhold.enclave.keys.lease import Cause, Event
from anchorhold.enclave.model.any_engine import AnyEngine, load_engine
from anchorhold.enclave.model.engine import AdapterHost, Engine
from anchorhold.enclave.model.sealed_files import OpenedModel, open_sealed, unlock
from anchorhold.enclave.parent_ports import fetch_ahead
from anchorhold.enclave.phases import Phase, Step
from anchorhold.enclave.refusal import offer_refusal
from anchorhold.enclave.serve.epochs import Epochs, Identity
from anchorhold.enclave.serve.log_errors import LogContradiction, LogUnavailable
from anchorhold.enclave.serve.quota import Quotas
from anchorhold.enclave.serve.recorder import Recorder
from anchorhold.enclave.serve.refusals import Refusals
from anchorhold.enclave.serve.replay import ReplayMemory
from anchorhold.enclave.serve.server import Offer, Server
from anchorhold.enclave.serve.service import NAMESPACE_SECRET, Service
from anchorhold.enclave.sources import asked_purposes, key_sources

RECORDS_TIMEOUT_S = 30.0  # for the log to take the records of the boot
DRAIN_POLL_S = 0.05
RENEW_LOG_AFTER = 3  # as the key leases: a third of the log lease
RETRY_LOG_S = 1.0
_PR_GET_DUMPABLE = 3  # linux/prctl.h
CLOSE_DRAIN_S = 10.0  # an ordered end lets streams finish for so long
EXIT_ENDED = 3  # the lease is over, for whatever reason but an ordered close


@dataclass(slots=True)
class Ending:
    """What the last record says."""

    cause: Cause
    drain: Cause | None
    lease: bytes | None
    last_pass: float | None


class Life:
    """One boot after LOGGED. `run` returns the process's exit code."""

    def __init__(self, booted: Booted) -> None:
        self.booted = booted
        configuration = booted.configuration
        self.gate = Gate(((source.name, source.lease_ttl_ms / 1000) for source in configuration.sources), boottime)
        self.clock = RecordClock(booted.clock, self.gate.clock_doubt)
        self.recorder = Recorder(
            booted.scribe,
            model=configuration.model,
            purpose_class=configuration.purpose_class,
            clock=self.clock,
            on_fault=self.gate.fault,
        )
        booted.scribe.watch(self.gate.fault)
        self.keeper = LeaseKeeper(
            key_sources(booted), self.gate, purposes=lambda: asked_purposes(booted), observe=self.recorder.observe
        )
        self.backstop = Backstop(self.gate, offer=self._offer_cut, end=lambda: os._exit(EXIT_ENDED))
        self._shutdown = threading.Event()
        self._tokens = itertools.count()
        self.refusals = Refusals()

    def run(self) -> int:
        """Keys, model, service, end. Raises what does not hold; everything secret is wiped then as at any end."""
        self.backstop.start()
        try:
            return self._run()
        except Exception as error:
            wiped_ms = self.clock.now_ms()
            self.backstop.wiped()
            offer_refusal(self.booted.scribe, error, wiped_ms=wiped_ms, lease_ttl_ms=self._longest_ttl)
            raise
        finally:
            self.gate.close()  # no keeper renews for a boot that is over, and the backstop counts

    def _run(self) -> int:
        booted = self.booted
        # KEYED: every share is here, and the key proved itself. The shares are wiped by `unlock`.
        shares = self.keeper.obtain()
        self.keeper.start()
        key = unlock(booted.manifest, shares)
        booted.phases.take(Step.KEY_PROVED)
        # LOADED: the key is wiped once the last body is open, or once the lease is over.
        opened = open_sealed(
            booted.manifest, key, lambda name: fetch_ahead(booted.launch.window, name), lambda _: self.gate.require()
        )
        with contextlib.ExitStack() as wipes:
            wipes.callback(opened.wipe)
            engine = self._engine(opened)
            adapters = self._adapters(engine)
            if adapters is not None:
                wipes.callback(adapters.close)  # after the engine's own wipe: it may wait for an opening to let go
            wipes.callback(engine.wipe)
            booted.phases.take(Step.MODEL_LOADED)
            # SERVING: what was released and loaded is in the log, and the log lease runs.
            self.recorder.barrier(RECORDS_TIMEOUT_S)
            self._renew_log_lease()
            booted.phases.take(Step.RECORDS_INCLUDED)
            self.backstop.serving()
            service = self._service(engine, adapters)
            wipes.callback(service.epochs.wipe)
            ending = asyncio.run(self._serve(service, wipes))
        return self._end(ending)

    def _engine(self, opened: OpenedModel) -> AnyEngine:
        wanted = self.booted.configuration.engine
        settings = EngineSettings(wanted.dtype, wanted.cache_tokens, wanted.max_requests, wanted.threads)
        return load_engine(opened.files, settings, may_step=self.gate.require)

    def _adapters(self, engine: AdapterHost) -> Adapters | None:
        return Adapters(self.booted, engine, self.recorder, self.gate) if self.booted.configuration.adapters else None

    def _service(self, engine: Engine, adapters: Adapters | None) -> Service:
        booted, epochs = self.booted, self._epochs()
        return Service(
            engine=engine,
            epochs=epochs,
            replay=ReplayMemory(epochs.keep_s, boottime),
            quotas=Quotas(boottime),
            gate=self.gate,
            scribe=booted.scribe,
            ledger=booted.ledger,
            configuration=booted.configuration,
            receipt_key=booted.keys.receipt,
            namespace_secret=secrets.token_bytes(NAMESPACE_SECRET),
            clock_ms=self.clock.now_ms,
            boottime=boottime,
            entropy=secrets.token_bytes,
            refusals=self.refusals,
            adapters=adapters,
        )

    def _epochs(self) -> Epochs:
        booted = self.booted
        identity = Identity(
            boot_id=booted.boot_id,
            genesis=booted.genesis,
            receipt_key=booted.keys.receipt.public_key().public_bytes_raw(),
            model=booted.configuration.model,
            configuration=booted.digest,
        )
        return Epochs(
            identity,
            epoch_ms=booted.configuration.epoch_ms,
            grace_ms=booted.configuration.grace_ms,
            now_ms=self.clock.now_ms,
            boottime=boottime,
            on_doubt=self.gate.clock_doubt,
        )

    # Serving

    async def _serve(self, service: Service, wipes: contextlib.ExitStack) -> Ending:
        asyncio.get_running_loop().set_exception_handler(_tell_without_text)
        booted = self.booted
        offer = Offer(
            nsm=PublicModule(booted.nsm),
            configuration=booted.raw_configuration,
            leases=self.gate.leases,
            owners=frozenset(source.name for source in booted.configuration.sources if source.kind == "owner"),
        )
        server = Server(service, offer, booted.phases, booted.ledger, on_shutdown=self._shutdown.set)
        window = booted.launch.window
        await server.start(window.listen(), greets=window.greets)
        threading.Thread(target=self._keep_log_lease, name="log-lease", daemon=True).start()
        drain = asyncio.create_task(self._drain_when_asked(server, service))
        drain.add_done_callback(self._drain_over)
        cause = await asyncio.to_thread(self.gate.wait_end)
        assert cause is not None
        drain.cancel()
        await server.stop()
        # DEAD: nothing leaves any more. Wiped here and not after the loop, whose end waits for every thread it lent.
        wipes.close()
        self.backstop.wiped()
        return Ending(cause, self.gate.drain, self._last_lease, self.gate.last_pass)

    async def _drain_when_asked(self, server: Server, service: Service) -> None:
        """End early once there is nothing left to drain, and on an ordered shutdown."""
        asked_at: float | None = None
        while True:
            service.epochs.expire()
            with contextlib.suppress(Exception):
                self._last_lease = self.gate.lease_id
            if self._shutdown.is_set() and asked_at is None:
                asked_at = boottime()
                self._enter_drain(Step.SHUTDOWN_ASKED)
            if self.gate.drain is not None:
                self._enter_drain(Step.RENEWAL_REFUSED)
            overdue = asked_at is not None and boottime() - asked_at > CLOSE_DRAIN_S
            draining = asked_at is not None or self.gate.drain is not None
            if draining and (server.streams == 0 or overdue):
                self.gate.close()
                return
            await asyncio.sleep(DRAIN_POLL_S)

    def _drain_over(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.gate.fault(type(error).__name__)

    def _enter_drain(self, step: Step) -> None:
        if self.booted.phases.now in (Phase.SERVING, Phase.DRAINING):
            self.booted.phases.take(step)

    _last_lease: bytes | None = None

    # The log lease

    def _keep_log_lease(self) -> None:
        period = self.booted.configuration.log_lease_ms / 1000 / RENEW_LOG_AFTER
        wait = period
        while self.gate.wait_end(wait) is None:
            try:
                self._renew_log_lease()
                wait = period
            except LogUnavailable:
                wait = min(RETRY_LOG_S, period)  # the lease runs on; at its end nothing new is admitted
            except LogContradiction as error:
                self.gate.fault(error.code)
            except Exception as error:  # noqa: BLE001 - of whatever kind: a thread that is gone must not leave an open gate
                self.gate.fault(type(error).__name__)

    def _renew_log_lease(self) -> None:
        grant = self.booted.scribe.renew(self._heartbeat, self.booted.configuration.log_lease_ms)
        self.gate.log_granted(grant.made_at, grant.ttl_s)

    def _heartbeat(self, size: int) -> Heartbeat:
        dumpable = ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 0
        soft, _hard = resource.getrlimit(resource.RLIMIT_CORE)
        counters = {"beat": next(self._tokens), **self.refusals.snapshot()}
        return Heartbeat(size, counters, dict(self.booted.ledger.snapshot()), dumpable=dumpable, core_limit=soft)

    # The end

    def _end(self, ending: Ending) -> int:
        booted = self.booted
        wiped_ms = self.clock.now_ms()
        ordered = self._shutdown.is_set() and ending.drain is None and ending.cause.event is Event.CLOSED
        booted.phases.take(Step.DRAINED if booted.phases.now is Phase.DRAINING else Step.LEASE_ENDED)
        egress = dict(booted.ledger.snapshot())
        wiped = ("weights", "kv-cache", "channel-keys")
        if ordered:
            with contextlib.suppress(LogUnavailable, LogContradiction):
                booted.scribe.flush()
                booted.scribe.write(Close("shutdown", self.refusals.snapshot(), egress, wiped))
        else:
            booted.scribe.offer_death(self._death(ending, wiped_ms, egress))
        self.recorder.close()
        booted.scribe.close()
        return 0 if ordered else EXIT_ENDED

    def _offer_cut(self, within_s: float) -> None:
        """The last record of a process that is ended because something hangs: gone at the latest when it says."""
        cause = self.gate.end
        assert cause is not None, "asked after the end only"
        wiped_ms = Milliseconds(self.clock.now_ms() + int(within_s * 1000))
        ending = Ending(cause, self.gate.drain, self._last_lease, self.gate.last_pass)
        death = self._death(ending, wiped_ms, dict(self.booted.ledger.snapshot()))
        self.booted.scribe.offer_death(death, within_s=within_s)

    @property
    def _longest_ttl(self) -> int:
        return max(source.lease_ttl_ms for source in self.booted.configuration.sources)

    def _death(self, ending: Ending, wiped_ms: Milliseconds, egress: dict[str, int]) -> Death:
        why = ending.drain or ending.cause
        last = None if ending.last_pass is None else min(self.clock.at_ms(ending.last_pass), wiped_ms)
        return Death(
            reason=why.event.value,
            source=why.source or "enclave",
            last_token_ms=last,
            wiped_ms=wiped_ms,
            lease_ttl_ms=self._longest_ttl,
            lease_id=ending.lease,
            egress=egress,
        )


def _tell_without_text(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """A loop's exception handler: of which type, never the text, which may quote what was being worked on."""
    sys.stderr.write(f"anchorhold enclave: task failed: {type(context.get('exception')).__name__}\n")
