"""Tenants of a running stack: orders about them, their credentials and their questions."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from anchorhold.attestation.channel.client import TenantKey
from anchorhold.attestation.types import ModelDigest
from anchorhold.client.sdk import Answer, Client, Settings

from .conftest import Running

PURPOSE = "customer-inference"
ASKED = "hello"


@dataclass
class Holder:
    """Whoever holds a tenant's credential."""

    name: str
    folder: Path
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def credential(self) -> Path:
        return self.folder / f"{self.name}.credential"

    @property
    def pem(self) -> Path:
        return self.folder / f"{self.name}.pem"

    @property
    def tenant_key(self) -> TenantKey:
        return TenantKey(self.credential.read_bytes(), self.key)


def ordered(running: Running, *arguments: str) -> dict[str, Any]:
    """A command about this stack that must go well."""
    done = running.cli(*arguments, "--stack", str(running.state), "--json", timeout=240.0)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def issue(running: Running, holder: Holder, *adapters: ModelDigest) -> None:
    """A credential that lists these."""
    pem = holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    holder.pem.write_bytes(pem)
    public = holder.key.public_key().public_bytes_raw().hex()
    listed = [word for one in adapters for word in ("--adapter", one.hex())]
    issuing = ("--tenant", holder.name, "--key", public, "--purpose", PURPOSE, *listed)
    ordered(running, "authority", "tenant", *issuing, "--out", str(holder.credential))


def ask(running: Running, holder: Holder | None, adapter: ModelDigest | None = None, *, max_tokens: int = 12) -> Answer:
    """The question, with that tenant's credential or with none."""
    with Client(running.trust, tenant=None if holder is None else holder.tenant_key) as client:
        return client.ask(ASKED, Settings(reason=PURPOSE, adapter=adapter, max_tokens=max_tokens))
