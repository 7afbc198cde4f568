"""An XKS face over a folder, served for real; the policy that lets the suite's caller in; keys of every kind."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from starlette.applications import Starlette
from starlette.types import ASGIApp
from tests.authority.xks.conformance.proxy import Keys, Proxy, Signing

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.journal import JournalEntry, check_journal
from anchorhold.authority.keystore.opener import Choice
from anchorhold.authority.xks import setup
from anchorhold.authority.xks.app import make_app
from anchorhold.authority.xks.desk import Desk, NewCredential, new_key
from anchorhold.authority.xks.server import client_ca, make_mtls_server, make_plain_server

PREFIX = "/store-1"
REGION = "eu-central-1"
PATIENCE_S = 30.0
KEYS = Keys("full", "encrypt-only", "decrypt-only", "impotent", "disabled", "k" * 127 + "1")


def now_ms() -> Milliseconds:
    return Milliseconds(time.time_ns() // 1_000_000)


def policy(*tuples: dict[str, object], **more: object) -> str:
    """A guard policy that allows everything, unless tuples say otherwise."""
    everything = {"name": "all", "faces": ["xks"], "principals": ["*"], "operations": ["*"], "keys": ["*"]}
    return json.dumps({"version": 1, "allow": list(tuples) or [everything], **more})


@dataclass
class Stage:
    """One state folder, with keys and a credential."""

    folder: Path
    desk: Desk
    credential: NewCredential

    def app(self) -> Starlette:
        # A loaded machine would have requests time out, which is right and not what these tests are about.
        return make_app(self.folder, now_ms, budget_s=PATIENCE_S)

    def proxy(self, url: str, tls: ssl.SSLContext | None = None, ca: str | None = None) -> Proxy:
        signing = Signing(self.credential.access_key_id, self.credential.secret_access_key, REGION)
        return Proxy(url, signing, KEYS, tls, ca)

    def journal(self) -> tuple[JournalEntry, ...]:
        public = bytes.fromhex((self.folder / setup.JOURNAL_PUBLIC).read_text())
        return check_journal(self.desk.journal(), Ed25519PublicKey.from_public_bytes(public))

    def last(self, kind: str = "xks") -> dict[str, Any]:
        return dict([entry for entry in self.journal() if entry.type == kind][-1].body)

    @property
    def tls(self) -> ssl.SSLContext:
        """The context of a KMS that has the certificate made at init."""
        folder = client_ca(self.folder).parent
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        context.load_cert_chain(folder / "client.pem", folder / "client.key")
        return context


def make_stage(
    folder: Path,
    guard_policy: str | None = None,
    keystore: Choice | None = None,
    *,
    all_keys: bool = False,
    database: str | None = None,
) -> Stage:
    """With one key that may do all, or with every kind of key."""
    given = guard_policy or policy()
    wanted = setup.Wanted(
        "simulated", REGION, prefix=PREFIX, policy=given, keystore=keystore or Choice(), database=database
    )
    setup.init(folder, wanted, now=now_ms())
    desk, now = Desk(folder), now_ms()
    desk.create_key(new_key(KEYS.full, now))
    if all_keys:
        desk.create_key(new_key(KEYS.encrypt_only, now, may_decrypt=False))
        desk.create_key(new_key(KEYS.decrypt_only, now, may_encrypt=False))
        desk.create_key(new_key(KEYS.impotent, now, may_encrypt=False, may_decrypt=False))
        desk.create_key(new_key(str(KEYS.longest), now))
        desk.create_key(new_key(str(KEYS.disabled), now))
        desk.change_key(str(KEYS.disabled), now, enabled=False)
    return Stage(folder, desk, desk.add_credential(now))


@contextmanager
def running(server: uvicorn.Server) -> Iterator[int]:
    """The port of a server in a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


@contextmanager
def served_plain(stage: Stage, app: ASGIApp | None = None) -> Iterator[Proxy]:
    with running(make_plain_server(app or stage.app(), "127.0.0.1")) as port:  # type: ignore[arg-type]  # any ASGI app
        yield stage.proxy(f"http://127.0.0.1:{port}{PREFIX}")


@contextmanager
def served_mtls(stage: Stage) -> Iterator[Proxy]:
    with running(make_mtls_server(stage.app(), stage.folder, setup.default_client_name("aws", REGION))) as port:
        ca = str(client_ca(stage.folder).parent / "ca.pem")
        yield stage.proxy(f"https://localhost:{port}{PREFIX}", stage.tls, ca)


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = make_stage(tmp_path_factory.mktemp("xks") / "state", all_keys=True)
    yield made
    made.desk.close()


@pytest.fixture(scope="session")
def plain(stage: Stage) -> Iterator[Proxy]:
    """One face over plain HTTP, for tests that do not change it."""
    with served_plain(stage) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def mtls(stage: Stage) -> Iterator[Proxy]:
    """The same state over mTLS."""
    with served_mtls(stage) as proxy:
        yield proxy
