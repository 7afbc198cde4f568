"""One simulated enclave without a process, at a time that the caller turns; documents that are wrong in exactly one
place.

For tests of whoever verifies: everything but the root is real.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from anchorhold.attestation.configuration import pcr16
from anchorhold.attestation.policy import Policy, service_policy
from anchorhold.attestation.types import ConfigDigest, Platform
from anchorhold.enclave.nsm.module import NsmClient
from anchorhold.sim.nsm import ToyNsm, sign_document
from anchorhold.sim.pki import Leaf, SimulatedPki

START = datetime(2026, 1, 15, 12, 0, 0, tzinfo=UTC)
MODULE = "i-0123456789abcdef0-enc0123456789abcdef"
CONFIGURATION = ConfigDigest(b"c" * 48)
BOOT = {0: b"\x10" * 48, 1: b"\x11" * 48, 2: b"\x12" * 48, 4: b"\x14" * 48}
NONCE = b"n" * 48


@dataclass(slots=True)
class Clock:
    """A clock that its owner turns."""

    now: datetime = START

    def ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self.now.timestamp() * 1000)

    def forward(self, **delta: float) -> datetime:
        """The new time; `delta` as timedelta takes it."""
        self.now += timedelta(**delta)
        return self.now


@dataclass
class Stage:
    """A running simulated enclave, its root, and a policy that accepts it."""

    pki: SimulatedPki
    clock: Clock
    registers: Mapping[int, bytes] = field(default_factory=lambda: BOOT)

    def __post_init__(self) -> None:
        self.toy = ToyNsm(self.pki, self.registers, MODULE, self.clock.ms)
        self.module = NsmClient(self.toy.transact)
        self.module.extend_pcr(16, CONFIGURATION)
        self.module.lock_pcrs(32)
        self.leaf: Leaf = self.pki.leaf(MODULE, self.clock.now)

    @property
    def policy(self) -> Policy:
        """Accepts exactly this enclave as it should be."""
        measured = {index: BOOT[index] for index in (0, 1, 2)}
        return service_policy(frozenset({Platform.SIMULATED}), ({**measured, 16: pcr16(CONFIGURATION)},))

    def fields(self) -> dict[str, object]:
        """The fields of a good document, for a test to spoil."""
        registers = {index: self.module.describe_pcr(index).value for index in range(32)}
        return {
            "module_id": MODULE,
            "digest": "SHA384",
            "timestamp": self.clock.ms(),
            "pcrs": registers,
            "certificate": self.leaf.issued.der,
            "cabundle": list(self.leaf.cabundle),
            "public_key": None,
            "user_data": None,
            "nonce": NONCE,
        }

    def signed(self, **changes: object) -> bytes:
        """A document under the true leaf with these fields changed (one given as `...` is left out)."""
        fields = {name: value for name, value in {**self.fields(), **changes}.items() if value is not ...}
        return sign_document(fields, self.leaf.issued.key)
