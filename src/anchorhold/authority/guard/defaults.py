"""The policies that `init` writes: what a deployment needs to serve, and nothing else (docs/spec/guard.md 8)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from anchorhold.authority.guard.policy import VERSION, canonical_json


@dataclass(frozen=True, slots=True)
class Approving:
    """Names of approvers with their Ed25519 public keys in hex, and how many of them must agree."""

    approvers: Mapping[str, str] = field(default_factory=dict)
    quorum: int = 0


NOBODY_YET = Approving()

KMS_USE = (
    "kms:Decrypt", "kms:DeriveSharedSecret", "kms:Encrypt", "kms:GenerateDataKey*", "kms:GenerateMac", "kms:ReEncrypt*",
    "kms:Sign",
)  # fmt: skip
KMS_ADMINISTER = (
    "kms:CancelKeyDeletion", "kms:ConnectCustomKeyStore", "kms:CreateAlias", "kms:CreateCustomKeyStore",
    "kms:CreateGrant", "kms:CreateKey", "kms:DeleteAlias", "kms:DeleteCustomKeyStore",
    "kms:DeleteImportedKeyMaterial", "kms:DisableKey", "kms:DisableKeyRotation", "kms:DisconnectCustomKeyStore",
    "kms:EnableKey", "kms:EnableKeyRotation", "kms:GetParametersForImport", "kms:ImportKeyMaterial",
    "kms:PutKeyPolicy", "kms:ReplicateKey", "kms:RevokeGrant", "kms:RotateKeyOnDemand", "kms:ScheduleKeyDeletion",
    "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateCustomKeyStore", "kms:UpdateKeyDescription",
    "kms:UpdatePrimaryRegion",
)  # fmt: skip
KMS_READ = (
    "kms:DescribeCustomKeyStores", "kms:DescribeKey", "kms:GenerateRandom", "kms:GetKeyLastUsage", "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus", "kms:GetPublicKey", "kms:List*", "kms:Verify", "kms:VerifyMac",
)  # fmt: skip
OWNER_USE = ("owner:Key", "owner:Lease", "owner:NewShare")
OWNER_ADMINISTER = (
    "owner:Register", "owner:Share", "owner:Reinstate", "owner:Tenant", "owner:Backup", "owner:Floor", "owner:Reseal",
    "owner:Rotate", "owner:Retire", "owner:LowerFloor", "owner:TenantKey", "owner:TenantRotate",
    "owner:TenantRetire", "owner:Shred",
)  # fmt: skip
OWNER_OTHER = (
    "owner:Revoke", "owner:Heartbeat", "owner:HeartbeatKept", "owner:Status", "owner:Journal", "owner:ResealEnd",
    "owner:Incident",
)  # fmt: skip
OWNER_GRAVE = (
    "owner:Reinstate", "owner:Reseal", "owner:Retire", "owner:Backup", "owner:LowerFloor", "owner:TenantRetire",
    "owner:Shred",
)  # fmt: skip
"""What opens something again, takes every share out, or destroys a key: with approvers, their quorum's alone."""


def kms_policy(partition: str, region: str, principals: Mapping[str, str], approving: Approving = NOBODY_YET) -> str:
    """For a KMS face whose callers are `admin`, `publisher` and `enclave`, each by its ARN."""
    duties = {
        "admin": (*KMS_ADMINISTER, *KMS_READ),
        "publisher": ("kms:Encrypt", "kms:GenerateDataKey*", "kms:Sign", *KMS_READ),
        "enclave": (
            # Encrypt: the copies of a share that an enclave drew as it sealed a model anew.
            "kms:Decrypt", "kms:DeriveSharedSecret", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*",
            "kms:RetireGrant", *KMS_READ,
        ),
    }  # fmt: skip
    allow = [_tuple(name, "kms", (principals[name],), operations) for name, operations in duties.items()]
    apart = {"use": list(KMS_USE), "administer": list(KMS_ADMINISTER)}
    where = {"partitions": [partition], "regions": [region]}
    return _policy({"allow": allow, "separation": apart, **where}, approving)


def owner_policy(approving: Approving = NOBODY_YET) -> str:
    """For an owner face. With approvers, what is grave is done by their quorum alone."""
    plain = tuple(one for one in (*OWNER_ADMINISTER, *OWNER_OTHER) if one not in OWNER_GRAVE)
    allow = [
        _tuple("enclaves", "owner", ("enclave:*",), OWNER_USE),
        _tuple("desk", "owner", ("operator:*",), plain),
        _tuple("reinstating", "owner", ("operator:*",), OWNER_GRAVE) | {"approval": bool(approving.approvers)},
    ]
    apart = {"use": list(OWNER_USE), "administer": list(OWNER_ADMINISTER)}
    return _policy({"allow": allow, "separation": apart}, approving)


def _tuple(name: str, face: str, principals: Sequence[str], operations: Sequence[str]) -> dict[str, object]:
    return {
        "name": name,
        "faces": [face],
        "principals": list(principals),
        "operations": list(operations),
        "keys": ["*"],
    }


def _policy(parts: dict[str, object], approving: Approving) -> str:
    people = {
        "approvers": [{"name": name, "key": key} for name, key in sorted(approving.approvers.items())],
        "quorum": approving.quorum or len(approving.approvers),
    }
    return canonical_json({"version": VERSION, **parts, **(people if approving.approvers else {})})
