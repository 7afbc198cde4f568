"""A KMS face over a folder, driven through ASGI with signed requests, and enclaves with real documents to call it."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.reading import read_policy
from anchorhold.authority.journal import JournalEntry, check_journal
from anchorhold.authority.keystore import Choice
from anchorhold.authority.kms import setup
from anchorhold.authority.kms.app import DATABASE, make_app
from anchorhold.authority.kms.state import SCHEMA, State
from anchorhold.enclave.nsm.module import NsmClient
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.pki import SimulatedPki
from anchorhold.wire import sigv4

from . import shapes

MODULE = "i-0123456789abcdef0-enc0123456789abcdef"
MEASUREMENTS = {index: bytes([0xA0 + index]) * 48 for index in range(5)}
CONTEXT = {"model": "tiny", "role": "share"}
MODEL = botocore.session.get_session().get_service_model("kms")
OPEN: dict[str, object] = {
    "version": 1,
    "allow": [{"name": "all", "faces": ["kms"], "principals": ["*"], "operations": ["*"], "keys": ["*"]}],
}
RSA_KEY = rsa.generate_private_key(65537, 2048)


def guard_by(state_dir: Path, guarding: dict[str, object], now: Milliseconds) -> None:
    """Another policy for the guard of a KMS face that is not served now."""
    state = State.load(state_dir / DATABASE)
    with state.connection() as connection:
        read = read_policy(json.dumps(guarding))
        Memory(SCHEMA, connection).put_policy(read.digest, read.raw, now)
    state.close()


class KmsError(Exception):
    def __init__(self, status: int, body: dict[str, str]) -> None:
        super().__init__(body)
        self.status = status
        self.name = body["__type"]
        self.message = body.get("Message" if self.name == "AccessDeniedException" else "message", "(missing)")


def spki(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass
class Kms:
    """A KMS face over a folder, driven through ASGI with signed requests."""

    folder: Path
    pki: SimulatedPki
    now: int
    keystore: Choice | None = None
    guarded: bool = False
    """Whether the guard keeps the policy that `init` wrote; by default it lets through what key policies allow."""
    app: Any = field(init=False)
    region: str = field(default="eu-central-1", init=False)

    def __post_init__(self) -> None:
        setup.init(self.folder, "simulated", [self.pki.anchor], now=Milliseconds(self.now), keystore=self.keystore)
        self.credentials = json.loads((self.folder / setup.CREDENTIALS).read_text())
        if not self.guarded:
            self.guard_by(OPEN)
        self.start()

    def guard_by(self, guarding: dict[str, object]) -> None:
        guard_by(self.folder, guarding, Milliseconds(self.now))

    def start(self) -> None:
        self.app = make_app(self.folder, lambda: Milliseconds(self.now))

    def arn(self, name: str) -> str:
        return str(self.credentials[name]["arn"])

    def caller(self, name: str) -> sigv4.Credentials:
        return sigv4.Credentials(self.credentials[name]["access_key_id"], self.credentials[name]["secret_access_key"])

    def signed(
        self,
        caller: sigv4.Credentials,
        operation: str,
        body: bytes,
        *,
        at: int | None = None,
        region: str | None = None,
        changed: dict[str, str] | None = None,
    ) -> sigv4.Request:
        named = {
            "Host": "localhost",
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"TrentService.{operation}",
        }
        headers = tuple((named | (changed or {})).items())
        request = sigv4.Request("POST", "/", "", headers, body)
        moment = datetime.fromtimestamp((self.now if at is None else at) / 1000, UTC)
        added = sigv4.sign(request, caller, region=region or self.region, service="kms", at=moment)
        return sigv4.Request("POST", "/", "", (*headers, *added), body)

    def call(self, name: str, operation: str, **parameters: object) -> dict[str, Any]:
        return self.send(self.signed(self.caller(name), operation, json.dumps(parameters).encode()))

    def send(self, request: sigv4.Request) -> dict[str, Any]:
        status, raw = asyncio.run(_asgi(self.app, request))
        body = json.loads(raw) if raw else {}
        if status != 200:
            raise KmsError(status, body)
        check_answer((request.header("x-amz-target") or "").partition(".")[2], raw)
        return dict(body)

    def identity(self, name: str, *actions: str, **more: object) -> None:
        """Give a caller an IAM policy of his own."""
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"} | more
        setup.set_identity_policy(self.folder, name, json.dumps({"Statement": [statement]}))

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(str(entry.body["event"])) for entry in self.journal() if entry.type == "call"]

    def nsm(self, measurements: dict[int, bytes] | None = None, pki: SimulatedPki | None = None) -> NsmClient:
        toy = ToyNsm(pki or self.pki, MEASUREMENTS if measurements is None else measurements, MODULE, lambda: self.now)
        client = NsmClient(toy.transact)
        client.extend_pcr(16, b"c" * 48)
        client.lock_pcrs(32)
        return client

    def document(self, **changes: Any) -> bytes:
        nsm = self.nsm(changes.get("measurements"), changes.get("pki"))
        return nsm.attest(public_key=changes.get("public_key", spki(RSA_KEY)))

    def key(self, *statements: dict[str, object]) -> str:
        text = policy(self, *statements)
        return str(self.call("admin", "CreateKey", Policy=text)["KeyMetadata"]["Arn"])

    def attested_key(self) -> tuple[str, str]:
        """A key that the publisher encrypts under and only the measured enclave decrypts; and a wrapped share."""
        pcr16 = self.nsm().describe_pcr(16).value.hex()
        condition = {
            "StringEqualsIgnoreCase": {
                "kms:RecipientAttestation:ImageSha384": MEASUREMENTS[0].hex().upper(),
                "kms:RecipientAttestation:PCR1": MEASUREMENTS[1].hex(),
                "kms:RecipientAttestation:PCR2": [MEASUREMENTS[2].hex(), "ff" * 48],
                "kms:RecipientAttestation:PCR16": pcr16,
            }
        }
        arn = self.key(
            allow(self, "publisher", "kms:GenerateDataKey", "kms:Encrypt"),
            allow(self, "enclave", "kms:Decrypt") | {"Condition": condition},
        )
        made = self.call("publisher", "GenerateDataKey", KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)
        return arn, str(made["CiphertextBlob"])

    def decrypt(self, arn: str, blob: str, document: bytes | None, **more: object) -> dict[str, Any]:
        parameters: dict[str, object] = {"KeyId": arn, "CiphertextBlob": blob, "EncryptionContext": CONTEXT}
        if document is not None:
            parameters["Recipient"] = recipient(document)
        return self.call("enclave", "Decrypt", **(parameters | more))

    def journal(self) -> tuple[JournalEntry, ...]:
        """What was journaled after `init`, whose own entry is the first."""
        state = State.load(self.folder / DATABASE)
        with state.transaction() as transaction:
            signed = state.journal(Ed25519PrivateKey.generate()).signed_entries(transaction.connection)
        state.close()
        public = bytes.fromhex((self.folder / setup.JOURNAL_PUBLIC).read_text())
        first, *entries = check_journal(signed, Ed25519PublicKey.from_public_bytes(public))
        assert first.type == "init"
        return tuple(entries)


def check_answer(operation: str, raw: bytes) -> None:
    """An answer has the shape that botocore's model gives it, and no member that the model does not know."""
    shapes.check_answer(MODEL.operation_model(operation), 200, raw)


async def _asgi(app: Any, request: sigv4.Request) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": request.method, "path": request.path, "query_string": request.query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in request.headers],
        "client": ("127.0.0.1", 1), "server": ("localhost", 443), "scheme": "https", "http_version": "1.1",
        "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def recipient(document: bytes) -> dict[str, str]:
    return {
        "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
        "AttestationDocument": base64.b64encode(document).decode(),
    }


def allow(kms: Kms, name: str, *actions: str) -> dict[str, object]:
    return {"Effect": "Allow", "Principal": {"AWS": kms.arn(name)}, "Action": list(actions), "Resource": "*"}


def policy(kms: Kms, *statements: dict[str, object]) -> str:
    admin = allow(kms, "admin", "kms:PutKeyPolicy", "kms:GetKeyPolicy", "kms:Describe*", "kms:*ableKey")
    return json.dumps({"Version": "2012-10-17", "Statement": [admin, *statements]})


@pytest.fixture
def kms(tmp_path: Path) -> Kms:
    now = time.time_ns() // 1_000_000
    return Kms(tmp_path / "kms", SimulatedPki.create(datetime.fromtimestamp(now / 1000, UTC)), now)


def refused(name: str, call: Callable[[], object]) -> KmsError:
    with pytest.raises(KmsError) as caught:
        call()
    assert caught.value.name == name
    return caught.value
