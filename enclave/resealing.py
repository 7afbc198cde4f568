"""From LOGGED to DEAD of a boot that seals its model anew, and serves nobody (docs/spec/lifecycle.md 3).

New shares come from every source under the configured new keys; then the old ones, whose leases are required before
every piece. Bodies leave as ciphertext; without the salt, which is in the manifest, nobody could open them even with
every new share. The manifest leaves last, once the log has the record that names it.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping

from anchorhold.attestation.sealed.descriptor import encode_descriptor
from anchorhold.attestation.sealed.manifest import Body, Manifest, PurposeClass, encode_manifest
from anchorhold.attestation.sealed.shares import SALT_BYTES, key_commitment, model_key
from anchorhold.attestation.transcript.bodies import Close, Death, Reseal
from anchorhold.attestation.types import Milliseconds
from anchorhold.enclave.backstop import Backstop
from anchorhold.enclave.boot import Booted, boottime
from anchorhold.enclave.keys.clock import RecordClock
from anchorhold.enclave.keys.gate import Gate
from anchorhold.enclave.keys.keeper import LeaseKeeper, wipe_drawn
from anchorhold.enclave.keys.lease import LeaseEnded
from anchorhold.enclave.keys.secret import Secret
from anchorhold.enclave.keys.source import Released
from anchorhold.enclave.model.reseal_bodies import reseal_bodies
from anchorhold.enclave.model.sealed_files import unlock
from anchorhold.enclave.parent_ports import fetch_ahead, store
from anchorhold.enclave.phases import Step
from anchorhold.enclave.refusal import offer_refusal
from anchorhold.enclave.serve.egress import EgressClass
from anchorhold.enclave.serve.log_errors import LogContradiction, LogUnavailable
from anchorhold.enclave.serve.recorder import Recorder
from anchorhold.enclave.sources import asked_purposes, key_sources

RECORDS_TIMEOUT_S = 30.0  # for the log to take the records of the boot
EXIT_ENDED = 3  # the lease is over before the work was done
RESEALED = "resealed"
MANIFEST = "manifest"
WIPED = ("shares", "model-keys", "buffers")


class Resealing:
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

    def run(self) -> int:
        """Raises what does not hold; shares, keys and buffers are wiped then as at the end."""
        self.backstop.start()
        try:
            self._reseal()
            return self._end()
        except Exception as error:
            wiped_ms = self.clock.now_ms()
            self.backstop.wiped()
            offer_refusal(self.booted.scribe, error, wiped_ms=wiped_ms, lease_ttl_ms=self._longest_ttl)
            raise
        finally:
            self.gate.close()

    def _reseal(self) -> None:
        booted, manifest = self.booted, self.booted.manifest
        # KEYED: new shares first, so that the leases in force are those of the old key, which may be revoked.
        drawn = self.keeper.draw()
        salt = secrets.token_bytes(SALT_BYTES)
        try:
            new = _new_key(manifest, drawn, salt)
        finally:
            wipe_drawn(drawn)
        with _wiped(new):
            commitment = key_commitment(new.view(), manifest.digest)
            shares = self.keeper.obtain()
            self.keeper.start()
            old = unlock(manifest, shares, PurposeClass.RESEAL)
            booted.phases.take(Step.KEY_PROVED)
            bodies = self._bodies(old, new)
        raw = encode_manifest(
            encode_descriptor(manifest.descriptor),
            salt=salt,
            commitment=commitment,
            bodies=bodies,
            shares=tuple(copy for name in sorted(drawn) for copy in drawn[name].wrapped),
        )
        # RESEALED: in the log, then out.
        booted.scribe.write(self._record(raw), (raw,))
        self._may_go_on()
        self._put(MANIFEST, len(raw), iter((raw,)))
        booted.phases.take(Step.MODEL_RESEALED)
        self.backstop.wiped()

    def _bodies(self, old: Secret, new: Secret) -> tuple[Body, ...]:
        """Out they go, once the log has what was released; both keys are wiped."""
        with _wiped(old):
            self.recorder.barrier(RECORDS_TIMEOUT_S)
            return reseal_bodies(
                self.booted.manifest,
                old,
                new,
                fetch=lambda name: fetch_ahead(self.booted.launch.window, name),
                put=self._put,
                may_go_on=self._may_go_on,
            )

    def _record(self, raw: bytes) -> Reseal:
        configuration = self.booted.configuration
        return Reseal(
            model=configuration.model,
            before=self.booted.manifest_digest,
            manifest=hashlib.sha256(raw).digest(),
            keys=tuple(one.key for one in configuration.reseal),
        )

    def _put(self, name: str, size: int, pieces: Iterator[bytes]) -> None:
        self.booted.ledger.count(EgressClass.SEALED, size)
        store(self.booted.launch.window, name, size, pieces)

    def _may_go_on(self) -> None:
        require_undrained(self.gate)

    def _end(self) -> int:
        booted = self.booted
        booted.phases.take(Step.DRAINED)
        self.gate.close()
        with contextlib.suppress(LogUnavailable, LogContradiction):
            booted.scribe.write(Close(RESEALED, {}, dict(booted.ledger.snapshot()), WIPED))
        self.recorder.close()
        booted.scribe.close()
        return 0

    def _offer_cut(self, within_s: float) -> None:
        cause = self.gate.end
        assert cause is not None, "asked after the end only"
        wiped_ms = Milliseconds(self.clock.now_ms() + int(within_s * 1000))
        death = Death(
            reason=cause.event.value,
            source=cause.source or "enclave",
            last_token_ms=None,
            wiped_ms=wiped_ms,
            lease_ttl_ms=self._longest_ttl,
            lease_id=None,
            egress=dict(self.booted.ledger.snapshot()),
        )
        self.booted.scribe.offer_death(death, within_s=within_s)

    @property
    def _longest_ttl(self) -> int:
        return max(source.lease_ttl_ms for source in self.booted.configuration.sources)


def require_undrained(gate: Gate) -> None:
    """Raises LeaseEnded. A drain is for answers in flight, and there are none here: a refusal is the end."""
    gate.require()
    if (drain := gate.drain) is not None:
        raise LeaseEnded(f"{drain.event.value} by {drain.source!r} {drain.code}")


def _new_key(manifest: Manifest, drawn: Mapping[str, Released], salt: bytes) -> Secret:
    model = manifest.descriptor
    views = [share.view() for name in sorted(drawn) if (share := drawn[name].share) is not None]
    return Secret(model_key(views, salt=salt, model_id=model.model_id, version=model.version, model=manifest.digest))


@contextlib.contextmanager
def _wiped(*secrets_: Secret) -> Iterator[None]:
    try:
        yield
    finally:
        for one in secrets_:
            one.wipe()
