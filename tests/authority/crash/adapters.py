"""Adapters under load: each in a boot that has its base, and what must be true of its number afterwards."""

import secrets
from dataclasses import dataclass, field

from tests.authority.crash.answered import Answers, Lost, Told
from tests.authority.owner.adapted import Boot, adapter_descriptor

from anchorhold.attestation.lease import lease_id
from anchorhold.attestation.sealed.descriptor import descriptor_digest
from anchorhold.attestation.types import ModelDigest
from anchorhold.sim.owner_face import Authority

CHECKED = 2  # of the adapters that were released last, after each crash


@dataclass(frozen=True, slots=True)
class Adapted:
    """An adapter that was released to a boot, as its request 1."""

    boot: Boot
    model: ModelDigest
    adapter: ModelDigest


@dataclass(slots=True)
class AdapterLoad:
    """The adapters of all clients, each of one boot alone."""

    authority: Authority
    answers: Answers
    known: list[Adapted] = field(default_factory=list)

    def once(self, model: ModelDigest) -> str:
        """A new adapter for a new boot of this model: `granted`, or the code of the first refusal."""
        described = adapter_descriptor(secrets.token_hex(8), base=model)
        adapter = descriptor_digest(described)
        self.authority.register(descriptor=described, alias=adapter.hex()[:12])
        self.answers.add(Told("register", bytes(adapter)))
        boot = Boot(self.authority, self.authority.enclave(model=model))
        for asked in (None, adapter):
            answer = boot.asks(asked, model=model)
            if answer.signed is None:
                return answer.code
            self.answers.add(Told("release", lease_id(answer.signed)))
        self.known.append(Adapted(boot, model, adapter))
        return "granted"

    def check_live(self) -> None:
        """No number that was answered counts again, whatever has been revoked or killed since. Raises Lost."""
        for one in self.known[-CHECKED:]:
            if (code := one.boot.says(one.adapter, model=one.model)) != "replayed":
                raise Lost(f"an adapter's request number counts again: {code}")
