"""A boot with tenants' adapters, honest where a test does not say otherwise."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from anchorhold.attestation.sealed.body import sealed_size
from anchorhold.attestation.sealed.descriptor import (
    Descriptor,
    ModelFile,
    decode_descriptor,
    descriptor_digest,
    encode_descriptor,
)
from anchorhold.attestation.sealed.manifest import (
    Body,
    PurposeClass,
    ShareKind,
    ShareRole,
    WrappedShare,
    encode_manifest,
)
from anchorhold.attestation.transcript.bodies import Adapter, AdapterEnd, Revoke
from anchorhold.attestation.transcript.report import Finding
from anchorhold.attestation.types import ModelDigest, Sha384
from anchorhold.audit.verify import audit
from anchorhold.publish.signing import ModelSigner, load_root, load_signer, sign_manifest
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.story import MODEL, Story, configuration, sha256

KEYS = {"kms": "arn:aws:kms:us-east-1:111122223333:key/tenant", "owner": "tenant-key"}


def _files(*, adapter: bool) -> tuple[str, ...]:
    if adapter:
        return "adapter_config.json", "adapter_model.safetensors"
    return "config.json", "model.safetensors", "tokenizer.json"


def descriptor(name: str = "legal", base: ModelDigest | None = MODEL) -> bytes:
    """An adapter's; with no base, a model's."""
    files = tuple(ModelFile(name, 1) for name in _files(adapter=base is not None))
    return encode_descriptor(Descriptor(name, "1", files, Sha384(b"\x7e" * 48), base=base))


def digest(name: str = "legal") -> ModelDigest:
    return descriptor_digest(descriptor(name))


A, B = digest(), digest("medical")


def manifest(described: bytes, keys: Mapping[str, str]) -> bytes:
    kinds = {"kms": ShareKind.KMS, "owner": ShareKind.OWNER, "third": ShareKind.OWNER}
    names = [file.name for file in decode_descriptor(described).files]
    return encode_manifest(
        described,
        salt=b"s" * 32,
        commitment=b"c" * 32,
        bodies=tuple(Body(name, sealed_size(1), b"h" * 32) for name in names),
        shares=tuple(
            WrappedShare(name, kinds[name], ShareRole.SHARE, PurposeClass.SERVE, key, b"blob", b"c" * 16)
            for name, key in keys.items()
        ),
    )


class Adapted(Story):
    """A boot whose configuration allows two adapters at a time."""

    def __init__(self, pki: SimulatedPki, state: Path, signers: Path, adapters: int = 2) -> None:
        issuer = b"i" * 32 if adapters else None
        configured = replace(
            configuration(), signers=(load_root(signers / "tenant"),), adapters=adapters, credential_issuer=issuer
        )
        super().__init__(pki, state, configured)
        self.signers, self.signer = signers, load_signer(signers / "tenant")
        self.own_lease = b""

    def ready(self) -> "Adapted":
        """Serves its model."""
        self.own_lease = self.serving()
        return self

    def sealed(
        self, name: str = "legal", under: Mapping[str, str] = KEYS, signer: ModelSigner | None = None, **changes: object
    ) -> None:
        """The entry `adapter`; the entries from here on are about it."""
        described = descriptor(name)
        raw = manifest(described, under)
        self.shown(raw, sign_manifest(raw, signer or self.signer), name, under, **changes)

    def shown(
        self, raw: bytes, bundle: bytes, name: str = "legal", under: Mapping[str, str] = KEYS, **changes: object
    ) -> None:
        """The same, of any manifest."""
        body = Adapter(digest(name), MODEL, name, sha256(raw), sha256(bundle), tuple(under.values()))
        body = replace(body, **changes)  # type: ignore[arg-type] # a test names real fields
        self.write(body, (raw, bundle))
        self.adapter = ModelDigest(Sha384(body.adapter))

    def keyed(self, number: int = 1, ask: str = "key") -> bytes:
        """Both sources release; the owner's lease."""
        self.obtain("kms", number, ask)
        return self.obtain("owner", number, ask).lease

    def said(self, sequence: int = 1, lease: bytes | None = None, **changes: object) -> None:
        """An answer, and its batch."""
        self.answer(self.own_lease if lease is None else lease, sequence, **changes)
        self.scribe.flush()

    def revoked(self) -> None:
        self.write(Revoke("lease", "owner", "revoked", self.clock.ms(), self.adapter))

    def ended(self, **changes: object) -> None:
        """The entry `adapter-end`; the entries from here on are about the model."""
        assert self.adapter is not None
        body = AdapterEnd(self.adapter, "refused", "owner", self.clock.ms())
        self.write(replace(body, **changes))  # type: ignore[arg-type] # a test names real fields
        self.adapter = None


def findings(boot: Adapted, tmp_path: Path, *, kept: bool = False) -> tuple[int, tuple[Finding, ...]]:
    """Of the boot as it is left, with all its receipts if `kept`."""
    paths = []
    for number, receipt in enumerate(boot.receipts if kept else ()):
        paths.append(tmp_path / f"{number}.receipt")
        paths[-1].write_bytes(receipt.encode())
    report = audit(boot.state, trust_files=[boot.trust(tmp_path)], receipts=paths).report
    return report.exit_code, report.findings
