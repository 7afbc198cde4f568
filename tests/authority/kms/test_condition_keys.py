"""Condition keys as the face fills them: of the caller, of the way here, of the key, and of what is asked."""

import json
from datetime import UTC, datetime

import pytest

from anchorhold.authority.kms import setup

from .conftest import CONTEXT, Kms, allow, refused


def conditional(kms: Kms, *actions: str, **condition: object) -> str:
    """A key that the publisher may use under one condition; names of operators have `__` for `:`."""
    block = {operator.replace("__", ":"): keys for operator, keys in condition.items()}
    return kms.key(allow(kms, "publisher", *actions) | {"Condition": block})


def asks(kms: Kms, arn: str, **more: object) -> None:
    kms.call("publisher", "GenerateDataKey", KeyId=arn, KeySpec="AES_256", **more)


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("holds", "operator", "key", "value"),
    [
        (True, "StringEquals", "kms:CallerAccount", "000000000001"),
        (False, "StringEquals", "kms:CallerAccount", "000000000002"),
        (True, "ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:user/pub*"),
        (False, "ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:role/pub*"),
        (True, "IpAddress", "aws:SourceIp", ["10.0.0.0/8", "127.0.0.0/8"]),
        (False, "NotIpAddress", "aws:SourceIp", "127.0.0.1"),
        (True, "Bool", "aws:SecureTransport", True),
        (True, "StringEquals", "aws:username", "publisher"),
        (True, "StringEquals", "aws:RequestedRegion", "eu-central-1"),
        (True, "StringEquals", "kms:KeySpec", "SYMMETRIC_DEFAULT"),
        (True, "StringEquals", "kms:KeyUsage", "ENCRYPT_DECRYPT"),
        (False, "StringEquals", "kms:KeyOrigin", "EXTERNAL"),
        (True, "Bool", "kms:MultiRegion", "false"),
        (False, "StringEquals", "kms:ViaService", "s3.eu-central-1.amazonaws.com"),
        (True, "Null", "kms:ViaService", "true"),
        (False, "StringEquals", "aws:SourceVpce", "vpce-1"),
    ],
)
def test_a_call_fills_the_keys_that_every_call_has(
    kms: Kms, holds: bool, operator: str, key: str, value: object
) -> None:
    arn = conditional(kms, "kms:GenerateDataKey", **{operator: {key: value}})
    if holds:
        asks(kms, arn)
    else:
        refused("AccessDeniedException", lambda: asks(kms, arn))


def test_time_is_the_faces_own(kms: Kms) -> None:
    now = kms.now / 1000
    window = {
        "DateGreaterThan": {"aws:CurrentTime": stamp(now - 60)},
        "DateLessThanEquals": {"aws:EpochTime": str(int(now) + 60)},
    }
    arn = conditional(kms, "kms:GenerateDataKey", **window)
    asks(kms, arn)
    kms.now += 62_000
    refused("AccessDeniedException", lambda: asks(kms, arn))


def test_a_vpc_is_known_by_the_addresses_that_are_said_to_be_its(kms: Kms) -> None:
    arn = conditional(kms, "kms:GenerateDataKey", StringEquals={"aws:SourceVpc": "vpc-1", "aws:SourceVpce": "vpce-1"})
    refused("AccessDeniedException", lambda: asks(kms, arn))
    setup.add_network(kms.folder, "127.0.0.0/8", "vpc-0")
    refused("AccessDeniedException", lambda: asks(kms, arn))
    setup.add_network(kms.folder, "127.0.0.1/32", "vpc-1", "vpce-1")
    asks(kms, arn)


def test_the_encryption_contexts_names_and_pairs_are_there(kms: Kms) -> None:
    only = {"ForAllValues__StringEquals": {"kms:EncryptionContextKeys": ["model", "role"]}}
    arn = conditional(kms, "kms:GenerateDataKey", StringEquals={"kms:EncryptionContext:role": "share"}, **only)
    asks(kms, arn, EncryptionContext=CONTEXT)
    for context in ({}, CONTEXT | {"role": "lease"}, CONTEXT | {"more": "1"}, {"Role": "share"}):
        refused("AccessDeniedException", lambda context=context: asks(kms, arn, EncryptionContext=context))  # type: ignore[misc]  # bound now
    needed = conditional(kms, "kms:GenerateDataKey", ForAnyValue__StringEquals={"kms:EncryptionContextKeys": "role"})
    asks(kms, needed, EncryptionContext=CONTEXT)
    refused("AccessDeniedException", lambda: asks(kms, needed))


def test_the_alias_in_the_request_and_the_aliases_of_the_key_are_told_apart(kms: Kms) -> None:
    request = conditional(kms, "kms:GenerateDataKey", StringEquals={"kms:RequestAlias": "alias/a"})
    kms.identity("admin", "kms:*")
    named = allow(kms, "admin", "kms:CreateAlias")
    resource = kms.key(
        named,
        allow(kms, "publisher", "kms:GenerateDataKey")
        | {"Condition": {"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/b*"}}},
    )
    refused("AccessDeniedException", lambda: asks(kms, resource))
    kms.call("admin", "CreateAlias", AliasName="alias/b1", TargetKeyId=resource)
    asks(kms, resource)
    refused("AccessDeniedException", lambda: asks(kms, request))
    refused("AccessDeniedException", lambda: kms.call("admin", "CreateAlias", AliasName="alias/a", TargetKeyId=request))


def test_tags_of_the_request_and_of_the_key(kms: Kms) -> None:
    tagging = {"StringEquals": {"aws:RequestTag/team": "ml"}, "ForAllValues__StringEquals": {"aws:TagKeys": "team"}}
    arn = conditional(kms, "kms:TagResource", **tagging)
    good, bad = [{"TagKey": "team", "TagValue": "ml"}], [{"TagKey": "team", "TagValue": "ops"}]
    refused("AccessDeniedException", lambda: kms.call("publisher", "TagResource", KeyId=arn, Tags=bad))
    more = [*good, {"TagKey": "other", "TagValue": ""}]
    refused("AccessDeniedException", lambda: kms.call("publisher", "TagResource", KeyId=arn, Tags=more))
    kms.call("publisher", "TagResource", KeyId=arn, Tags=good)
    use = kms.key(
        allow(kms, "publisher", "kms:TagResource"),
        allow(kms, "publisher", "kms:GenerateDataKey")
        | {"Condition": {"StringEquals": {"aws:ResourceTag/team": "ml"}}},
    )
    refused("AccessDeniedException", lambda: asks(kms, use))
    kms.call("publisher", "TagResource", KeyId=use, Tags=good)
    asks(kms, use)


def test_a_short_waiting_period_can_be_denied(kms: Kms) -> None:
    long = {"NumericGreaterThanEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": 14}}
    arn = conditional(kms, "kms:ScheduleKeyDeletion", **long)
    soon = {"KeyId": arn, "PendingWindowInDays": 7}
    refused("AccessDeniedException", lambda: kms.call("publisher", "ScheduleKeyDeletion", **soon))
    kms.call("publisher", "ScheduleKeyDeletion", KeyId=arn)


def test_a_policy_for_all_actions_but_some_and_all_keys_but_one(kms: Kms) -> None:
    arn = kms.key()
    hole = allow(kms, "publisher")
    hole.pop("Action")
    but = kms.key(hole | {"NotAction": ["kms:Put*", "kms:CreateGrant"]})
    asks(kms, but)
    refused("AccessDeniedException", lambda: kms.call("publisher", "PutKeyPolicy", KeyId=but, Policy="{}"))
    kms.identity("admin", "kms:*")
    default = [str(kms.call("admin", "CreateKey")["KeyMetadata"]["Arn"]) for _ in range(2)]
    statement = {"Effect": "Allow", "Action": "kms:GenerateDataKey", "NotResource": default[0]}
    setup.set_identity_policy(kms.folder, "publisher", json.dumps({"Statement": statement}))
    refused("AccessDeniedException", lambda: asks(kms, default[0]))
    asks(kms, default[1])
    refused("AccessDeniedException", lambda: asks(kms, arn))
