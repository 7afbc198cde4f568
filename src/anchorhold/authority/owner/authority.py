"""One owner authority, loaded: identity, keys, state, clock. What every request handler is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.types import Milliseconds, Platform
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

DATABASE = "owner.sqlite"
TOKEN_FILE = "admin.token"  # noqa: S105 - a file's name
PUBLIC_FILE = "public.json"
SIMULATED, PRODUCTION = "simulated", "production"
ANCHOR_CLASSES = (SIMULATED, PRODUCTION)
TOKEN_CHARS = (32, 128)  # `init` writes 43; an empty one would let everybody in


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
    rewrapped: Mapping[bytes, bytes] = field(repr=False)
    """Blobs of manifests from before a restore, by digest: what they open as here."""
    challenges: Challenges
    denials: DenialBudget
    token: bytes = field(repr=False)
    clock: Callable[[], Milliseconds]

    @property
    def platforms(self) -> frozenset[Platform]:
        """What may ask: the anchor class of this state decides, and it is fixed."""
        simulated = self.identity.anchor_class == SIMULATED
        return frozenset({Platform.SIMULATED if simulated else Platform.NITRO_ENCLAVE})


def load_owner(state_dir: Path, clock: Callable[[], Milliseconds], ask: Ask | None = None) -> Owner:
    """The authority in `state_dir`. Raises FileNotFoundError, KeystoreError, CannotOpen or StateDamaged."""
    state = State.load(state_dir / DATABASE)
    keystore = open_keystore(state_dir, ask)
    keys = open_keys(keystore, state.sealed_keys())
    shares = Shares(SCHEMA)
    with state.transaction() as transaction:
        rewrapped = shares.rewrapped(transaction.connection)
    return Owner(
        identity=state.identity(),
        anchors=tuple(Anchor(name, root) for name, root in sorted(state.anchors().items())),
        keys=keys,
        keystore=keystore,
        state=state,
        journal=Journal(SCHEMA, keys.journal),
        shares=shares,
        rewrapped=rewrapped,
        challenges=Challenges(_challenge_key(state, keystore)),
        denials=DenialBudget(),
        token=_token(state_dir / TOKEN_FILE),
        clock=clock,
    )


def _challenge_key(state: State, keystore: Keystore) -> bytes:
    """One key for every worker and host. A state that has none gets one here; whoever is first decides which."""
    sealed = state.sealed_keys().get(CHALLENGE_USE)
    if sealed is None:
        sealed = state.add_sealed_key(CHALLENGE_USE, make_challenge_key(keystore))
    return open_challenge_key(keystore, sealed)


def _token(path: Path) -> bytes:
    token = path.read_bytes().strip()
    least, most = TOKEN_CHARS
    if not least <= len(token) <= most:
        raise StateDamaged(f"{TOKEN_FILE}: expected {least} to {most} characters, got {len(token)}")
    return token
