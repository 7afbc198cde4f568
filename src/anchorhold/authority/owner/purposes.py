"""Which purposes a lease grants, of those an enclave asks for (docs/spec/release.md 3.1). Nothing is ever added."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from anchorhold.attestation.purpose import Grant, Purpose, tenant_tag
from anchorhold.attestation.types import BootId, Milliseconds
from anchorhold.authority.owner.standing import Standing, Subject
from anchorhold.authority.owner.state import RegisteredModel

Backed = Callable[[Purpose], bool]
"""Whether a signed use ticket stands behind a purpose's ticket and approver."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What goes into the lease, and the reasons that do not."""

    grants: tuple[Grant, ...]
    barred: tuple[bytes, ...]
    dropped: tuple[str, ...]


def decide(
    asked: Sequence[Purpose],
    model: RegisteredModel,
    standing: Standing,
    *,
    boot_id: BootId,
    backed: Backed,
    now: Milliseconds,
) -> Granted:
    """The purposes granted, perhaps none.

    1. dropped: not the model's, revoked, or over;
    2. tenants: those of the model's own list where it has one, those asked for where any are named, and nobody revoked;
       a purpose that had tenants and has none left is dropped, never widened to all;
    3. every revoked tenant is barred beside that, for the purposes that are for anybody.
    """
    ended = {one.subject for one in standing.revoked(Subject.PURPOSE)}
    barred = _tags(boot_id, (one.subject for one in standing.revoked(Subject.TENANT)))
    own = _tags(boot_id, model.tenants)
    grants: list[Grant] = []
    for one in asked:
        # 1.
        over = one.expires is not None and one.expires <= now
        if one.reason not in model.purposes or one.reason in ended or over:
            continue
        # 2.
        named = set(one.tenants)
        wanted = named & own if named and own else named or own
        if (wanted and not wanted - barred) or (named and own and not wanted):
            continue
        grants.append(Grant(replace(one, tenants=tuple(sorted(wanted - barred))), backed(one)))
    kept = {one.purpose.reason for one in grants}
    dropped = tuple(one.reason for one in asked if one.reason not in kept)
    # 3.
    return Granted(tuple(grants), tuple(sorted(barred)), dropped)


def _tags(boot_id: BootId, tenants: Iterable[str]) -> set[bytes]:
    return {tenant_tag(boot_id, tenant) for tenant in tenants}
