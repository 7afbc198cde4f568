"""One KMS face, one enclave that asks it, and the parent that carries the bytes between them."""

import contextlib
import hashlib
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from anchorhold.attestation.configuration import Source
from anchorhold.attestation.types import BootId, Milliseconds, ModelDigest, StatementDigest
from anchorhold.authority.kms import setup
from anchorhold.authority.kms.app import make_app
from anchorhold.authority.listening import listen, make_server
from anchorhold.authority.tls import TlsFiles
from anchorhold.enclave.keys.kms import KmsSource, WrappedSecret
from anchorhold.enclave.keys.source import SourceContext
from anchorhold.enclave.nsm.module import NsmClient
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.pki import SimulatedPki
from anchorhold.wire import sigv4

MODULE = "i-0123456789abcdef0-enc0123456789abcdef"
MEASUREMENTS = {index: bytes([0xB0 + index]) * 48 for index in range(3)}
GENESIS = StatementDigest(b"g" * 48)
BOOT = BootId(b"b" * 32)
MODEL = ModelDigest(b"d" * 48)
CONTEXT = {"model": "tiny", "role": "share"}
TTL_MS = 5_000


def now_ms() -> Milliseconds:
    return Milliseconds(time.time_ns() // 1_000_000)


def now() -> datetime:
    return datetime.fromtimestamp(now_ms() / 1000, UTC)


class Parent:
    """Carries bytes to one port and keeps all it sees; `cut_after` ends the source's stream at that many bytes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen = bytearray()
        self.cut_after: int | None = None
        self.returned = 0

    def open_stream(self, name: str) -> socket.socket:
        assert name == "kms-a"
        mine, enclaves = socket.socketpair()
        outside = socket.create_connection(("127.0.0.1", self.port))
        threading.Thread(target=self._carry, args=(mine, outside), daemon=True).start()
        threading.Thread(target=self._return, args=(outside, mine), daemon=True).start()
        return enclaves

    def _carry(self, enclave: socket.socket, kms: socket.socket) -> None:
        with contextlib.suppress(OSError), enclave, kms:
            while chunk := enclave.recv(65_536):
                self.seen += chunk
                kms.sendall(chunk)

    def _return(self, kms: socket.socket, enclave: socket.socket) -> None:
        self.returned, left = 0, self.cut_after
        with contextlib.suppress(OSError):
            while chunk := kms.recv(65_536):
                self.seen += chunk
                self.returned += len(chunk)
                enclave.sendall(chunk if left is None else chunk[: max(0, left)])
                left = None if left is None else left - len(chunk)
                if left is not None and left <= 0:
                    break
        for end in (enclave, kms):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def digest_of(secret: bytes | bytearray | memoryview) -> bytes:
    return hashlib.sha384(secret).digest()


@dataclass
class Rig:
    """One KMS face, one enclave with its NSM, and the parent between them."""

    folder: Path
    pki: SimulatedPki
    parent: Parent
    client: Callable[..., dict[str, Any]]
    credentials: sigv4.Credentials
    key: str
    share: bytes
    blob: bytes
    lease_blob: bytes
    receipt_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def configured(self, **changes: Any) -> Source:
        authority = x509.load_pem_x509_certificate(TlsFiles.within(self.folder).authority.read_bytes())
        source = Source(
            kind="kms",
            name="kms-a",
            custodian="provider",
            endpoint=f"https://localhost:{self.parent.port}",
            authorities=(authority.public_bytes(Encoding.DER),),
            key=self.key,
            region="eu-central-1",
            lease_key=b"",
            lease_ttl_ms=TTL_MS,
        )
        return replace(source, **changes)

    def source(self, *, measurements: dict[int, bytes] | None = None, **changes: Any) -> KmsSource:
        toy = ToyNsm(self.pki, measurements or MEASUREMENTS, MODULE, now_ms)
        context = SourceContext(
            nsm=NsmClient(toy.transact),
            boot_id=BOOT,
            genesis=GENESIS,
            model=MODEL,
            receipt_key=self.receipt_key,
            open_stream=changes.pop("open_stream", self.parent.open_stream),
            boottime=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
            now_ms=now_ms,
        )
        wanted = digest_of(changes.pop("share", self.share))
        holds = changes.pop("holds", lambda secret: digest_of(secret) == wanted)
        credentials = changes.pop("credentials", self.credentials)
        caller = changes.pop("caller", lambda: credentials)
        renewal = changes.pop("renewal", None)
        blob, sealed_in = changes.pop("blob", self.blob), changes.pop("sealed_in", CONTEXT)
        return KmsSource(
            self.configured(**changes),
            context,
            caller,
            share=WrappedSecret(blob, sealed_in, holds),
            lease=WrappedSecret(self.lease_blob, CONTEXT | {"role": "lease"}, lambda _: True),
            renewal=renewal,
        )


def _kms_client(folder: Path, port: int, name: str) -> Callable[..., dict[str, Any]]:
    who = json.loads((folder / setup.CREDENTIALS).read_text())[name]
    client = boto3.client(
        "kms",
        endpoint_url=f"https://localhost:{port}",
        region_name="eu-central-1",
        verify=str(TlsFiles.within(folder).authority),
        aws_access_key_id=who["access_key_id"],
        aws_secret_access_key=who["secret_access_key"],
    )
    return lambda operation, **parameters: dict(getattr(client, operation)(**parameters))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("kms") / "state"
    pki = SimulatedPki.create(now())
    setup.init(folder, "simulated", [pki.anchor], now=now_ms())
    server = make_server(make_app(folder, now_ms), TlsFiles.within(folder))
    listener = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        port = listener.getsockname()[1]
        admin = _kms_client(folder, port, "admin")
        who = json.loads((folder / setup.CREDENTIALS).read_text())
        pinned = {f"kms:RecipientAttestation:PCR{index}": value.hex() for index, value in MEASUREMENTS.items()}
        statements = [
            {"Effect": "Allow", "Principal": {"AWS": who["admin"]["arn"]}, "Action": "kms:*", "Resource": "*"},
            {"Effect": "Allow", "Principal": {"AWS": who["publisher"]["arn"]},
             "Action": ["kms:GenerateDataKey", "kms:Encrypt"], "Resource": "*"},
            {"Effect": "Allow", "Principal": {"AWS": who["enclave"]["arn"]}, "Action": "kms:Decrypt", "Resource": "*",
             "Condition": {"StringEquals": pinned}},
        ]  # fmt: skip
        key = admin("create_key", Policy=json.dumps({"Statement": statements}))["KeyMetadata"]["Arn"]
        # Who administers keys does not use them: the guard keeps the two apart.
        publisher = _kms_client(folder, port, "publisher")
        made = publisher("generate_data_key", KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)
        lease = publisher(
            "encrypt", KeyId=key, Plaintext=secrets.token_bytes(32), EncryptionContext=CONTEXT | {"role": "lease"}
        )
        enclave = sigv4.Credentials(who["enclave"]["access_key_id"], who["enclave"]["secret_access_key"])
        yield Rig(
            folder, pki, Parent(port), admin, enclave, key, made["Plaintext"], made["CiphertextBlob"],
            lease["CiphertextBlob"],
        )  # fmt: skip
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        listener.close()
