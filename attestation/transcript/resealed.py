"""What a replay expects of a boot that seals its model anew (docs/spec/transcript.md 6.4, docs/spec/lifecycle.md 3)."""

from dataclasses import dataclass, field

from anchorhold.attestation.configuration import RESEAL_CLASS, Configuration
from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.sealed.manifest import decode_manifest
from anchorhold.attestation.transcript.bodies import KeyRelease, Model, Reseal
from anchorhold.attestation.transcript.trust import EvidenceStore


@dataclass(slots=True)
class Resealed:
    """One boot's resealing so far; `entry` once there is one."""

    entry: Reseal | None = None
    _manifest: bytes | None = None
    _drawn: set[str] = field(default_factory=set)

    def before(self, body: Model) -> None:
        """The model as it was verified."""
        self._manifest = body.manifest

    def drawn(self, configuration: Configuration, body: KeyRelease) -> None:
        """A source made a new share. Raises Mismatch in a boot that reseals nothing."""
        _same("purpose class of a boot with a new share", RESEAL_CLASS, configuration.purpose_class)
        self._drawn.add(body.source)

    def step(self, configuration: Configuration, body: Reseal, store: EvidenceStore) -> None:
        """Raises Mismatch, EvidenceMissing where the new manifest is not kept, or what its decoding raises.

        1. Only a boot of class `reseal`, once, of its own model, out of the manifest it verified;
        2. every source made a new share; 3. under the configured keys; 4. which the new manifest names, for the same
        descriptor.
        """
        # 1. and 2.
        _same("purpose class of a boot that reseals", RESEAL_CLASS, configuration.purpose_class)
        _same("resealings of this boot before", None, self.entry)
        _same("model", configuration.model, body.model)
        _same("manifest resealed", self._manifest, body.before)
        _same("sources of new shares", sorted(one.name for one in configuration.sources), sorted(self._drawn))
        # 3.
        _same("keys of the new shares", tuple(one.key for one in configuration.reseal), body.keys)
        self.entry = body
        # 4.
        manifest = decode_manifest(store.fetch(body.manifest))
        _same("model of the new manifest", configuration.model, manifest.digest)
        wanted = {(one.source, one.key) for one in configuration.reseal}
        named = {(one.source, one.key) for one in manifest.shares}
        _same("keys in the new manifest", sorted(wanted), sorted(named))


def _same(what: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise Mismatch(what, expected=expected, actual=actual)
