"""Makes the state of an XKS face: keystore, database, TLS, the CA that KMS's client certificate must chain to."""

import re
import secrets
import shutil
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import canonical
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Guard
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.operators import BOOTSTRAP, TOKEN_BYTES, TOKEN_FILE, enrol
from anchorhold.authority.guard.reading import read_policy
from anchorhold.authority.guard.roles import Role
from anchorhold.authority.journal import Journal
from anchorhold.authority.keystore.locked import write_new
from anchorhold.authority.keystore.opener import Choice, init_keystore
from anchorhold.authority.place import has_database
from anchorhold.authority.tls import LOCAL_NAMES, make_tls
from anchorhold.authority.xks.app import JOURNAL_HANDLE
from anchorhold.authority.xks.authenticate import CREDENTIAL_HANDLE
from anchorhold.authority.xks.certificates import make_client
from anchorhold.authority.xks.health import HEALTH_HANDLE
from anchorhold.authority.xks.paths import checked_prefix
from anchorhold.authority.xks.server import client_ca
from anchorhold.authority.xks.state import DATABASE, SCHEMA, Identity, State

JOURNAL_PUBLIC = "journal.pub"  # hex; what whoever checks the journal pins
ANCHOR_CLASSES = ("simulated", "production")
MAX_CA_FILE = 1 << 20  # bytes; Amazon Trust Services' roots take about 8,000
_REGION = re.compile(r"[a-z]{2,8}(-[a-z0-9]{1,16}){1,4}")
_CLIENT_NAME = re.compile(r"[A-Za-z0-9.*-]{1,253}")
NOTHING = '{"allow":[],"version":1}'
# DNS suffixes of the partitions that have their own; `aws` is the rest.
_SUFFIXES = {"aws-eusc": "amazonaws.eu", "aws-cn": "amazonaws.com.cn"}


class SetupRefused(ValueError):
    """Arguments that make no sound XKS face: the caller's mistake."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `authority init` is asked for. Without a CA one is made, with one client certificate for a KMS of one's own.

    `client_name` may have wildcards; by default it is the name KMS has in this region.
    """

    anchor_class: str
    region: str = "eu-central-1"
    partition: str = "aws"
    prefix: str = ""
    client_name: str | None = None
    client_ca: Path | None = None
    names: tuple[str, ...] = LOCAL_NAMES
    keystore: Choice = field(default_factory=Choice)
    policy: str | bytes = NOTHING
    """The guard's first policy. By default it allows nothing."""
    database: str | None = None
    """A PostgreSQL URL in place of the SQLite file."""


def init(state_dir: Path, wanted: Wanted, *, now: Milliseconds) -> Identity:
    """A new XKS face in `state_dir`. Raises SetupRefused, PolicyMalformed, KeystoreError or FileExistsError:
    nothing is overwritten.
    """
    identity = _identity(wanted)
    if wanted.client_ca is not None:
        _check_ca(wanted.client_ca)
    read_policy(wanted.policy)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if has_database(state_dir / DATABASE):
        raise FileExistsError(f"{str(state_dir)!r} holds an XKS face already")
    keystore = init_keystore(state_dir, wanted.keystore)
    for handle in (JOURNAL_HANDLE, CREDENTIAL_HANDLE, HEALTH_HANDLE):
        keystore.create(handle)
    moment = datetime.fromtimestamp(now / 1000, UTC)
    make_tls(state_dir, now=moment, names=wanted.names)
    if wanted.client_ca is None:
        folder = client_ca(state_dir).parent
        make_client(folder, client_ca(state_dir), identity.client_name.replace("*", "any"), now=moment)
    else:
        shutil.copyfile(wanted.client_ca, client_ca(state_dir))
    journal_key = Ed25519PrivateKey.generate()
    (state_dir / JOURNAL_PUBLIC).write_text(journal_key.public_key().public_bytes_raw().hex() + "\n")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    write_new(state_dir / TOKEN_FILE, token.encode() + b"\n")
    sealed = keystore.seal(JOURNAL_HANDLE, journal_key.private_bytes_raw(), b"")
    # The database comes last: a folder without one is no authority, and `init` may be told so.
    with State.new(state_dir / DATABASE, identity, journal_key=sealed, database=wanted.database) as transaction:
        policy = Guard.establish(SCHEMA, transaction.connection, state_dir, wanted.policy, now)
        enrol(Memory(SCHEMA, transaction.connection), BOOTSTRAP, Role.ADMINISTRATOR, token, now)
        body: dict[str, canonical.Value] = {
            **asdict(identity),
            "keystore": keystore.kind,
            "policy": policy.raw,
            "policy_digest": policy.digest,
        }
        Journal(SCHEMA, journal_key).append(transaction.connection, now, "init", body)
    keystore.close()
    return identity


def default_client_name(partition: str, region: str) -> str:
    """What KMS's client certificate names in a region (proxy API specification, mTLS)."""
    return f"cks.kms.{region}.{_SUFFIXES.get(partition, 'amazonaws.com')}"


def _identity(wanted: Wanted) -> Identity:
    if wanted.anchor_class not in ANCHOR_CLASSES:
        raise SetupRefused(f"anchor class: expected production or simulated, got {wanted.anchor_class!r:.40}")
    if _REGION.fullmatch(wanted.region) is None or re.fullmatch(r"aws(-[a-z]{1,16}){0,3}", wanted.partition) is None:
        raise SetupRefused(f"expected a region and a partition, got {wanted.region!r:.40} in {wanted.partition!r:.40}")
    name = wanted.client_name or default_client_name(wanted.partition, wanted.region)
    if _CLIENT_NAME.fullmatch(name) is None or not name.strip("*."):
        raise SetupRefused(f"client name: expected a host name, got {name!r:.80}")
    try:
        prefix = checked_prefix(wanted.prefix)
    except ValueError as error:
        raise SetupRefused(str(error)) from error
    return Identity(prefix, wanted.partition, wanted.region, name, wanted.anchor_class)


def _check_ca(path: Path) -> None:
    raw = path.read_bytes() if path.stat().st_size <= MAX_CA_FILE else b""
    try:
        x509.load_pem_x509_certificates(raw)
    except ValueError as error:
        raise SetupRefused(f"{str(path)!r}: expected CA certificates in PEM, at most {MAX_CA_FILE} bytes") from error
