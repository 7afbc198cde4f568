"""A grant: leave to use one key for some operations, beside the key policy, under an encryption context or none.

A grant's constraints know no attestation: a way round a condition on it (docs/spec/kms-policy.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from anchorhold.attestation.types import Milliseconds

OPERATIONS = frozenset(
    {
        "Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo",
        "Sign", "Verify", "GetPublicKey", "CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext", "GenerateMac", "VerifyMac", "DeriveSharedSecret", "Encapsulate",
        "Decapsulate",
    }
)  # fmt: skip
"""What a grant can be for: the KMS model's list."""
_WITH_CONTEXT = frozenset(
    {
        "Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo",
        "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Constraints:
    """Of the encryption context: None is no constraint, an empty mapping is one."""

    equals: Mapping[str, str] | None = None
    subset: Mapping[str, str] | None = None

    def admit(self, operation: str, context: Mapping[str, str]) -> bool:
        """Constraints are of operations with an encryption context; the others they do not touch."""
        if operation not in _WITH_CONTEXT:
            return True
        if self.equals is not None and dict(context) != dict(self.equals):
            return False
        return self.subset is None or self.subset.items() <= context.items()

    def cover(self, other: "Constraints") -> bool:
        """Whether whatever `other` admits, these admit."""
        if self.equals is not None and (other.equals is None or dict(other.equals) != dict(self.equals)):
            return False
        if self.subset is None:
            return True
        floor = dict(other.subset or {}) | dict(other.equals or {})
        return self.subset.items() <= floor.items()

    @property
    def kinds(self) -> tuple[str, ...]:
        """As `kms:GrantConstraintType` names them."""
        named = (("EncryptionContextEquals", self.equals), ("EncryptionContextSubset", self.subset))
        return tuple(name for name, value in named if value is not None)


@dataclass(frozen=True, slots=True)
class Grant:
    grant_id: str
    key_id: str
    name: str | None
    grantee: str
    retiring: str | None
    operations: frozenset[str]
    constraints: Constraints
    created: Milliseconds

    def admits(self, operation: str, context: Mapping[str, str]) -> bool:
        return operation in self.operations and self.constraints.admit(operation, context)

    def covers(self, other: "Grant") -> bool:
        """Whether whatever `other` allows, this one allows: a grant made under a grant is no wider."""
        return other.operations <= self.operations and self.constraints.cover(other.constraints)
