"""Grants: made, listed, revoked, retired. A grant allows what the key policy does not, but a Deny still meets it."""

import re
import secrets

from anchorhold.authority.kms import key_states, policy
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import (
    KmsFault,
    dry_run,
    limit_exceeded,
    not_found,
    unsupported,
    validation,
)
from anchorhold.authority.kms.fields import MAX_KEY_ID, Fields
from anchorhold.authority.kms.grant import OPERATIONS as GRANTABLE
from anchorhold.authority.kms.grant import Constraints, Grant
from anchorhold.authority.kms.grant_tokens import MAX_TOKEN, make_token, read_token
from anchorhold.authority.kms.key import Key
from anchorhold.authority.kms.paging import Listing

MAX_GRANTS = 50_000  # of one key, AWS's quota
MAX_PRINCIPAL = 256
MAX_GRANT_ID = 128
_NAME_FORM = r"[a-zA-Z0-9:/_-]+"
_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:(iam|sts)::\d{12}:[\w+=,.@/-]+", re.ASCII)
_SYMMETRIC = frozenset(
    {
        "Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo",
        "CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext",
    }
)  # fmt: skip


def create_grant(call: Call) -> Answer:
    call.fields.allow(
        "KeyId", "GranteePrincipal", "RetiringPrincipal", "Operations", "Constraints", "GrantTokens", "Name", "DryRun"
    )
    key = call.key()
    call.grant_tokens()
    wanted = _wanted(call, key)
    call.authorise(key, "CreateGrant", call.asked(_values(wanted)), under=lambda held: held.covers(wanted))
    key_states.usable(call, key)
    grant = _made(call, wanted)
    if call.fields.flag("DryRun"):
        raise dry_run()
    # The keystore first: no grant stays of a call that had no token to answer.
    token = make_token(call.around.keystore, grant.grant_id)
    if grant is wanted:
        call.transaction.grants.add(grant)
    call.draft.response = {"grantId": grant.grant_id, "keyId": call.realm.key_arn(key.key_id)}
    return {"GrantToken": token, "GrantId": grant.grant_id}


def list_grants(call: Call) -> Answer:
    call.fields.allow("Limit", "Marker", "KeyId", "GrantId", "GranteePrincipal")
    key = call.key()
    only = call.fields.text("GrantId", least=1, most=MAX_GRANT_ID, form="[0-9a-f]+")
    grantee = _principal(call.fields, "GranteePrincipal")
    call.authorise(key, "ListGrants")
    return Listing(
        "Grants",
        50,
        100,
        lambda after, limit: call.transaction.grants.after(after, limit, key_id=key.key_id, grantee=grantee, only=only),
        lambda grant: grant.grant_id,
        lambda grant: _entry(call, grant),
    ).page(call)


def list_retirable_grants(call: Call) -> Answer:
    call.fields.allow("Limit", "Marker", "RetiringPrincipal")
    retiring = _principal(call.fields, "RetiringPrincipal")
    if retiring is None:
        raise validation("retiringPrincipal: Member must not be null")
    call.authorise_account("ListRetirableGrants")
    return Listing(
        "Grants",
        50,
        100,
        lambda after, limit: call.transaction.grants.after(after, limit, retiring=retiring),
        lambda grant: grant.grant_id,
        lambda grant: _entry(call, grant),
    ).page(call)


def revoke_grant(call: Call) -> Answer:
    call.fields.allow("KeyId", "GrantId", "DryRun")
    key = call.key()
    grant_id = call.fields.needed_text("GrantId", least=1, most=MAX_GRANT_ID)
    call.draft.parameters["grantId"] = grant_id
    call.authorise(key, "RevokeGrant", call.asked({"kms:grantisforawsresource": "false"}))
    return _remove(call, _found(call, grant_id, key))


def retire_grant(call: Call) -> Answer:
    """By token, or by key and id: the retiring principal, the grantee if its grant says so, or whom policies allow."""
    call.fields.allow("GrantToken", "KeyId", "GrantId", "DryRun")
    token = call.fields.text("GrantToken", least=1, most=MAX_TOKEN)
    key_name = call.fields.text("KeyId", least=1, most=MAX_KEY_ID)
    grant_id = call.fields.text("GrantId", least=1, most=MAX_GRANT_ID)
    if (token is None) == (key_name is None and grant_id is None):
        raise validation("expected a GrantToken, or a KeyId and a GrantId")
    if token is not None:
        grant = _found(call, read_token(call.around.keystore, token), None)
        key = call.key_named(grant.key_id)
    else:
        key = call.key_named(key_name or "")
        grant = _found(call, grant_id or "", key)
    call.draft.parameters["grantId"] = grant.grant_id
    _authorise_retirement(call, key, grant)
    return _remove(call, grant)


def _authorise_retirement(call: Call, key: Key, grant: Grant) -> None:
    own = grant.retiring == call.principal.arn
    own |= grant.grantee == call.principal.arn and "RetireGrant" in grant.operations
    question = call.question("RetireGrant", call.realm.key_arn(key.key_id), call.values(key))
    if own and call.judge(key.policy, question) is not policy.Verdict.DENIED:
        return
    # RetireGrant in another grant is leave to retire that one.
    call.authorise(key, "RetireGrant", under=lambda held: held.grant_id == grant.grant_id)


def _wanted(call: Call, key: Key) -> Grant:
    fields = call.fields
    grantee = _principal(fields, "GranteePrincipal")
    if grantee is None:
        raise validation("granteePrincipal: Member must not be null")
    operations = fields.texts("Operations", items=len(GRANTABLE), most=64)
    if not operations or not set(operations) <= GRANTABLE:
        raise validation(f"operations: Member must satisfy enum value set: {sorted(GRANTABLE)}")
    if key.symmetric and not set(operations) <= _SYMMETRIC:
        raise validation(f"operations: a symmetric key has none of {sorted(set(operations) - _SYMMETRIC)}")
    wanted = Grant(
        secrets.token_bytes(32).hex(),
        key.key_id,
        fields.text("Name", least=1, most=MAX_PRINCIPAL, form=_NAME_FORM),
        grantee,
        _principal(fields, "RetiringPrincipal"),
        frozenset(operations),
        _constraints(fields),
        call.now,
    )
    call.draft.parameters |= {"granteePrincipal": grantee, "operations": sorted(wanted.operations)}
    call.draft.parameters |= {"constraints": list(wanted.constraints.kinds)} if wanted.constraints.kinds else {}
    return wanted


def _constraints(fields: Fields) -> Constraints:
    given = fields.structure("Constraints")
    if given is None:
        return Constraints()
    if "SourceArn" in given.members:
        raise unsupported("constraints.sourceArn is not supported here: no service calls in a caller's name")
    given.allow("EncryptionContextEquals", "EncryptionContextSubset")
    return Constraints(given.context("EncryptionContextEquals"), given.context("EncryptionContextSubset"))


def _made(call: Call, wanted: Grant) -> Grant:
    """The grant, or the one of that name that is the same in everything: CreateGrant can be repeated.

    Raises LimitExceededException where there is no room for one more.
    """
    rows = call.transaction.grants
    for known in rows.named(wanted.key_id, wanted.name) if wanted.name is not None else ():
        if _terms(known) == _terms(wanted):
            return known
    if rows.count(wanted.key_id) >= MAX_GRANTS:
        raise limit_exceeded(f"expected at most {MAX_GRANTS} grants of a key")
    return wanted


def _terms(grant: Grant) -> tuple[object, ...]:
    return grant.name, grant.grantee, grant.retiring, grant.operations, grant.constraints


def _values(grant: Grant) -> dict[str, str | tuple[str, ...]]:
    values: dict[str, str | tuple[str, ...]] = {
        "kms:grantoperations": tuple(sorted(grant.operations)),
        "kms:granteeprincipal": grant.grantee,
        "kms:grantisforawsresource": "false",
    }
    if grant.constraints.kinds:
        values["kms:grantconstrainttype"] = grant.constraints.kinds[0]
    return values | ({"kms:retiringprincipal": grant.retiring} if grant.retiring is not None else {})


def _entry(call: Call, grant: Grant) -> dict[str, object]:
    entry: dict[str, object] = {
        "KeyId": call.realm.key_arn(grant.key_id),
        "GrantId": grant.grant_id,
        "CreationDate": grant.created / 1000,
        "GranteePrincipal": grant.grantee,
        "IssuingAccount": call.realm.root_arn,
        "Operations": sorted(grant.operations),
    }
    contexts = zip(
        ("EncryptionContextEquals", "EncryptionContextSubset"),
        (grant.constraints.equals, grant.constraints.subset),
        strict=True,
    )
    optional = {
        "Name": grant.name,
        "RetiringPrincipal": grant.retiring,
        "Constraints": {name: dict(pairs) for name, pairs in contexts if pairs is not None} or None,
    }
    return entry | {name: value for name, value in optional.items() if value is not None}


def _principal(fields: Fields, name: str) -> str | None:
    arn = fields.text(name, least=1, most=MAX_PRINCIPAL)
    if arn is not None and not _PRINCIPAL.fullmatch(arn):
        raise KmsFault("InvalidArnException", f"{name}: expected the ARN of a principal")
    return arn


def _found(call: Call, grant_id: str, key: Key | None) -> Grant:
    grant = call.transaction.grants.get(grant_id) if re.fullmatch("[0-9a-f]{64}", grant_id) else None
    if grant is None or (key is not None and grant.key_id != key.key_id):
        raise not_found("there is no such grant of this key")
    return grant


def _remove(call: Call, grant: Grant) -> Answer:
    if call.fields.flag("DryRun"):
        raise dry_run()
    call.transaction.grants.remove(grant.grant_id)
    return {}


OPERATIONS = {
    "CreateGrant": create_grant,
    "ListGrants": list_grants,
    "ListRetirableGrants": list_retirable_grants,
    "RevokeGrant": revoke_grant,
    "RetireGrant": retire_grant,
}
