"""Many revocations cheaply: the real owner authority over TLS, release API, source, keeper and gate, in one process.

Each boot says a token every hundredth of a second for as long as the gate lets it, on this machine's boot clock.
"""

import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.revocation_relay import Relay

from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.owner.app import make_app
from anchorhold.authority.owner.setup import init
from anchorhold.authority.tls import TlsFiles
from anchorhold.enclave.boot import boottime, system_ms
from anchorhold.enclave.keys.clock import EnclaveClock, ObservedModule
from anchorhold.enclave.keys.gate import Gate
from anchorhold.enclave.keys.keeper import LeaseKeeper
from anchorhold.enclave.keys.lease import LeaseEnded
from anchorhold.enclave.nsm.module import NsmClient
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.owner_face import CONFIGURED, IMAGE, MODEL, PURPOSE, Authority, Clock, Served
from anchorhold.sim.pki import SimulatedPki

LEASE_S = 2.0  # the shortest there is
BOOTS, ROUNDS = 6, 5  # at a time, and how often
TOKEN_S = 0.01
SLOW_S = 0.03  # of each piece; a renewal is some ten pieces
BOOT_JUMP_S, MODULE_JUMP_MS = 1.0, 5_000


class Wall(Clock):
    """This machine's clock, where a test's stands until it is moved."""

    def ms(self) -> Milliseconds:
        return Milliseconds(system_ms())


@dataclass(slots=True)
class Jumps:
    """What is added to the clocks of one boot."""

    boot_s: float = 0.0
    module_ms: int = 0

    def boottime(self) -> float:
        return boottime() + self.boot_s

    def module(self) -> int:
        return system_ms() + self.module_ms


@dataclass(slots=True)
class Run:
    """One boot: its tokens by this machine's clock, and when the gate had ended."""

    jumps: Jumps = field(default_factory=Jumps)
    tokens: list[float] = field(default_factory=list)
    wiping_ms: float = 0.0

    @property
    def last_ms(self) -> float:
        return self.tokens[-1]

    @property
    def longest_gap_ms(self) -> float:
        return max(later - earlier for earlier, later in itertools.pairwise(self.tokens))


class Part:
    """One boot from its key to its end, in threads of its own."""

    def __init__(self, authority: Authority, relay: Relay, share: bytes, blob: bytes) -> None:
        self.run = Run()
        jumps = self.run.jumps
        self._gate = Gate([(authority.public.name, LEASE_S)], jumps.boottime)
        toy = NsmClient(ToyNsm(authority.pki, IMAGE, "i-0toy-enc0toy", jumps.module).transact)
        toy.extend_pcr(16, CONFIGURED)
        toy.lock_pcrs(32)
        clock = EnclaveClock(jumps.boottime)
        module = ObservedModule(toy, clock, jumps.boottime, self._gate.clock_doubt)
        enclave = authority.enclave(
            nsm=module, boottime=jumps.boottime, now_ms=clock.now_ms, open_stream=lambda _: relay.connect()
        )
        source = enclave.source(blob, share, lease_ttl_ms=int(LEASE_S * 1000))
        self._keeper = LeaseKeeper([source], self._gate, purposes=lambda: (Purpose(PURPOSE),), observe=lambda _: None)
        self._thread = threading.Thread(target=self._live, daemon=True)

    def start(self) -> None:
        for share in self._keeper.obtain().values():
            share.wipe()
        self._keeper.start()
        self._thread.start()

    def join(self) -> Run:
        self._thread.join()
        return self.run

    def _live(self) -> None:
        try:
            while True:
                self._gate.check()
                self.run.tokens.append(time.time_ns() / 1e6)
                time.sleep(TOKEN_S)
        except LeaseEnded:
            self._gate.wait_end()
            self.run.wiping_ms = time.time_ns() / 1e6


@dataclass(slots=True)
class Stage:
    """The authority, the road to it and the model's share."""

    authority: Authority
    relay: Relay
    share: bytes
    blob: bytes

    def restart(self) -> None:
        """The owner's process anew on its state: its challenges are void, its address is another."""
        self.authority.served.stop()
        served = Served(
            make_app(self.authority.state_dir, self.authority.clock.ms), TlsFiles.within(self.authority.state_dir)
        )
        self.authority.served, self.relay.target = served, served.port


@contextmanager
def stage() -> Iterator[Stage]:
    """A fresh owner authority with one model."""
    with tempfile.TemporaryDirectory(prefix="ah-") as folder:
        clock, state_dir = Wall(), Path(folder) / "owner"
        pki = SimulatedPki.create(clock.utc())
        public = init(state_dir, "simulated", (pki.anchor,), "owner", "model-owner", now=clock.ms())
        served = Served(make_app(state_dir, clock.ms), TlsFiles.within(state_dir))
        authority = Authority(state_dir, public, pki, clock, served)
        authority.register(ttl_ms=int(LEASE_S * 1000))
        relay = Relay(served.port)
        try:
            yield Stage(authority, relay, *authority.share())
        finally:
            relay.close()
            authority.served.stop()


def revoked_runs(staged: Stage, condition: str) -> list[tuple[float, Run]]:
    """`BOOTS` boots serve, and their model is revoked under `condition`: (time of the decision in ms, run) of each."""
    relay = staged.relay
    relay.delay_s = SLOW_S if condition == "slow" else 0.0
    parts = [Part(staged.authority, relay, staged.share, staged.blob) for _ in range(BOOTS)]
    for part in parts:
        part.start()
        time.sleep(LEASE_S / 3 / BOOTS)  # so that the order meets every moment of a renewal
    time.sleep(LEASE_S * 0.6)
    relay.cut = condition == "partitioned"
    at = staged.authority.order("revoke", model=MODEL, reason="bench")["at"]
    assert isinstance(at, int)
    if condition == "restarted":
        staged.restart()
    if condition == "clock jumps":
        _jump([part.run.jumps for part in parts])
    runs = [(float(at), part.join()) for part in parts]
    relay.cut, relay.delay_s = False, 0.0
    staged.authority.order("reinstate", model=MODEL, reason="bench")
    return runs


def _jump(jumps: list[Jumps]) -> None:
    kinds: tuple[Callable[[Jumps], None], ...] = (_boot_ahead, _boot_back, _module_ahead)
    for jump, one in zip(itertools.cycle(kinds), jumps, strict=False):
        jump(one)


def _boot_ahead(jumps: Jumps) -> None:
    jumps.boot_s += BOOT_JUMP_S


def _boot_back(jumps: Jumps) -> None:
    jumps.boot_s -= BOOT_JUMP_S


def _module_ahead(jumps: Jumps) -> None:
    jumps.module_ms += MODULE_JUMP_MS
