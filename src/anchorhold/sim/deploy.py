"""The owner's desk of the simulated stack: configuration, release policy at both custodians, trust file.

What a platform team does by hand with `anchorhold model`, `image` and `authority`, in the same order and through the
same interfaces: the custodians are told over their own APIs, and nothing here is reachable from the enclave.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from anchorhold.attestation.canonical import Value
from anchorhold.attestation.configuration import (
    Configuration,
    EngineSettings,
    LogTrust,
    Source,
    configuration_digest,
    encode_configuration,
    pcr16,
)
from anchorhold.attestation.release.pin import ReleasePin
from anchorhold.attestation.sealed.manifest import ShareKind, UnverifiedManifest
from anchorhold.attestation.types import ModelDigest
from anchorhold.authority.kms.setup import CREDENTIALS
from anchorhold.authority.owner.authority import TOKEN_FILE
from anchorhold.authority.owner.client import AdminClient, AdminFailed, tenant_of
from anchorhold.authority.owner.setup import PublicIdentity, read_public
from anchorhold.authority.owner.tenant_table import KeyState
from anchorhold.authority.tls import TlsFiles
from anchorhold.publish.providers import kms_client
from anchorhold.sim.processes import StackError

REGION = "eu-central-1"
KMS_SOURCE = "kms"
PURPOSE = "customer-inference"
PURPOSES = (PURPOSE, "customer-support")
MEASURED = (0, 1, 2, 16)
_MANAGE = ["CreateKey", "DescribeKey", "GetKeyPolicy", "PutKeyPolicy", "EnableKey", "DisableKey"]
_MANAGE += ["ScheduleKeyDeletion", "TagResource"]  # what ends an incident, and what marks it


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be chosen for a stack; the rest follows. Times in milliseconds."""

    lease_ms: int = 60_000
    log_lease_ms: int = 60_000
    epoch_ms: int = 600_000
    grace_ms: int = 60_000
    engine: EngineSettings = field(default_factory=lambda: EngineSettings("bfloat16", 8_192, 16, 2))
    adapters: int = 4
    """In memory at a time, where there is an issuer of tenants' credentials: a KMS alone is none."""


@dataclass(frozen=True, slots=True)
class Face:
    """One running authority face."""

    url: str
    state: Path

    @property
    def ca(self) -> Path:
        return TlsFiles.within(self.state).authority

    @property
    def address(self) -> str:
        return urlsplit(self.url).netloc

    def ca_der(self) -> bytes:
        return x509.load_pem_x509_certificate(self.ca.read_bytes()).public_bytes(Encoding.DER)


class KmsDesk:
    """The KMS face as its administrator and its publisher use it: boto3, unchanged."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._credentials = json.loads((face.state / CREDENTIALS).read_text())

    def client(self, principal: str) -> Any:
        """A boto3 client as `principal`."""
        path = self._face.state / f"credentials-{principal}.json"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(json.dumps(self._credentials[principal]))
        return kms_client(endpoint=self._face.url, region=REGION, ca=self._face.ca, credentials=path)

    def enclave_credentials(self) -> str:
        """What the parent hands in: they select a caller, and no more."""
        chosen = {name: self._credentials["enclave"][name] for name in _CREDENTIAL_FIELDS}
        return json.dumps(chosen)

    def create_key(self) -> str:
        """A key that its publisher may seal under and that nobody may decrypt with; its ARN."""
        made = self.client("admin").create_key(Policy=self._policy(), Description="anchorhold model key share")
        return str(made["KeyMetadata"]["Arn"])

    def enable(self, key: str) -> None:
        """It may be used again, as its policy says."""
        self.client("admin").enable_key(KeyId=key)

    def disable(self, key: str) -> None:
        """Nobody uses it, whatever its policy says."""
        self.client("admin").disable_key(KeyId=key)

    def reseal_under(self, key: str, measurements: Mapping[int, bytes]) -> None:
        """Only an enclave with these registers may draw a share. `Encrypt` knows no recipient: it makes blobs."""
        attested = self._attested("GenerateDataKey", measurements)
        statements = [self._allow("admin", _MANAGE), attested, {**self._allow("enclave", ["Encrypt"]), "Sid": "copies"}]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.client("admin").put_key_policy(KeyId=key, PolicyName="default", Policy=policy)

    def release_to(self, key: str, *accepted: Mapping[int, bytes]) -> None:
        """Only enclaves with one of these sets of registers may decrypt from now on; none: nobody."""
        self.client("admin").put_key_policy(KeyId=key, PolicyName="default", Policy=self._policy(*accepted))

    def enabled(self, key: str) -> bool:
        """Whether it may be used at all."""
        return bool(self.client("admin").describe_key(KeyId=key)["KeyMetadata"]["Enabled"])

    def _policy(self, *accepted: Mapping[int, bytes]) -> str:
        statements = [
            self._allow("admin", _MANAGE),
            self._allow("publisher", ["DescribeKey", "GenerateDataKey", "Encrypt"]),
        ]
        for place, measurements in enumerate(accepted, 1):
            statements.append({**self._attested("Decrypt", measurements), "Sid": f"enclave{place}"})
        return json.dumps({"Version": "2012-10-17", "Statement": statements})

    def _attested(self, action: str, measurements: Mapping[int, bytes]) -> dict[str, object]:
        wanted = {f"kms:RecipientAttestation:PCR{index}": value.hex() for index, value in measurements.items()}
        return {**self._allow("enclave", [action]), "Condition": {"StringEqualsIgnoreCase": wanted}}

    def _allow(self, principal: str, actions: list[str]) -> dict[str, object]:
        return {
            "Sid": principal,
            "Effect": "Allow",
            "Principal": {"AWS": self._credentials[principal]["arn"]},
            "Action": [f"kms:{action}" for action in actions],
            "Resource": "*",
        }


AUTHORITIES_STEP = {
    ("kms", "owner"): "key authorities: KMS face and owner face, each with its own state",
    ("kms",): "key authority: KMS face alone",
    ("owner",): "key authority: owner face alone",
}
POLICY_STEP = {
    ("kms", "owner"): "release policy at both custodians: PCR 0, 1, 2 and 16",
    ("kms",): "release policy at the KMS: PCR 0, 1, 2 and 16",
    ("owner",): "release policy at the owner: PCR 0, 1, 2 and 16",
}
_CREDENTIAL_FIELDS = ("access_key_id", "secret_access_key", "session_token")


class OwnerDesk:
    """The owner face's admin API."""

    def __init__(self, face: Face) -> None:
        self.token = (face.state / TOKEN_FILE).read_text().strip()
        self._client = AdminClient(face.url, face.ca, self.token)

    def register(
        self, descriptor: bytes, alias: str, measurements: Mapping[int, bytes], lease_ms: int, *, key: str = ""
    ) -> None:
        """Shares of this model and leases go to enclaves with these registers, for the purposes of the stack.

        `key`: the one its shares are under. Where it is a tenant's, the model is for that tenant alone.
        """
        tenant = tenant_of(self._tenant_keys(), key)
        fields: dict[str, Value] = {
            "descriptor": descriptor,
            "alias": alias,
            "measurements": [{str(index): value for index, value in measurements.items()}],
            "purposes": list(PURPOSES),
            "tenants": [] if tenant is None else [tenant],
            "purpose_class": "serve",
            "ttl_ms": lease_ms,
        }
        self._call("models", fields)

    def newer_key(self, key: str, reason: str) -> str:
        """The key that new shares are under where those of now are under `key`: its tenant's, or else the owner's.

        Where that is `key` itself it is rotated, so given again it is the same.
        """
        keys = self._tenant_keys()
        tenant = tenant_of(keys, key)
        if tenant is None:
            current = str(self._call("status", {})["key_id"])
            return current if current != key else str(self._call("rotate", {"reason": reason})["key_id"])
        newest = [one["key_id"] for one in keys if (one["tenant"], one["state"]) == (tenant, KeyState.IN_FORCE.value)]
        if newest not in ([], [key]):
            return newest[0]
        return str(self._call("tenant-rotate", {"tenant": tenant, "reason": reason})["key_id"])

    def order_reseal(self, model: ModelDigest, measurements: Mapping[int, bytes], expires: int, reason: str) -> None:
        """An enclave with these registers may have the share for class `reseal`."""
        sets: list[Value] = [{str(index): value for index, value in measurements.items()}]
        self._call("reseal", {"model": model, "measurements": sets, "expires": expires, "reason": reason})

    def end_reseal(self, model: ModelDigest, reason: str) -> None:
        """None may any more."""
        self._call("reseal-end", {"model": model, "reason": reason})

    def _call(self, act: str, fields: Mapping[str, Value]) -> dict[str, Value]:
        with _refusals():
            return self._client.call(act, fields)

    def _tenant_keys(self) -> tuple[dict[str, str], ...]:
        with _refusals():
            return self._client.tenant_keys()


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except AdminFailed as error:
        raise StackError(f"owner authority: {error}") from error


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment, ready to be written and started."""

    configuration: bytes
    measurements: Mapping[int, bytes]
    """Registers 0, 1, 2 and 16."""


@dataclass(frozen=True, slots=True)
class KmsHalf:
    """The KMS face and its key, as a source of a share."""

    face: Face
    key: str
    custodian: str

    def source(self, lease_ms: int) -> Source:
        return Source(
            kind="kms",
            name=KMS_SOURCE,
            custodian=self.custodian,
            endpoint=self.face.url,
            authorities=(self.face.ca_der(),),
            key=self.key,
            region=REGION,
            lease_key=b"",
            lease_ttl_ms=lease_ms,
        )


@dataclass(frozen=True, slots=True)
class OwnerHalf:
    """The owner face, as a source of a share. `key`: the one the model's shares are under."""

    face: Face
    identity: PublicIdentity
    key: str

    @classmethod
    def of(cls, face: Face) -> "OwnerHalf":
        """With its first wrapping key."""
        identity = read_public(face.state)
        return cls(face, identity, identity.key_id)

    def source(self, lease_ms: int) -> Source:
        return Source(
            kind="owner",
            name=self.identity.name,
            custodian=self.identity.custodian,
            endpoint=self.face.url,
            authorities=(self.face.ca_der(),),
            key=self.key,
            region="",
            lease_key=bytes.fromhex(self.identity.lease_key),
            lease_ttl_ms=lease_ms,
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """What the configuration is made of."""

    model: ModelDigest
    model_id: str
    signer: bytes
    kms: KmsHalf | None
    owner: OwnerHalf | None
    log_origin: str
    log_key: str


def under_keys_of(
    sealed: UnverifiedManifest, kms: KmsHalf | None, owner: OwnerHalf | None
) -> tuple[KmsHalf | None, OwnerHalf | None]:
    """The halves with the keys that the model is sealed under: another than the first, once it was sealed anew."""
    keys = {share.kind: share.key for share in sealed.shares}
    return (
        None if kms is None else replace(kms, key=keys[ShareKind.KMS]),
        None if owner is None else replace(owner, key=keys[ShareKind.OWNER]),
    )


def deployment(parts: Parts, settings: Settings, image: Mapping[int, bytes]) -> Deployment:
    """The configuration's bytes, and the registers an enclave of `image` under it shows."""
    halves = [half.source(settings.lease_ms) for half in (parts.kms, parts.owner) if half is not None]
    issuer = None if parts.owner is None else bytes.fromhex(parts.owner.identity.credential_issuer)
    raw = encode_configuration(
        Configuration(
            model=parts.model,
            model_id=parts.model_id,
            alias=parts.model_id,
            signers=(parts.signer,),
            sources=tuple(halves),
            log=LogTrust(parts.log_origin, parts.log_key, "none"),
            log_lease_ms=settings.log_lease_ms,
            epoch_ms=settings.epoch_ms,
            grace_ms=settings.grace_ms,
            purposes=PURPOSES,
            purpose_class="serve",
            credential_issuer=issuer,
            release_policy=None,
            engine=settings.engine,
            adapters=0 if issuer is None else settings.adapters,
        )
    )
    registers = {index: image[index] for index in MEASURED if index in image}
    return Deployment(raw, {**registers, 16: pcr16(configuration_digest(raw))})


def trust_file(
    parts: Parts, deployed: Deployment, *, name: str, root_pem: str, releases: ReleasePin
) -> dict[str, object]:
    """What a client or an auditor of this stack pins; the gateway is known once it listens."""
    return {
        "version": 2,
        "name": name,
        "gateway": "127.0.0.1:0",
        "platforms": ["simulated"],
        "root": root_pem,
        "releases": releases.as_json(),
        "configuration": configuration_digest(deployed.configuration).hex(),
        "model": parts.model.hex(),
        "alias": parts.model_id,
        "max_age_s": 300,
        "log": {"origin": parts.log_origin, "key": parts.log_key},
    }
