"""Making an owner authority: keys, TLS, admin token, database. Done once; nothing is ever overwritten."""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import canonical
from anchorhold.attestation.anchors import AWS_NITRO_G1, Anchor
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.lease import checked_name
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Guard
from anchorhold.authority.guard.defaults import NOBODY_YET, Approving, owner_policy
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.operators import BOOTSTRAP, enrol
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.journal import Journal
from anchorhold.authority.keystore import Choice, Keystore, init_keystore
from anchorhold.authority.owner.authority import (
    ANCHOR_CLASSES,
    DATABASE,
    PRODUCTION,
    PUBLIC_FILE,
    SIMULATED,
    TOKEN_FILE,
)
from anchorhold.authority.owner.keys import SigningKeys, make_sealed_keys, open_keys
from anchorhold.authority.owner.shares import KeptShare, Shares
from anchorhold.authority.owner.standing import Floor, Revoked
from anchorhold.authority.owner.state import SCHEMA, Identity, State
from anchorhold.authority.owner.tenant_table import TenantKey, TenantKeys
from anchorhold.authority.owner.wrapping import Wrapping
from anchorhold.authority.place import has_database
from anchorhold.authority.synced import write_new
from anchorhold.authority.tls import make_tls

TOKEN_BYTES = 32
KEY_ID_BYTES = 16


class SetupRefused(Exception):
    """An authority that cannot be made as asked."""


@dataclass(frozen=True, slots=True)
class PublicIdentity:
    """What others pin; keys as hex of their 32 raw bytes. Also in `public.json`."""

    name: str
    custodian: str
    anchor_class: str
    key_id: str
    lease_key: str
    credential_issuer: str
    journal_key: str


@dataclass(frozen=True, slots=True)
class Restored:
    """What a backup brings into a new folder: seeds by use, shares and tenants' keys to make anew, facts to note."""

    seeds: Mapping[str, bytes] = field(repr=False)
    wrapped: Callable[[Keystore], tuple[tuple[KeptShare, ...], tuple[TenantKey, ...]]] = field(repr=False)
    facts: Mapping[str, canonical.Value]
    ended: tuple[Revoked, ...] = ()
    """What was revoked when the backup was made, beside models: it stays so."""
    floors: tuple[Floor, ...] = ()


def init(  # noqa: PLR0913 - each says one thing about the new authority, by its name
    state_dir: Path,
    anchor_class: str,
    roots: Sequence[Anchor],
    name: str,
    custodian: str,
    *,
    now: Milliseconds,
    database: str | None = None,
    keystore: Choice | None = None,
    approving: Approving = NOBODY_YET,
) -> PublicIdentity:
    """A new owner authority in `state_dir`, its database there or in PostgreSQL at the URL `database`. Raises
    SetupRefused, DatabaseRefused, or FileExistsError where there is one already.

    `production` accepts the pinned root and no other; `simulated` accepts `roots`, none of which may be the pinned one.
    Keys made under `simulated` carry the word in their id and never migrate.
    """
    anchors = _anchors(anchor_class, roots)
    try:
        checked_name(name, "name")
        checked_name(custodian, "custodian")
    except EvidenceError as error:
        raise SetupRefused(str(error)) from error
    mark = f"{SIMULATED}-" if anchor_class == SIMULATED else ""
    identity = Identity(name, custodian, anchor_class, f"owner-{mark}{secrets.token_hex(KEY_ID_BYTES)}")
    return make(state_dir, identity, anchors, now=now, keystore=keystore, approving=approving, database=database)


def make(  # noqa: PLR0913 - a new authority and a restored one, each part by its name
    state_dir: Path,
    identity: Identity,
    anchors: Sequence[Anchor],
    *,
    now: Milliseconds,
    keystore: Choice | None = None,
    approving: Approving = NOBODY_YET,
    restored: Restored | None = None,
    database: str | None = None,
) -> PublicIdentity:
    """The folder of an authority whose arguments were checked. Raises KeystoreError or FileExistsError."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if has_database(state_dir / DATABASE):
        raise FileExistsError(f"{str(state_dir)!r} holds an owner authority already")
    store = init_keystore(state_dir, keystore or Choice())
    sealed = make_sealed_keys(store, identity.key_id, None if restored is None else restored.seeds)
    make_tls(state_dir, now=datetime.fromtimestamp(now / 1000, UTC))
    token = secrets.token_urlsafe(TOKEN_BYTES)
    write_new(state_dir / TOKEN_FILE, token.encode() + b"\n")
    keys = open_keys(store, sealed)
    public = _public(identity, keys)
    (state_dir / PUBLIC_FILE).write_text(json.dumps(asdict(public), indent=2) + "\n")
    # The database comes last: a folder without one is no authority, and `init` may be told so.
    trusted = {anchor.name: anchor.root_der for anchor in anchors}
    state = State.create(state_dir / DATABASE, identity, trusted, sealed, database=database)
    with state.transaction() as transaction:
        Guard.establish(SCHEMA, transaction.connection, state_dir, owner_policy(approving), now)
        enrol(Memory(SCHEMA, transaction.connection), BOOTSTRAP, Role.ADMINISTRATOR, token, now)
        Wrapping(SCHEMA).add(transaction.connection, identity.key_id, now)
        body: dict[str, canonical.Value] = {**asdict(public), "keystore": store.kind}
        if restored is not None:
            body["restored"] = dict(restored.facts)
            shares, tenants = restored.wrapped(store)
            for key in tenants:
                TenantKeys(SCHEMA).add(transaction.connection, key)
            for share in shares:
                Shares(SCHEMA).keep(transaction.connection, share)
            for one in restored.ended:
                transaction.standing.revoke(one.what, one.subject, one.at)
            for floor in restored.floors:
                transaction.standing.put_floor(floor)
        Journal(SCHEMA, keys.journal).append(transaction.connection, now, "init", body)
    state.close()
    store.close()
    return public


def read_public(state_dir: Path) -> PublicIdentity:
    """What `init` returned. Raises OSError or ValueError."""
    return PublicIdentity(**json.loads((state_dir / PUBLIC_FILE).read_text()))


def _anchors(anchor_class: str, roots: Sequence[Anchor]) -> tuple[Anchor, ...]:
    if anchor_class not in ANCHOR_CLASSES:
        raise SetupRefused(f"anchor class: expected one of {', '.join(ANCHOR_CLASSES)}, got {anchor_class!r:.40}")
    if anchor_class == PRODUCTION:
        if any(root.simulated for root in roots):
            raise SetupRefused("anchor class production takes the pinned AWS root alone")
        return (AWS_NITRO_G1,)
    if not roots:
        raise SetupRefused("anchor class simulated: expected at least one root")
    if any(not root.simulated for root in roots):
        raise SetupRefused("anchor class simulated does not take the pinned AWS root")
    if len({root.name for root in roots}) != len(roots):
        raise SetupRefused("expected roots with different names")
    return tuple(roots)


def _public(identity: Identity, keys: SigningKeys) -> PublicIdentity:
    return PublicIdentity(
        identity.name,
        identity.custodian,
        identity.anchor_class,
        identity.key_id,
        _public_hex(keys.lease),
        _public_hex(keys.credential),
        _public_hex(keys.journal),
    )


def _public_hex(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()
