"""What one call fills of the condition keys: of its caller and its way here, of its key, and of what it asks for."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms.condition_keys import RESOURCE_TAG, context_key
from anchorhold.authority.kms.conditions import Values
from anchorhold.authority.kms.journal import Draft
from anchorhold.authority.kms.key import Key
from anchorhold.authority.kms.recipient import Recipient
from anchorhold.authority.kms.state import Network, Principal, Realm, Transaction


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operation brings beside its caller and its key. `context` is None where there can be none."""

    recipient: Recipient | None = None
    context: Mapping[str, str] | None = None
    values: Values = field(default_factory=dict)

    def fill(self) -> Iterator[tuple[str, str | tuple[str, ...]]]:
        if self.context:
            yield from ((context_key(name), value) for name, value in self.context.items())
            yield "kms:encryptioncontextkeys", tuple(self.context)
        if self.recipient is not None:
            yield from self.recipient.condition_values().items()
        yield from self.values.items()


def caller_values(realm: Realm, principal: Principal, draft: Draft, now: Milliseconds) -> dict[str, str]:
    """What every call of this caller fills."""
    values = {
        "kms:calleraccount": realm.account,
        "aws:principalaccount": realm.account,
        "aws:principalarn": principal.arn,
        "aws:principaltype": "User",
        "aws:username": principal.name,
        "aws:userid": principal.access_key_id,
        "aws:principalisawsservice": "false",
        "aws:viaawsservice": "false",
        "aws:requestedregion": realm.region,
        "aws:securetransport": "true",  # there is no other way in
        "aws:currenttime": datetime.fromtimestamp(now / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "aws:epochtime": str(now // 1000),
    }
    if draft.user_agent:
        values["aws:useragent"] = draft.user_agent
    if _address(draft.source_address) is not None:
        values["aws:sourceip"] = draft.source_address
    return values


def network_of(address: str, networks: Sequence[Network]) -> Network | None:
    """The narrowest network that an address belongs to."""
    ours = _address(address)
    if ours is None:
        return None
    ranges = ((ipaddress.ip_network(one.cidr), one) for one in networks)
    within = [(network.prefixlen, one) for network, one in ranges if ours in network]
    return max(within, key=lambda pair: pair[0])[1] if within else None


def network_values(network: Network | None) -> dict[str, str]:
    if network is None:
        return {}
    return {"aws:sourcevpc": network.vpc} | ({"aws:sourcevpce": network.vpce} if network.vpce else {})


def key_values(transaction: Transaction, key: Key, draft: Draft) -> dict[str, str | tuple[str, ...]]:
    """What the key itself fills."""
    values: dict[str, str | tuple[str, ...]] = {
        "kms:keyspec": key.spec,
        "kms:keyusage": key.usage.value,
        "kms:keyorigin": key.origin.value,
        "kms:multiregion": "false",
    }
    if aliases := transaction.aliases.of(key.key_id):
        values["kms:resourcealiases"] = aliases
    if alias := draft.named.get(key.key_id):
        values["kms:requestalias"] = alias
    tags = transaction.tags.of(key.key_id).items()
    return values | {RESOURCE_TAG + name: value for name, value in tags}


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
