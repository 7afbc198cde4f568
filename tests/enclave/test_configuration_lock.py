"""Register 16 is extended once with C, locked and read back: a module that does less than it says ends the boot."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from anchorhold.attestation.configuration import configuration_digest, pcr16
from anchorhold.attestation.errors import Mismatch
from anchorhold.enclave.boot import lock_configuration
from anchorhold.enclave.nsm.module import NsmClient, Register
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import BOOT, MODULE, START, Clock

PKI = SimulatedPki.create(START)
RAW = b"the configuration's bytes, whatever they are"


class Lazy(NsmClient):
    """The toy module, but for one thing it only says it did."""

    def __init__(self, change: Callable[[Register], Register] = lambda one: one, *, locks: bool = True) -> None:
        super().__init__(ToyNsm(PKI, BOOT, MODULE, Clock().ms).transact)
        self._change, self._locks = change, locks

    def describe_pcr(self, index: int) -> Register:
        return self._change(super().describe_pcr(index))

    def lock_pcrs(self, count: int) -> None:
        if self._locks:
            super().lock_pcrs(count)


def test_the_register_holds_one_extension_with_c_and_every_register_is_locked() -> None:
    module = Lazy()
    digest = lock_configuration(module, RAW)
    assert digest == configuration_digest(RAW)
    assert module.describe_pcr(16).value == pcr16(digest)
    assert module.describe().locked_pcrs == tuple(range(32))


@pytest.mark.parametrize(
    "module",
    [
        Lazy(locks=False),
        Lazy(lambda register: replace(register, value=b"x" * 48)),
        Lazy(lambda register: replace(register, locked=False)),
    ],
    ids=["does not lock", "holds something else", "is said to be open"],
)
def test_a_register_that_is_not_what_it_must_be_ends_the_boot(module: Lazy) -> None:
    with pytest.raises(Mismatch, match="register 16"):
        lock_configuration(module, RAW)


def test_a_register_that_somebody_extended_before_ends_the_boot() -> None:
    module = Lazy()
    module.extend_pcr(16, b"first")
    with pytest.raises(Mismatch, match="register 16"):
        lock_configuration(module, RAW)
