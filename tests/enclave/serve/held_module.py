"""A loopback enclave's security module that answers when it is let: so a test decides who comes meanwhile."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from anchorhold.enclave.nsm.module import NsmError
from anchorhold.sim.loopback import START, LoopbackEnclave
from anchorhold.sim.pki import SimulatedPki

PKI = SimulatedPki.create(START)
WAIT_S = 10.0  # for what happens at once


@dataclass
class HeldModule:
    """A loopback's module that answers when it is let."""

    enclave: LoopbackEnclave
    nonces: list[bytes] = field(default_factory=list)
    asked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go: threading.Event = field(default_factory=threading.Event)
    refuse: bool = False

    def attest(self, *, user_data: bytes, nonce: bytes) -> bytes:
        self.nonces.append(nonce)
        self.asked.release()
        assert self.go.wait(WAIT_S)
        if self.refuse:
            raise NsmError("Attestation", "InternalError")
        return self.enclave.nsm.attest(user_data=user_data, nonce=nonce)


def until(holds: Callable[[], bool]) -> None:
    waited = threading.Event()
    for _ in range(int(WAIT_S / 0.005)):
        if holds():
            return
        waited.wait(0.005)
    raise AssertionError("it never came to that")
