"""Tenants' keys under load: made, rotated, used and shredded, and what must be true of each afterwards."""

import secrets
from dataclasses import dataclass, field, replace

from tests.authority.crash.answered import Answers, Lost, Told

from anchorhold.authority.owner.client import AdminFailed
from anchorhold.sim.owner_face import Authority

KEEPINGS = ("dedicated", "shared")


@dataclass(slots=True)
class Known:
    """What a tenant's only client knows of its key. `asked`: it ordered the shredding, and was not answered."""

    key_id: str
    shredded: bool = False
    asked: bool = False


@dataclass(slots=True)
class TenantLoad:
    """The tenants of all clients, each of one client alone."""

    authority: Authority
    answers: Answers
    known: dict[str, Known] = field(default_factory=dict)

    def once(self, mine: list[str], chance: int) -> None:
        """A new tenant with a model of its own, or the end of one."""
        if mine and chance % 2 == 0:
            self._shred(mine.pop(chance // 2 % len(mine)))
            return
        tenant = secrets.token_hex(8)
        fields = {"tenant": tenant, "tag": "crash", "keeping": KEEPINGS[chance // 2 % len(KEEPINGS)], "reason": "load"}
        key_id = str(self.authority.order("tenant-keys", **fields)["key_id"])
        self.known[tenant] = Known(key_id)
        self.answers.add(Told("tenant-key", key_id))
        mine.append(tenant)
        self._share(tenant)
        if chance // 4 % 2 == 0:
            rotated = str(self.authority.order("tenant-rotate", tenant=tenant, reason="load")["key_id"])
            self.answers.add(Told("tenant-rotate", rotated))
            self._share(tenant)

    def check_live(self) -> None:
        """Every key that was answered is there, as it was answered, and those in force are whole. Raises Lost."""
        shown = {str(one["key_id"]): one for one in self.authority.order("status")["tenants"]}  # type: ignore[union-attr, index, call-overload]  # the answer of our own desk
        for tenant, known in list(self.known.items()):
            one = shown.get(known.key_id)
            if one is None:
                raise Lost(f"the key of tenant {tenant} is gone")
            shredded = one["shredded"] is not None  # type: ignore[index, call-overload]  # as above
            if shredded != known.shredded and not (known.asked and shredded):
                raise Lost(f"tenant {tenant}: shredded: expected {known.shredded}, got {shredded}")
            self.known[tenant] = replace(known, shredded=shredded, asked=False)
        for tenant in [tenant for tenant, known in self.known.items() if not known.shredded][-len(KEEPINGS) :]:
            self._share(tenant)

    def _share(self, tenant: str) -> None:
        """It takes the key whole: a pool that lost it, or a handle that is gone, refuses."""
        version, model = secrets.token_hex(8), secrets.token_bytes(48)
        self.authority.order(
            "shares", model=model, model_id="tiny", version=version, purpose_class="serve", tenant=tenant
        )
        self.answers.add(Told("share", version))

    def _shred(self, tenant: str) -> None:
        known = self.known[tenant]
        known.asked = True
        try:
            self.authority.order("shred", tenant=tenant, reason="load")
        except AdminFailed as error:
            if error.code.startswith("guard"):
                known.asked = False  # refused: nothing was done
            raise
        known.shredded, known.asked = True, False
        self.answers.add(Told("tenant-shredded", known.key_id))
