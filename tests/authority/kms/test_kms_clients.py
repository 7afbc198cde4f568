"""boto3 and the AWS CLI, unchanged, against a KMS face in a process of its own."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms import setup
from anchorhold.authority.tls import TlsFiles
from anchorhold.enclave.keys.envelope import open_envelope
from anchorhold.enclave.nsm.module import NsmClient
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.pki import SimulatedPki

from .conftest import CONTEXT, MEASUREMENTS, MODULE, RSA_KEY, spki

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 20.0
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Face:
    folder: Path
    endpoint: str
    pki: SimulatedPki
    credentials: dict[str, dict[str, str]]

    def boto(self, name: str, secret: str | None = None) -> Any:
        who = self.credentials[name]
        return boto3.client(
            "kms",
            endpoint_url=self.endpoint,
            region_name="eu-central-1",
            verify=str(TlsFiles.within(self.folder).authority),
            aws_access_key_id=who["access_key_id"],
            aws_secret_access_key=secret or who["secret_access_key"],
            config=Config(retries={"max_attempts": 1}),
        )

    def aws(self, name: str, *arguments: str, secret: str | None = None) -> subprocess.CompletedProcess[str]:
        who = self.credentials[name]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AWS_ACCESS_KEY_ID": who["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": secret or who["secret_access_key"],
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_CA_BUNDLE": str(TlsFiles.within(self.folder).authority),
            "AWS_MAX_ATTEMPTS": "1",
        }
        command = [str(BIN / "aws"), "kms", "--endpoint-url", self.endpoint, "--output", "json", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

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


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    folder = tmp_path_factory.mktemp("face")
    now = time.time_ns() // 1_000_000
    pki = SimulatedPki.create(datetime.fromtimestamp(now / 1000, UTC))
    setup.init(folder / "kms", "simulated", [pki.anchor], now=Milliseconds(now))
    ready = folder / "ready.json"
    command = [str(BIN / "anchorhold"), "authority", "serve", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen([*command, "--state", str(folder / "kms"), "--ready-file", str(ready)])
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


def error_name(call: Any, **parameters: object) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])


def recipient(document: bytes) -> dict[str, object]:
    return {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": document}


def test_boto3_makes_a_key_a_policy_a_data_key_and_decrypts_for_a_recipient(face: Face) -> None:
    admin, publisher, enclave = face.boto("admin"), face.boto("publisher"), face.boto("enclave")
    arn = admin.create_key(Description="model")["KeyMetadata"]["Arn"]
    admin.put_key_policy(KeyId=arn, Policy=face.policy())
    assert json.loads(admin.get_key_policy(KeyId=arn)["Policy"]) == json.loads(face.policy())
    made = publisher.generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)
    asked = {"KeyId": arn, "CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": CONTEXT}
    answer = enclave.decrypt(**asked, Recipient=recipient(face.document()))
    assert answer["KeyId"] == arn
    assert not answer.get("Plaintext")
    assert open_envelope(answer["CiphertextForRecipient"], RSA_KEY) == made["Plaintext"]
    # Each refusal by AWS's own name, as boto3 sees it.
    assert error_name(enclave.decrypt, **asked) == "AccessDeniedException"
    other = recipient(face.document(pcr0=b"x" * 48))
    assert error_name(enclave.decrypt, **asked, Recipient=other) == "AccessDeniedException"
    bad = recipient(face.document()[:-1])
    assert error_name(enclave.decrypt, **asked, Recipient=bad) == "ValidationException"
    assert error_name(face.boto("enclave", "wrong").decrypt, **asked) == "InvalidSignatureException"
    good = recipient(face.document())
    moved = asked | {"EncryptionContext": CONTEXT | {"model": "another"}}
    assert error_name(enclave.decrypt, **moved, Recipient=good) == "InvalidCiphertextException"
    admin.disable_key(KeyId=arn)
    with pytest.raises(enclave.exceptions.DisabledException):
        enclave.decrypt(**asked, Recipient=good)
    assert admin.describe_key(KeyId=arn)["KeyMetadata"]["Enabled"] is False
    admin.enable_key(KeyId=arn)
    assert enclave.decrypt(**asked, Recipient=good)["CiphertextForRecipient"]
    assert arn in [entry["KeyArn"] for page in admin.get_paginator("list_keys").paginate() for entry in page["Keys"]]
    replica = {"KeyId": arn, "ReplicaRegion": "eu-west-1"}
    assert error_name(admin.replicate_key, **replica) == "UnsupportedOperationException"
    with pytest.raises(admin.exceptions.NotFoundException):
        admin.describe_key(KeyId="00000000-0000-0000-0000-000000000000")


def test_the_aws_cli_does_the_same(face: Face, tmp_path: Path) -> None:
    def done(name: str, *arguments: str) -> dict[str, Any]:
        result = face.aws(name, *arguments)
        assert result.returncode == 0, result.stderr
        return dict(json.loads(result.stdout or "{}"))

    def refused(name: str, *arguments: str, secret: str | None = None) -> str:
        result = face.aws(name, *arguments, secret=secret)
        assert result.returncode != 0
        return result.stderr

    policy = tmp_path / "policy.json"
    policy.write_text(face.policy())
    arn = done("admin", "create-key")["KeyMetadata"]["Arn"]
    done("admin", "put-key-policy", "--key-id", arn, "--policy-name", "default", "--policy", f"file://{policy}")
    context = ",".join(f"{name}={value}" for name, value in CONTEXT.items())
    made = done(
        "publisher", "generate-data-key", "--key-id", arn, "--key-spec", "AES_256", "--encryption-context", context
    )
    blob, document = tmp_path / "blob", tmp_path / "document"
    blob.write_bytes(base64.b64decode(made["CiphertextBlob"]))
    document.write_bytes(face.document())
    asked = ("decrypt", "--key-id", arn, "--ciphertext-blob", f"fileb://{blob}", "--encryption-context", context)
    attested = ("--recipient", f"KeyEncryptionAlgorithm=RSAES_OAEP_SHA_256,AttestationDocument@=fileb://{document}")
    answer = done("enclave", *asked, *attested)
    envelope = base64.b64decode(answer["CiphertextForRecipient"])
    assert open_envelope(envelope, RSA_KEY) == base64.b64decode(made["Plaintext"])
    assert "(AccessDeniedException)" in refused("enclave", *asked)
    assert "(InvalidSignatureException)" in refused("enclave", *asked, *attested, secret="wrong")
    document.write_bytes(face.document(pcr2=b"x" * 48))
    assert "(AccessDeniedException)" in refused("enclave", *asked, *attested)
    document.write_bytes(b"no document")
    assert "(ValidationException)" in refused("enclave", *asked, *attested)
    document.write_bytes(face.document())
    assert face.aws("admin", "disable-key", "--key-id", arn).returncode == 0
    assert "(DisabledException)" in refused("enclave", *asked, *attested)
