"""The condition keys this KMS can fill, each with the type of its values and whether a request has several.

A key that is not here is refused when a policy is put. Some are here that no request fills today (`kms:ViaService`: no
service calls in a caller's name): absent is then the truth about every request, and operators treat it as AWS does.
"""

import re
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What the values of a key are. String operators read every kind as text."""

    STRING = "String"
    ARN = "Arn"
    BOOL = "Bool"
    NUMERIC = "Numeric"
    DATE = "Date"
    ADDRESS = "IpAddress"


@dataclass(frozen=True, slots=True)
class ConditionKey:
    """`name` is in lower case but for the pair that an encryption context or a tag key names."""

    name: str
    kind: Kind = Kind.STRING
    several: bool = False


RECIPIENT = "kms:recipientattestation:"
CONTEXT = "kms:encryptioncontext:"
REQUEST_TAG = "aws:requesttag/"
RESOURCE_TAG = "aws:resourcetag/"
_RECIPIENT_KEY = re.compile(RECIPIENT + r"(imagesha384|pcr([0-9]|[12][0-9]|3[01])|nitrotpmpcr([0-9]|1[0-9]|2[0-3]))")
_STRINGS = (
    "kms:calleraccount", "kms:viaservice", "kms:grantconstrainttype", "kms:requestalias", "kms:keyspec", "kms:keyusage",
    "kms:keyorigin", "kms:encryptionalgorithm", "kms:signingalgorithm", "kms:messagetype", "kms:datakeypairspec",
    "kms:keyagreementalgorithm", "kms:expirationmodel", "kms:wrappingalgorithm", "kms:wrappingkeyspec",
    "kms:granteeprincipal", "kms:retiringprincipal", "aws:principalaccount", "aws:principaltype", "aws:userid",
    "aws:username", "aws:useragent", "aws:requestedregion", "aws:sourcevpc", "aws:sourcevpce",
)  # fmt: skip
_BOOLS = (
    "kms:grantisforawsresource", "kms:multiregion", "kms:bypasspolicylockoutsafetycheck", "kms:reencryptonsamekey",
    "aws:securetransport", "aws:viaawsservice", "aws:principalisawsservice",
)  # fmt: skip
_PLAIN = {
    **{name: ConditionKey(name) for name in _STRINGS},
    **{name: ConditionKey(name, Kind.BOOL) for name in _BOOLS},
    **{
        key.name: key
        for key in (
            ConditionKey("aws:principalarn", Kind.ARN),
            ConditionKey("aws:sourceip", Kind.ADDRESS),
            ConditionKey("aws:currenttime", Kind.DATE),
            ConditionKey("aws:epochtime", Kind.DATE),
            ConditionKey("kms:validto", Kind.DATE),
            ConditionKey("kms:schedulekeydeletionpendingwindowindays", Kind.NUMERIC),
            ConditionKey("kms:encryptioncontextkeys", several=True),
            ConditionKey("kms:grantoperations", several=True),
            ConditionKey("kms:resourcealiases", several=True),
            ConditionKey("aws:tagkeys", several=True),
        )
    },
}


def condition_key(written: str) -> ConditionKey | None:
    """The key that a policy means; None for one that this KMS cannot fill."""
    lower = written.lower()
    for head in (CONTEXT, REQUEST_TAG, RESOURCE_TAG):
        # The pair's name keeps its case: another case is another pair (stricter than AWS's tags).
        if lower.startswith(head) and len(written) > len(head):
            return ConditionKey(head + written[len(head) :])
    if _RECIPIENT_KEY.fullmatch(lower):
        return ConditionKey(lower)
    return _PLAIN.get(lower)


def recipient_key(name: str) -> str:
    """The condition key of one attested value, e.g. `PCR16`."""
    return RECIPIENT + name.lower()


def context_key(name: str) -> str:
    """The condition key of one encryption context pair."""
    return CONTEXT + name
