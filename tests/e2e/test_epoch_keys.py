"""A channel key is in memory while requests may be sealed to it, and nowhere in it afterwards (DESIGN 3.6).

A real process is looked into, started as the image starts it: seeds, the scalar, and the secret polynomials that the
library expands the seed into, which alone would open what was sealed. What a scan cannot see (registers, caches, pages
given back) is not claimed.
"""

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kyber_py.ml_kem import ML_KEM_768  # type: ignore[import-untyped]  # it ships no types

from anchorhold.attestation.channel.seal import MLKEM_SEED
from anchorhold.publish.image import ENVIRONMENT

from .scan import Hit, Marker, Scanner

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the memory of other processes"),
]
SECRET_VECTOR = 3 * 384  # bytes of a decapsulation key: three polynomials of 256 numbers of 12 bits (FIPS 203, 768)


class Process:
    """The child, step by step."""

    def __init__(self) -> None:
        environment = dict(item.split("=", 1) for item in ENVIRONMENT)
        self.child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("epoch_process.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def step(self, name: str) -> list[bytes]:
        """The keys that were drawn in this step."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(f"{name}\n")
        self.child.stdin.flush()
        keys: list[bytes] = []
        for line in self.child.stdout:
            if line == "done\n":
                return keys
            keys.append(bytes.fromhex(line.removeprefix("key ")))
        raise AssertionError(f"the process ended in step {name!r}")

    def found(self, scanner: Scanner) -> set[str]:
        """The markers that are in its memory now."""
        hits: list[Hit] = scanner.memory("enclave", self.child.pid, writable=True)
        return {hit.marker for hit in hits}


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process()
    yield process
    process.child.kill()
    process.child.communicate()


def markers(name: str, private: bytes) -> list[Marker]:
    """Every form in which half a key would be enough of it."""
    seed, scalar = private[:MLKEM_SEED], private[MLKEM_SEED:]
    _, decapsulation = ML_KEM_768.key_derive(seed)
    packed = int.from_bytes(decapsulation[:SECRET_VECTOR], "little")
    numbers = [packed >> 12 * at & 0xFFF for at in range(SECRET_VECTOR * 8 // 12)]
    return [
        Marker(f"{name} seed", seed),
        Marker(f"{name} scalar", scalar),
        Marker(f"{name} packed polynomials", decapsulation[:SECRET_VECTOR]),
        Marker(f"{name} polynomials", struct.pack(f"<{len(numbers)}H", *numbers)),
    ]


def held(name: str) -> set[str]:
    """What the library holds of a key in use."""
    return {f"{name} seed", f"{name} scalar", f"{name} polynomials"}


def test_the_key_of_an_epoch_is_gone_from_memory_after_its_grace_time(process: Process) -> None:
    (old,) = process.step("first")
    (new,) = process.step("rotate")
    scanner = Scanner([*markers("old", old), *markers("new", new)], only=("bytes", "hex", "HEX"))
    # Overlap: a request on either key would be taken.
    assert process.found(scanner) == held("old") | held("new")
    assert process.step("over") == []
    # The new key is the control: the same scan finds it where the old one was beside it.
    assert process.found(scanner) == held("new")
