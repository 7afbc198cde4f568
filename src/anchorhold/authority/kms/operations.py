"""Every operation that AWS KMS has (botocore model kms-2014-11-01 in boto3 1.44.5): done here, or refused by name."""

from collections.abc import Callable, Mapping

from anchorhold.authority.kms import (
    aliases,
    ciphertexts,
    data_key_pairs,
    data_keys,
    deletion,
    grants,
    import_parameters,
    importing,
    keys,
    pairs,
    policies,
    rotation,
    signing,
    stores,
    tags,
)
from anchorhold.authority.kms.call import Answer, Call

ALL_OPERATIONS = frozenset(
    {
        "CancelKeyDeletion",
        "ConnectCustomKeyStore",
        "CreateAlias",
        "CreateCustomKeyStore",
        "CreateGrant",
        "CreateKey",
        "Decapsulate",
        "Decrypt",
        "DeleteAlias",
        "DeleteCustomKeyStore",
        "DeleteImportedKeyMaterial",
        "DeriveSharedSecret",
        "DescribeCustomKeyStores",
        "DescribeKey",
        "DisableKey",
        "DisableKeyRotation",
        "DisconnectCustomKeyStore",
        "EnableKey",
        "EnableKeyRotation",
        "Encapsulate",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateMac",
        "GenerateRandom",
        "GetKeyLastUsage",
        "GetKeyPolicy",
        "GetKeyRotationStatus",
        "GetParametersForImport",
        "GetPublicKey",
        "ImportKeyMaterial",
        "ListAliases",
        "ListGrants",
        "ListKeyPolicies",
        "ListKeyRotations",
        "ListKeys",
        "ListResourceTags",
        "ListRetirableGrants",
        "PutKeyPolicy",
        "ReEncrypt",
        "ReplicateKey",
        "RetireGrant",
        "RevokeGrant",
        "RotateKeyOnDemand",
        "ScheduleKeyDeletion",
        "Sign",
        "TagResource",
        "UntagResource",
        "UpdateAlias",
        "UpdateCustomKeyStore",
        "UpdateKeyDescription",
        "UpdatePrimaryRegion",
        "Verify",
        "VerifyMac",
    }
)
_FAMILIES = (
    keys, policies, deletion, rotation, aliases, tags, grants, data_keys, ciphertexts, pairs, signing, data_key_pairs,
    import_parameters, importing, stores,
)  # fmt: skip
DONE: Mapping[str, Callable[[Call], Answer]] = {
    name: operation for family in _FAMILIES for name, operation in family.OPERATIONS.items()
}
OTHER_OPERATIONS = ALL_OPERATIONS - DONE.keys()
"""What answers UnsupportedOperationException."""
