"""A journal in memory, signed and chained, whose entries a test adds or takes away."""

from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.cose import sign1
from anchorhold.attestation.journal import VERSION, entry_digest
from anchorhold.authority.export.run import Identity


@dataclass
class Journal:
    """Also a Source."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    entries: list[bytes] = field(default_factory=list)

    def add(self, kind: str = "register", **body: canonical.Value) -> bytes:
        prev = entry_digest(self.entries[-1]) if self.entries else b""
        seq = len(self.entries)
        payload = canonical.encode(
            {"v": VERSION, "seq": seq, "prev": prev, "t": 1_790_000_000_000 + seq, "type": kind, "body": body}
        )
        self.entries.append(sign1(payload, self.key, aad=labels.JOURNAL))
        return self.entries[-1]

    def page(self, start: int, count: int) -> tuple[bytes, ...]:
        return tuple(self.entries[start : start + count])

    @property
    def identity(self) -> Identity:
        return Identity("owner", "owner", self.key.public_key())


@pytest.fixture
def journal() -> Journal:
    made = Journal()
    made.add("register", alias="tiny", model=b"\xd1" * 48)
    made.add("deny", code="revoked", detail="the model is revoked", model=b"\xd1" * 48, ask="lease")
    made.add("guard-kill", reason="incident-7", operator="alice")
    return made
