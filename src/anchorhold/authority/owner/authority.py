"""One owner authority, loaded: identity, keys, state, clock. What every request handler is given."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.authority.guard import Guard
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.operators import TOKEN_FILE
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.journal import Journal
from anchorhold.authority.keystore import FullKeystore, Keystore, open_keystore
from anchorhold.authority.keystore.secret_file import Ask
from anchorhold.authority.owner.challenge import Challenges
from anchorhold.authority.owner.denials import DenialBudget
from anchorhold.authority.owner.keys import (
    CHALLENGE_USE,
    SigningKeys,
    make_challenge_key,
    open_challenge_key,
    open_keys,
)
from anchorhold.authority.owner.shares import Shares
from anchorhold.authority.owner.state import SCHEMA, Identity, State
from anchorhold.authority.owner.tenant_table import TenantKeys
from anchorhold.authority.owner.wrapping import Wrapping

__all__ = [
    "ANCHOR_CLASSES",
    "DATABASE",
    "PRODUCTION",
    "PUBLIC_FILE",
    "SIMULATED",
    "TOKEN_FILE",
    "DenialBudget",
    "Owner",
    "StateDamaged",
    "load_owner",
]

DATABASE = "owner.sqlite"
PUBLIC_FILE = "public.json"
SIMULATED, PRODUCTION = "simulated", "production"
ANCHOR_CLASSES = (SIMULATED, PRODUCTION)


class StateDamaged(Exception):
    """A state folder that no authority may be run from."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Everything one owner face works with."""

    identity: Identity
    anchors: tuple[Anchor, ...]
    keys: SigningKeys = field(repr=False)
    keystore: FullKeystore = field(repr=False)
    state: State
    journal: Journal
    shares: Shares
    wrapping: Wrapping
    tenant_keys: TenantKeys
    guard: Guard
    challenges: Challenges
    denials: DenialBudget
    clock: Callable[[], Milliseconds]

    @property
    def platforms(self) -> frozenset[Platform]:
        """What may ask: the anchor class of this state decides, and it is fixed."""
        simulated = self.identity.anchor_class == SIMULATED
        return frozenset({Platform.SIMULATED if simulated else Platform.NITRO_ENCLAVE})


def load_owner(state_dir: Path, clock: Callable[[], Milliseconds], ask: Ask | None = None) -> Owner:
    """The authority in `state_dir`. Raises FileNotFoundError, KeystoreError, CannotOpen or StateDamaged."""
    state = State.load(state_dir / DATABASE)
    guard = state.guarded_by(Guard(SCHEMA, state_dir))
    keystore = open_keystore(state_dir, ask)
    keys = open_keys(keystore, state.sealed_keys())
    with state.connection() as connection:
        roles = [role for _, role in Memory(SCHEMA, connection).operators()]
    if Role.ADMINISTRATOR.value not in roles:
        raise StateDamaged("nobody administers this authority: expected at least one administrator")
    return Owner(
        identity=state.identity(),
        anchors=tuple(Anchor(name, root) for name, root in sorted(state.anchors().items())),
        keys=keys,
        keystore=keystore,
        state=state,
        journal=Journal(SCHEMA, keys.journal),
        shares=Shares(SCHEMA),
        wrapping=Wrapping(SCHEMA),
        tenant_keys=TenantKeys(SCHEMA),
        guard=guard,
        challenges=Challenges(_challenge_key(state, keystore)),
        denials=DenialBudget(),
        clock=clock,
    )


def _challenge_key(state: State, keystore: Keystore) -> bytes:
    """One key for every worker and host. A state that has none gets one here; whoever is first decides which."""
    sealed = state.sealed_keys().get(CHALLENGE_USE)
    if sealed is None:
        sealed = state.add_sealed_key(CHALLENGE_USE, make_challenge_key(keystore))
    return open_challenge_key(keystore, sealed)
