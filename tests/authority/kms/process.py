"""A KMS face in a process of its own, over TLS, and clients that other people wrote, pointed at it and unchanged."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms import setup
from anchorhold.authority.tls import TlsFiles
from anchorhold.enclave.nsm.module import NsmClient
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.pki import SimulatedPki

from .conftest import MEASUREMENTS, MODULE, OPEN, RSA_KEY, guard_by, spki
from .shapes import judge

PATIENCE_SECONDS = 60.0
BIN = Path(sys.executable).parent
# What `authority serve` runs, but with so much time for each call to an external key store proxy.
_PATIENT = """
import sys, time
from pathlib import Path
from anchorhold.authority.kms.app import make_app
from anchorhold.authority.listening import announce, listen, make_server
from anchorhold.authority.tls import TlsFiles
state, ready, timeout_s = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
server = make_server(
    make_app(state, lambda: time.time_ns() // 1_000_000, proxy_timeout_s=timeout_s), TlsFiles.within(state)
)
with listen("127.0.0.1", 0) as listener:
    announce(ready, listener.getsockname()[1])
    server.run(sockets=[listener])
"""


@dataclass(frozen=True)
class Face:
    folder: Path
    endpoint: str
    pki: SimulatedPki
    credentials: dict[str, dict[str, str]]

    def boto(self, name: str, secret: str | None = None, *, check_parameters: bool = True) -> Any:
        """boto3 as `name`; each answer is held to botocore's output shape as it comes."""
        who = self.credentials[name]
        client = boto3.client(
            "kms",
            endpoint_url=self.endpoint,
            region_name="eu-central-1",
            verify=str(TlsFiles.within(self.folder).authority),
            aws_access_key_id=who["access_key_id"],
            aws_secret_access_key=secret or who["secret_access_key"],
            config=Config(retries={"max_attempts": 1}, parameter_validation=check_parameters),
        )
        return judge(client)

    def aws(self, name: str, *arguments: str, secret: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "aws"), "kms", "--endpoint-url", self.endpoint, "--output", "json", *arguments]
        return subprocess.run(command, env=self.environment(name, secret), capture_output=True, text=True, check=False)

    def environment(self, name: str, secret: str | None = None) -> dict[str, str]:
        """What the AWS CLI reads of a caller, and nothing of whoever runs this."""
        who = self.credentials[name]
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AWS_ACCESS_KEY_ID": who["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": secret or who["secret_access_key"],
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_CA_BUNDLE": str(TlsFiles.within(self.folder).authority),
            "AWS_MAX_ATTEMPTS": "1",
        }

    def document(self, **other: bytes) -> bytes:
        measurements = MEASUREMENTS | {int(name.removeprefix("pcr")): value for name, value in other.items()}
        toy = ToyNsm(self.pki, measurements, MODULE, lambda: time.time_ns() // 1_000_000)
        return NsmClient(toy.transact).attest(public_key=spki(RSA_KEY))

    def policy(self) -> str:
        def allow(name: str, actions: str | list[str], **more: object) -> dict[str, object]:
            principal = {"AWS": self.credentials[name]["arn"]}
            return {"Effect": "Allow", "Principal": principal, "Action": actions, "Resource": "*"} | more

        pinned = {f"kms:RecipientAttestation:PCR{index}": MEASUREMENTS[index].hex() for index in (0, 1, 2)}
        condition = {"StringEqualsIgnoreCase": pinned}
        statements = [
            allow("admin", "kms:*Key*"),
            allow("publisher", ["kms:GenerateDataKey", "kms:Encrypt"]),
            allow("enclave", "kms:Decrypt", Condition=condition),
        ]
        return json.dumps({"Version": "2012-10-17", "Statement": statements})


@contextmanager
def running_face(
    folder: Path, prepare: Callable[[Path], object] = lambda _: None, proxy_timeout_s: float | None = None
) -> Iterator[Face]:
    """A new KMS face over `folder`, served over TLS by `anchorhold authority serve`; `prepare` gets its state first.

    With a time for calls to a proxy it is served as the command serves it, which has AWS's own 250 ms.
    """
    now = time.time_ns() // 1_000_000
    pki = SimulatedPki.create(datetime.fromtimestamp(now / 1000, UTC))
    setup.init(folder / "kms", "simulated", [pki.anchor], now=Milliseconds(now))
    # One caller may do all: which principal may do what is the guard's own tests' affair.
    guard_by(folder / "kms", OPEN, Milliseconds(now))
    prepare(folder / "kms")
    ready = folder / "ready.json"
    command = [str(BIN / "anchorhold"), "authority", "serve", "--listen", "127.0.0.1:0"]
    command += ["--state", str(folder / "kms"), "--ready-file", str(ready)]
    if proxy_timeout_s is not None:
        command = [sys.executable, "-c", _PATIENT, str(folder / "kms"), str(ready), str(proxy_timeout_s)]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        port = json.loads(ready.read_text())["port"]
        credentials = json.loads((folder / "kms" / setup.CREDENTIALS).read_text())
        yield Face(folder / "kms", f"https://localhost:{port}", pki, credentials)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) in (0, -signal.SIGTERM)
