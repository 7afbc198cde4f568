"""Tags of keys: what `aws:ResourceTag` and `aws:RequestTag` conditions read."""

from collections.abc import Mapping

from anchorhold.authority.kms import key_states
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.condition_keys import REQUEST_TAG
from anchorhold.authority.kms.faults import KmsFault, limit_exceeded, validation
from anchorhold.authority.kms.fields import Fields, stored
from anchorhold.authority.kms.key import KeyState
from anchorhold.authority.kms.paging import Listing, sequence

MAX_TAGS = 50  # of one key, AWS's quota
MAX_TAG_KEY, MAX_TAG_VALUE = 128, 256
_RESERVED = "aws:"


def tag_resource(call: Call) -> Answer:
    call.fields.allow("KeyId", "Tags")
    key = call.key()
    tags = check_tags(call.fields, needed=True)
    call.authorise(key, "TagResource", call.asked(tag_values(tags)))
    key_states.refuse(call, key, KeyState.PENDING_DELETION)
    if len(call.transaction.tags.of(key.key_id) | tags) > MAX_TAGS:
        raise limit_exceeded(f"expected at most {MAX_TAGS} tags of a key")
    call.transaction.tags.put(key.key_id, tags)
    return {}


def untag_resource(call: Call) -> Answer:
    call.fields.allow("KeyId", "TagKeys")
    key = call.key()
    names = call.fields.texts("TagKeys", items=MAX_TAGS, most=MAX_TAG_KEY)
    if names is None:
        raise validation("tagKeys: Member must not be null")
    names = tuple(stored(name, "TagKeys") for name in names)
    call.authorise(key, "UntagResource", call.asked({"aws:tagkeys": names}))
    key_states.refuse(call, key, KeyState.PENDING_DELETION)
    call.transaction.tags.remove(key.key_id, names)
    return {}


def list_resource_tags(call: Call) -> Answer:
    call.fields.allow("KeyId", "Limit", "Marker")
    key = call.key()
    call.authorise(key, "ListResourceTags")
    return Listing(
        "Tags",
        MAX_TAGS,
        MAX_TAGS,
        sequence(call.transaction.tags.of(key.key_id)),
        lambda pair: pair[0],
        lambda pair: {"TagKey": pair[0], "TagValue": pair[1]},
    ).page(call)


def check_tags(fields: Fields, *, needed: bool = False) -> dict[str, str]:
    """The tags of a request. Raises TagException among others."""
    members = fields.structures("Tags", items=MAX_TAGS)
    if members is None and needed:
        raise validation("tags: Member must not be null")
    tags: dict[str, str] = {}
    for member in members or ():
        member.allow("TagKey", "TagValue")
        name = stored(member.needed_text("TagKey", least=1, most=MAX_TAG_KEY), "TagKey")
        if name.lower().startswith(_RESERVED):
            raise KmsFault("TagException", "aws: prefixed tag key names are not allowed for external use.")
        if name in tags:
            raise KmsFault("TagException", "Duplicate tag keys")
        tags[name] = stored(member.needed_text("TagValue", most=MAX_TAG_VALUE), "TagValue")
    return tags


def tag_values(tags: Mapping[str, str]) -> dict[str, str | tuple[str, ...]]:
    """The condition keys that a request's tags fill."""
    if not tags:
        return {}
    return {REQUEST_TAG + name: value for name, value in tags.items()} | {"aws:tagkeys": tuple(tags)}


OPERATIONS = {"TagResource": tag_resource, "UntagResource": untag_resource, "ListResourceTags": list_resource_tags}
