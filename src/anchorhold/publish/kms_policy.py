"""AWS key policies and IAM policies out of accepted measurements (docs/spec/kms-policy.md 2).

One Allow for each accepted set, whole, so that no mix of two releases passes; and a Deny for every way round them, for
everybody, because a Deny also meets identity policies and grants. Administrators, custodian, sealers and enclaves are
told apart; nothing here talks to a KMS.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from anchorhold.attestation.policy import SERVICE_PCRS, Policy
from anchorhold.attestation.types import Platform
from anchorhold.publish.errors import PublishError

VERSION = "2012-10-17"
MAX_KEY_POLICY = 131_072  # characters, the KMS model's PolicyType
MAX_IDENTITY_POLICY = 6_144  # characters without white space: IAM's quota for a managed policy
MAX_PRINCIPALS = 32  # of one role; more is a fleet that should share a role
TEXT = re.compile(r"[\t\n\r\x20-\xff]+")  # the characters both services take
RECIPIENT_ACTIONS = ("kms:Decrypt", "kms:DeriveSharedSecret")
"""What yields a secret that was there before, to a recipient or in the clear."""
SEALING_ACTIONS = ("kms:Encrypt", "kms:GenerateDataKey")
_DATA_KEY_ACTIONS = ("kms:Encrypt", "kms:GenerateDataKey*")
_ADMINISTRATION = (
    "kms:DescribeKey", "kms:GetKeyPolicy", "kms:ListKeyPolicies", "kms:EnableKey", "kms:DisableKey",
    "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion", "kms:ListGrants", "kms:RevokeGrant", "kms:ListResourceTags",
)  # fmt: skip
_CUSTODY = ("kms:PutKeyPolicy", "kms:GetKeyPolicy", "kms:DescribeKey")
_ALWAYS_DENIED = {
    "DenyReEncryption": ("kms:ReEncrypt*",),  # takes no recipient: the plaintext leaves under another key
    "DenyGrants": ("kms:CreateGrant",),  # a grant's constraints know no attestation
    "DenyReplicas": ("kms:ReplicateKey", "kms:UpdatePrimaryRegion"),  # a replica has a policy of its own
    "DenyImport": ("kms:ImportKeyMaterial", "kms:GetParametersForImport"),  # whoever imports may keep a copy
    "DenyAliases": ("kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias"),  # a name that moves to another key
}
_TPM_BINDINGS = (frozenset({4, 12}), frozenset({7}))
_TPM_FIRMWARE = 1  # differs on every real instance that was seen, whatever AWS's page says
_PRINCIPAL = re.compile(r"arn:([a-z-]+):iam::(\d{12}):(?:role|user)/[\w+=,.@/-]{1,512}", re.ASCII)
_KEY = re.compile(r"arn:([a-z-]+):kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]{1,64}", re.ASCII)


class Partition(Enum):
    """AWS's separate worlds. An ARN of one means nothing in another."""

    AWS = "aws"
    AWS_EUSC = "aws-eusc"
    AWS_CN = "aws-cn"
    AWS_US_GOV = "aws-us-gov"


class KmsPolicyRefused(PublishError):
    """Arguments that make no policy worth its name."""

    code = "kms-policy"


@dataclass(frozen=True, slots=True)
class Principals:
    """Who may do what: four roles that hold none of each other's rights.

    Without a custodian nobody changes the policy ever again; without sealers nobody makes data keys any more.
    """

    partition: Partition
    enclaves: tuple[str, ...]
    administrators: tuple[str, ...]
    custodian: str | None = None
    sealers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, arns in (("enclave", self.enclaves), ("administrator", self.administrators)):
            if not arns:
                raise KmsPolicyRefused(f"{what}: expected at least one principal")
        keepers = () if self.custodian is None else (self.custodian,)
        for arns in (self.enclaves, self.administrators, keepers, self.sealers):
            _check_principals(self.partition, arns)
        users = {*self.enclaves, *self.sealers}
        if both := sorted(users & {*self.administrators, *keepers}):
            raise KmsPolicyRefused(f"expected users of the key and its administrators apart, got {both[0]!r} as both")
        if both := sorted(set(self.enclaves) & set(self.sealers)):
            raise KmsPolicyRefused(f"expected enclaves and sealers apart, got {both[0]!r} as both")


def key_policy(accepted: Policy, principals: Principals, context: Mapping[str, str] | None = None) -> str:
    """The policy of one key, as KMS takes it. `context` are encryption context pairs that every Decrypt must bring.

    Raises KmsPolicyRefused, PolicyInvalid.
    """
    _check_accepted(accepted)
    statements = [
        _allow("Administration", principals.administrators, _ADMINISTRATION),
        *_custody(principals.custodian),
        *_sealing(principals.sealers),
        *(
            _allow(f"AttestedDecrypt{at}", principals.enclaves, ("kms:Decrypt",)) | {"Condition": condition}
            for at, condition in enumerate(_conditions(accepted, context or {}))
        ),
        *(_deny(f"DenyUnattested{name}", RECIPIENT_ACTIONS, condition) for name, condition in _deviations(accepted)),
        *(_deny(sid, actions) for sid, actions in _ALWAYS_DENIED.items()),
    ]
    text = json.dumps({"Version": VERSION, "Id": "anchorhold", "Statement": statements}, indent=1)
    return _within(text, len(text), MAX_KEY_POLICY, "key policy")


def identity_policy(accepted: Policy, key: str, context: Mapping[str, str] | None = None) -> str:
    """The IAM policy for the role that the enclave's parent runs under: Decrypt under `key`, attested, and no more.

    Raises KmsPolicyRefused, PolicyInvalid.
    """
    _check_accepted(accepted)
    match = _KEY.fullmatch(key)
    if match is None or match[1] not in {one.value for one in Partition}:
        raise KmsPolicyRefused(f"key: expected the full ARN of a key, never an alias, got {key!r:.200}")
    statements: list[dict[str, object]] = [
        {"Sid": f"AttestedDecrypt{at}", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": key}
        | {"Condition": condition}
        for at, condition in enumerate(_conditions(accepted, context or {}))
    ]
    around = [action for actions in _ALWAYS_DENIED.values() for action in actions]
    around += [*_DATA_KEY_ACTIONS, "kms:PutKeyPolicy"]
    statements.append({"Sid": "DenyWaysRound", "Effect": "Deny", "Action": around, "Resource": key})
    text = json.dumps({"Version": VERSION, "Statement": statements}, indent=1)
    return _within(text, len("".join(text.split())), MAX_IDENTITY_POLICY, "IAM policy")


def recipient_condition(platform: Platform, index: int) -> str:
    """The condition key of one register."""
    if platform is Platform.NITRO_TPM:
        return f"kms:RecipientAttestation:NitroTPMPCR{index}"
    return "kms:RecipientAttestation:" + (f"PCR{index}" if index else "ImageSha384")


def _check_accepted(accepted: Policy) -> None:
    if Platform.NITRO_TPM not in accepted.platforms:
        accepted.demand(SERVICE_PCRS)
        return
    for one in accepted.measurements:
        if _TPM_FIRMWARE in one:
            raise KmsPolicyRefused("nitro-tpm: register 1 may not be bound: it differs from instance to instance")
        if not any(binding <= one.keys() for binding in _TPM_BINDINGS):
            raise KmsPolicyRefused(f"nitro-tpm: expected registers 4 and 12, or 7, got {sorted(one)}")


def _check_principals(partition: Partition, arns: Sequence[str]) -> None:
    if len(arns) > MAX_PRINCIPALS or len(set(arns)) != len(arns):
        raise KmsPolicyRefused(f"expected at most {MAX_PRINCIPALS} principals of one role, each once")
    for arn in arns:
        match = _PRINCIPAL.fullmatch(arn)
        if match is None:
            # An account as a principal gives the key to that account's IAM administrators.
            raise KmsPolicyRefused(f"principal: expected the ARN of a role or user, got {arn!r:.200}")
        if match[1] != partition.value:
            raise KmsPolicyRefused(f"principal: expected partition {partition.value}, got {arn!r:.200}")


def _custody(custodian: str | None) -> Iterator[dict[str, object]]:
    if custodian is not None:
        yield _allow("Custody", (custodian,), _CUSTODY)
    yield _deny_others("DenyPolicyChange", ("kms:PutKeyPolicy",), () if custodian is None else (custodian,))


def _sealing(sealers: tuple[str, ...]) -> Iterator[dict[str, object]]:
    if sealers:
        yield _allow("Sealing", sealers, SEALING_ACTIONS)
    yield _deny_others("DenyDataKeys", _DATA_KEY_ACTIONS, sealers)


def _conditions(accepted: Policy, context: Mapping[str, str]) -> Iterator[dict[str, dict[str, str]]]:
    """One condition for each accepted set, whole."""
    platform = next(iter(accepted.platforms))
    for one in accepted.measurements:
        condition = {"StringEqualsIgnoreCase": {recipient_condition(platform, at): one[at].hex() for at in sorted(one)}}
        if context:
            condition["StringEquals"] = {f"kms:EncryptionContext:{name}": text for name, text in context.items()}
        yield condition


def _deviations(accepted: Policy) -> Iterator[tuple[str, dict[str, object]]]:
    """One condition for each register: joined in one statement they would have to differ all at once."""
    platform = next(iter(accepted.platforms))
    for index in sorted(accepted.required):
        values = sorted({one[index].hex() for one in accepted.measurements})
        key = recipient_condition(platform, index)
        yield key.rpartition(":")[2], {"StringNotEqualsIgnoreCase": {key: values}}


def _allow(sid: str, principals: Sequence[str], actions: Sequence[str]) -> dict[str, object]:
    who = {"AWS": list(principals)}
    return {"Sid": sid, "Effect": "Allow", "Principal": who, "Action": list(actions), "Resource": "*"}


def _deny(sid: str, actions: Sequence[str], condition: Mapping[str, object] | None = None) -> dict[str, object]:
    statement: dict[str, object] = {"Sid": sid, "Effect": "Deny", "Principal": "*", "Action": list(actions)}
    return statement | {"Resource": "*"} | ({"Condition": condition} if condition else {})


def _deny_others(sid: str, actions: Sequence[str], named: Sequence[str]) -> dict[str, object]:
    return _deny(sid, actions, {"StringNotEquals": {"aws:PrincipalArn": list(named)}} if named else None)


def _within(text: str, length: int, limit: int, what: str) -> str:
    if length > limit:
        raise KmsPolicyRefused(f"{what}: expected at most {limit} characters, got {length}: accept fewer releases")
    if not TEXT.fullmatch(text):
        raise KmsPolicyRefused(f"{what}: expected characters of U+0020 to U+00FF")
    return text
