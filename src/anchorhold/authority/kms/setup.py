"""Makes the state of a KMS face: anchor class and roots for good, keystore, database, TLS, the first callers."""

import base64
import ipaddress
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import canonical
from anchorhold.attestation.anchors import AWS_NITRO_G1, Anchor
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Guard
from anchorhold.authority.guard.defaults import NOBODY_YET, Approving, kms_policy
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.operators import BOOTSTRAP, TOKEN_BYTES, TOKEN_FILE, enrol
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.keystore import Choice, Keystore, init_keystore
from anchorhold.authority.kms.app import DATABASE, JOURNAL_HANDLE
from anchorhold.authority.kms.authenticate import PRINCIPAL_HANDLE, secret_aad
from anchorhold.authority.kms.grant_tokens import GRANT_HANDLE
from anchorhold.authority.kms.policy import parse_policy
from anchorhold.authority.kms.state import SCHEMA, Network, Principal, Realm, State
from anchorhold.authority.tls import make_tls

CREDENTIALS = "credentials.json"
JOURNAL_PUBLIC = "journal.pub"  # hex; what whoever checks the journal pins
PRINCIPALS = ("admin", "publisher", "enclave")
SECRET_BYTES = 30  # 40 characters, as AWS's are
_ADMINISTRATOR = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]}
)


class SetupError(ValueError):
    """Arguments that make no sound KMS: the caller's mistake."""


def init(  # noqa: PLR0913 - the realm's names, each with its default
    state_dir: Path,
    anchor_class: str,
    roots: Sequence[Anchor],
    *,
    now: Milliseconds,
    partition: str = "aws",
    region: str = "eu-central-1",
    account: str = "000000000001",
    database: str | None = None,
    keystore: Choice | None = None,
    approving: Approving = NOBODY_YET,
) -> Realm:
    """A new state in `state_dir`, which must be absent or empty. Raises SetupError, DatabaseRefused or
    FileExistsError.

    `production` accepts the pinned AWS root and no other; `simulated` accepts `roots`, none of which is pinned.
    Credentials of admin, publisher and enclave are in `credentials.json` (0600).
    """
    anchors = _anchors(anchor_class, roots)
    for name, value, form in (
        ("partition", partition, r"aws[a-z-]{0,32}"),
        ("region", region, r"[a-z0-9-]{1,64}"),
        ("account", account, r"\d{12}"),
    ):
        if not re.fullmatch(form, value):
            raise SetupError(f"{name}: expected {form}, got {value!r}")
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    state_dir.chmod(0o700)
    if any(state_dir.iterdir()):
        raise FileExistsError(f"{str(state_dir)!r} is not empty")
    realm = Realm(partition, region, account, anchor_class)
    store = init_keystore(state_dir, keystore or Choice())
    store.create(PRINCIPAL_HANDLE)
    store.create(JOURNAL_HANDLE)
    store.create(GRANT_HANDLE)
    journal_key = Ed25519PrivateKey.generate()
    state = State.create(
        state_dir / DATABASE,
        realm,
        {anchor.name: anchor.root_der for anchor in anchors},
        journal_key=store.seal(JOURNAL_HANDLE, journal_key.private_bytes_raw(), b""),
        database=database,
    )
    (state_dir / JOURNAL_PUBLIC).write_text(journal_key.public_key().public_bytes_raw().hex() + "\n")
    make_tls(state_dir, now=datetime.fromtimestamp(now / 1000, UTC))
    credentials = _add_principals(state, realm, store)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    _write_private(state_dir / TOKEN_FILE, token + "\n")
    arns = {name: str(members["arn"]) for name, members in credentials.items()}
    with state.transaction() as transaction:
        guarding = kms_policy(partition, region, arns, approving)
        Guard.establish(SCHEMA, transaction.connection, state_dir, guarding, now)
        enrol(Memory(SCHEMA, transaction.connection), BOOTSTRAP, Role.ADMINISTRATOR, token, now)
        body: dict[str, canonical.Value] = {**asdict(realm), "keystore": store.kind}
        state.journal(journal_key).append(transaction.connection, now, "init", body)
    _write_private(state_dir / CREDENTIALS, json.dumps(credentials, indent=2))
    state.close()
    store.close()
    return realm


def policy_of(state: State) -> str:
    """The guard's default policy for the callers that a state has."""
    realm = state.realm()
    with state.transaction() as transaction:
        arns = {name: arn for name, arn in transaction.principal_arns().items() if name in PRINCIPALS}
    return kms_policy(realm.partition, realm.region, arns)


def set_identity_policy(state_dir: Path, name: str, text: str | None) -> None:
    """Give a caller an IAM policy of his own, or none. Raises KmsFault for one that cannot be evaluated, SetupError."""
    if text is not None:
        parse_policy(text, identity=True)
    state = State.load(state_dir / DATABASE)
    try:
        with state.transaction() as transaction:
            if not transaction.set_identity_policy(name, text):
                raise SetupError(f"no principal {name!r}")
    finally:
        state.close()


def add_network(state_dir: Path, cidr: str, vpc: str, vpce: str | None = None) -> None:
    """Say which VPC an address range is: what fills `aws:SourceVpc` and `aws:SourceVpce`. Raises SetupError."""
    try:
        network = Network(str(ipaddress.ip_network(cidr)), vpc, vpce)
    except ValueError as error:
        raise SetupError(f"network: expected a CIDR range, got {cidr!r}") from error
    state = State.load(state_dir / DATABASE)
    try:
        with state.transaction() as transaction:
            transaction.add_network(network)
    finally:
        state.close()


def _anchors(anchor_class: str, roots: Sequence[Anchor]) -> tuple[Anchor, ...]:
    if anchor_class == "production":
        if any(root.simulated for root in roots):
            raise SetupError("a production KMS accepts the pinned AWS root only")
        return (AWS_NITRO_G1,)
    if anchor_class != "simulated":
        raise SetupError(f"anchor class: expected production or simulated, got {anchor_class!r}")
    if not roots or not all(root.simulated for root in roots):
        raise SetupError("a simulated KMS accepts simulated roots, at least one, and no other")
    return tuple(roots)


def _add_principals(state: State, realm: Realm, keystore: Keystore) -> dict[str, dict[str, str | None]]:
    credentials: dict[str, dict[str, str | None]] = {}
    with state.transaction() as transaction:
        for name in PRINCIPALS:
            access_key_id = "AHKA" + base64.b32encode(secrets.token_bytes(10)).decode()
            secret = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
            arn = f"arn:{realm.partition}:iam::{realm.account}:user/{name}"
            sealed = keystore.seal(PRINCIPAL_HANDLE, secret.encode(), secret_aad(access_key_id))
            policy = _ADMINISTRATOR if name == "admin" else None
            transaction.add_principal(Principal(access_key_id, name, arn, sealed, policy))
            credentials[name] = {
                "arn": arn,
                "access_key_id": access_key_id,
                "secret_access_key": secret,
                "session_token": None,
            }
    return credentials


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
