"""A process that serves with channel keys, for a test that looks into its memory; it moves when it is told to.

What the keys are is told by forks, which have memory of their own: nothing here writes a private byte down.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import replace

from anchorhold.attestation.channel.seal import HybridPrivateKey
from anchorhold.client.sdk import AsyncClient
from anchorhold.enclave.keys.hybrid import draw_halves
from anchorhold.enclave.serve.epochs import Epochs, Identity
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import GENESIS, MODEL, START, LoopbackEnclave
from anchorhold.sim.pki import SimulatedPki


def drawn() -> HybridPrivateKey:
    """As the enclave draws it; a fork says what it is."""
    mlkem, x25519 = draw_halves()
    if (pid := os.fork()) == 0:
        private = mlkem.private_bytes_raw() + x25519.private_bytes_raw()
        sys.stdout.write(f"key {private.hex()}\n")
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    return HybridPrivateKey.of(mlkem, x25519)


def serving() -> LoopbackEnclave:
    """An enclave whose epochs draw their keys so."""
    enclave = LoopbackEnclave(SimulatedPki.create(START))
    public = enclave.receipt_key.public_key().public_bytes_raw()
    enclave.epochs = Epochs(
        Identity(enclave.boot_id, GENESIS, public, MODEL, enclave.epochs.current().serve.configuration),
        epoch_ms=600_000,
        grace_ms=60_000,
        now_ms=enclave.clock.ms,
        boottime=enclave.clock.boottime,
        on_doubt=enclave.gate.clock_doubt,
        draw=drawn,
    )
    enclave.service = replace(enclave.service, epochs=enclave.epochs)
    return enclave


def pass_time(enclave: LoopbackEnclave, seconds: float) -> None:
    enclave.clock.advance(seconds)
    enclave.renew()


def main() -> None:
    """One step for each line that comes in, and a line when it is done."""
    enclave = serving()
    client = AsyncClient(loopback_trust(enclave), gateway=Link(enclave), now=enclave.clock.utc)

    def ask() -> None:
        asyncio.run(client.ask("hi"))

    def rotate() -> None:
        pass_time(enclave, 300)
        pass_time(enclave, 301)
        ask()

    def over() -> None:
        pass_time(enclave, 60)
        enclave.epochs.expire()

    steps: dict[str, Callable[[], None]] = {"first": ask, "rotate": rotate, "over": over}
    for line in sys.stdin:
        steps[line.strip()]()
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
