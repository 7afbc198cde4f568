"""Aliases: names that can be moved from key to key, so a way round a key's policy for whoever calls by name.

The caller's own policy must allow the operation on the alias, and the policies of the keys concerned must allow it.
"""

import re

from anchorhold.authority.kms import key_states
from anchorhold.authority.kms.call import ALIAS, ALIAS_FORM, Answer, Call
from anchorhold.authority.kms.faults import KmsFault, limit_exceeded, not_found, validation
from anchorhold.authority.kms.fields import MAX_KEY_ID
from anchorhold.authority.kms.key import Alias, Key, KeyState
from anchorhold.authority.kms.paging import Listing
from anchorhold.authority.kms.request_values import Asked

MAX_ALIASES = 50  # of one key, AWS's quota
MAX_NAME = 256
_RESERVED = "alias/aws/"


def create_alias(call: Call) -> Answer:
    call.fields.allow("AliasName", "TargetKeyId")
    name, key = _name(call), call.key("TargetKeyId")
    _authorise(call, "CreateAlias", name, key)
    key_states.refuse(call, key, KeyState.PENDING_DELETION)
    if call.transaction.aliases.get(name) is not None:
        raise KmsFault("AlreadyExistsException", f"An alias with the name {call.realm.alias_arn(name)} already exists")
    if len(call.transaction.aliases.of(key.key_id)) >= MAX_ALIASES:
        raise limit_exceeded(f"expected at most {MAX_ALIASES} aliases of a key")
    call.transaction.aliases.add(Alias(name, key.key_id, call.now, call.now))
    return {}


def update_alias(call: Call) -> Answer:
    """Point an alias to another key of the same kind. Both keys' policies are asked."""
    call.fields.allow("AliasName", "TargetKeyId")
    name, key = _name(call), call.key("TargetKeyId")
    before = _pointed(call, name)
    _authorise(call, "UpdateAlias", name, before, key)
    key_states.refuse(call, key, KeyState.PENDING_DELETION)
    if (before.usage, before.symmetric) != (key.usage, key.symmetric):
        raise validation("The current and new keys of an alias must be of the same type and usage.")
    if key.key_id != before.key_id and len(call.transaction.aliases.of(key.key_id)) >= MAX_ALIASES:
        raise limit_exceeded(f"expected at most {MAX_ALIASES} aliases of a key")
    call.transaction.aliases.point(name, key.key_id, call.now)
    return {}


def delete_alias(call: Call) -> Answer:
    call.fields.allow("AliasName")
    name = _name(call)
    _authorise(call, "DeleteAlias", name, _pointed(call, name))
    call.transaction.aliases.remove(name)
    return {}


def list_aliases(call: Call) -> Answer:
    call.fields.allow("KeyId", "Limit", "Marker")
    named = call.fields.text("KeyId", least=1, most=MAX_KEY_ID)
    key = None if named is None else call.key_named(named)
    call.authorise_account("ListAliases")
    return Listing(
        "Aliases",
        50,
        100,
        lambda after, limit: call.transaction.aliases.after(after, limit, key_id=key.key_id if key else None),
        lambda alias: alias.name,
        lambda alias: _entry(call, alias),
    ).page(call)


def _entry(call: Call, alias: Alias) -> dict[str, object]:
    return {
        "AliasName": alias.name,
        "AliasArn": call.realm.alias_arn(alias.name),
        "TargetKeyId": alias.key_id,
        "CreationDate": alias.created / 1000,
        "LastUpdatedDate": alias.updated / 1000,
    }


def _authorise(call: Call, operation: str, name: str, *keys: Key) -> None:
    call.authorise_account(operation, call.realm.alias_arn(name), Asked(values={"kms:requestalias": name}))
    for key in keys:
        call.authorise(key, operation)


def _name(call: Call) -> str:
    name = call.fields.needed_text("AliasName", least=1, most=MAX_NAME, form=ALIAS_FORM)
    call.draft.parameters["aliasName"] = name
    if not re.fullmatch(ALIAS + ALIAS_FORM, name, re.ASCII) or name.startswith(_RESERVED):
        raise KmsFault("InvalidAliasNameException", "expected a name that begins alias/, and not alias/aws/")
    return name


def _pointed(call: Call, name: str) -> Key:
    alias = call.transaction.aliases.get(name)
    if alias is None:
        raise not_found(f"Alias {call.realm.alias_arn(name)} is not found.")
    return call.key_named(alias.key_id)


OPERATIONS = {
    "CreateAlias": create_alias,
    "UpdateAlias": update_alias,
    "DeleteAlias": delete_alias,
    "ListAliases": list_aliases,
}
