"""KMS face -> XKS face -> SoftHSM, with boto3: what the guard of the external key store refuses, KMS cannot do."""

import base64
import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvicorn
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.authority import hsm
from tests.authority.kms.conftest import OPEN, guard_by
from tests.authority.xks.conftest import KEYS, PATIENCE_S, PREFIX, REGION, Stage, make_stage, now_ms, policy, running

from anchorhold.authority.guard.switch import KILL_FILE
from anchorhold.authority.keystore.opener import Choice, Kind
from anchorhold.authority.kms import setup as kms_setup
from anchorhold.authority.kms.app import make_app as make_kms
from anchorhold.authority.kms.xks_proxy import FOLDER
from anchorhold.authority.tls import TlsFiles
from anchorhold.authority.xks import setup as xks_setup
from anchorhold.authority.xks.server import client_ca, make_mtls_server
from anchorhold.enclave.keys.envelope import open_envelope
from anchorhold.enclave.nsm.module import NsmClient
from anchorhold.sim.nsm import ToyNsm
from anchorhold.sim.pki import SimulatedPki

pytestmark = pytest.mark.slow

IMAGE = {index: bytes([0xA0 + index]) * 48 for index in range(5)}
CONTEXT = {"model": "tiny", "role": "share"}
TOLD = {f"PCR{index}": value.hex() for index, value in IMAGE.items()}


@dataclass
class Whole:
    """Both faces, served, and a boto3 client for each caller of the KMS face."""

    xks: Stage
    xks_port: int
    kms_folder: Path
    kms_port: int
    pki: SimulatedPki
    credentials: dict[str, dict[str, str]]

    def boto(self, name: str, *, checked: bool = True) -> Any:
        """A client; not `checked` sends what botocore's own model would not let through."""
        who = self.credentials[name]
        return boto3.client(
            "kms",
            endpoint_url=f"https://localhost:{self.kms_port}",
            region_name=REGION,
            verify=str(TlsFiles.within(self.kms_folder).authority),
            aws_access_key_id=who["access_key_id"],
            aws_secret_access_key=who["secret_access_key"],
            config=Config(retries={"max_attempts": 1}, parameter_validation=checked),
        )

    def create(self, **changes: Any) -> dict[str, Any]:
        credential = self.xks.credential
        made: dict[str, Any] = {
            "CustomKeyStoreName": "ours",
            "CustomKeyStoreType": "EXTERNAL_KEY_STORE",
            "XksProxyUriEndpoint": f"https://localhost:{self.xks_port}",
            "XksProxyUriPath": f"{PREFIX}/kms/xks/v1",
            "XksProxyConnectivity": "PUBLIC_ENDPOINT",
            "XksProxyAuthenticationCredential": {
                "AccessKeyId": credential.access_key_id,
                "RawSecretAccessKey": credential.secret_access_key,
            },
        }
        return dict(self.boto("admin").create_custom_key_store(**(made | changes)))

    def connected(self) -> str:
        store = str(self.create()["CustomKeyStoreId"])
        self.boto("admin").connect_custom_key_store(CustomKeyStoreId=store)
        return store

    def key(self, store: str, xks_key_id: str = KEYS.full) -> str:
        arns = {name: who["arn"] for name, who in self.credentials.items()}
        statements = [
            {"Effect": "Allow", "Principal": {"AWS": arns["admin"]}, "Action": "kms:*", "Resource": "*"},
            {
                "Effect": "Allow",
                "Principal": {"AWS": [arns["publisher"], arns["enclave"]]},
                "Action": ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"],
                "Resource": "*",
            },
        ]
        made = self.boto("admin").create_key(
            Origin="EXTERNAL_KEY_STORE",
            CustomKeyStoreId=store,
            XksKeyId=xks_key_id,
            Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}),
        )
        return str(made["KeyMetadata"]["Arn"])


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Whole]:
    """Over the software keystore; the first test has the HSM."""
    with both(tmp_path, policy()) as made:
        yield made


def _token() -> Choice:
    token = hsm.token_for_tests()
    return Choice(Kind.PKCS11, module=token.module, token=token.label, pin_file=token.pin_file)


@contextmanager
def both(folder: Path, guard_policy: str, choice: Choice | None = None) -> Iterator[Whole]:
    stage = make_stage(folder / "xks", guard_policy, choice, all_keys=True)
    moment = datetime.fromtimestamp(now_ms() / 1000, UTC)
    pki = SimulatedPki.create(moment)
    kms_folder = folder / "kms"
    kms_setup.init(kms_folder, "simulated", [pki.anchor], now=now_ms(), region=REGION)
    # Which principal may do what is the guard's own tests' affair; here it is the store's guard that decides.
    guard_by(kms_folder, OPEN, now_ms())
    client = kms_folder / FOLDER
    client.mkdir()
    for name in ("client.pem", "client.key", "ca.pem"):
        shutil.copy(client_ca(stage.folder).parent / name, client / name)
    server = make_mtls_server(stage.app(), stage.folder, xks_setup.default_client_name("aws", REGION))
    files = TlsFiles.within(kms_folder)
    app = make_kms(kms_folder, now_ms, proxy_timeout_s=PATIENCE_S)
    config = uvicorn.Config(
        app,
        log_config=None,
        timeout_graceful_shutdown=1,
        ssl_certfile=str(files.certificate),
        ssl_keyfile=str(files.key),
    )
    credentials = json.loads((kms_folder / kms_setup.CREDENTIALS).read_text())
    with running(server) as xks_port, running(uvicorn.Server(config)) as kms_port:
        yield Whole(stage, xks_port, kms_folder, kms_port, pki, credentials)
    stage.desk.close()


def _code(caught: "pytest.ExceptionInfo[ClientError]") -> str:
    return str(caught.value.response["Error"]["Code"])


def test_a_data_key_goes_to_the_hsm_and_back(tmp_path: Path) -> None:
    with both(tmp_path, policy(), _token()) as whole:
        _there_and_back(whole)


def _there_and_back(whole: Whole) -> None:
    store = whole.connected()
    arn = whole.key(store)
    publisher = whole.boto("publisher")
    made = publisher.generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)
    opened = publisher.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)
    assert opened["Plaintext"] == made["Plaintext"]
    assert opened["KeyId"] == arn
    blob = publisher.encrypt(KeyId=arn, Plaintext=b"x" * 4_096)["CiphertextBlob"]
    assert publisher.decrypt(KeyId=arn, CiphertextBlob=blob)["Plaintext"] == b"x" * 4_096
    said = [entry.body for entry in whole.xks.journal() if entry.type == "xks"]
    operations = [one["kms"]["operation"] for one in said if one["kms"] is not None]  # type: ignore[index, call-overload]
    assert operations == [
        "CreateCustomKeyStore", "ConnectCustomKeyStore", "CreateKey", "GenerateDataKey",
        "Decrypt", "Encrypt", "Decrypt",
    ]  # fmt: skip
    used = whole.xks.last()["kms"]
    assert (used["key"], used["principal"]) == (arn, whole.credentials["publisher"]["arn"])


def test_another_context_or_a_changed_blob_does_not_open(whole: Whole) -> None:
    arn = whole.key(whole.connected())
    publisher = whole.boto("publisher")
    blob = publisher.encrypt(KeyId=arn, Plaintext=b"x", EncryptionContext=CONTEXT)["CiphertextBlob"]
    for changed, context in ((blob, {"model": "other"}), (blob[:-1] + bytes([blob[-1] ^ 1]), CONTEXT)):
        with pytest.raises(ClientError) as caught:
            publisher.decrypt(CiphertextBlob=changed, EncryptionContext=context)
        assert _code(caught) == "InvalidCiphertextException"


def test_the_guard_of_the_store_stops_kms(whole: Whole) -> None:
    arn = whole.key(whole.connected())
    publisher = whole.boto("publisher")
    blob = publisher.encrypt(KeyId=arn, Plaintext=b"x")["CiphertextBlob"]
    (whole.xks.folder / KILL_FILE).write_text("incident\n")
    with pytest.raises(ClientError) as caught:
        publisher.decrypt(CiphertextBlob=blob)
    assert _code(caught) == "KMSInvalidStateException"
    assert whole.xks.last()["rule"] == "guard-kill"


def test_reencrypt_under_an_external_key_is_refused_by_the_store(whole: Whole) -> None:
    arn = whole.key(whole.connected())
    publisher = whole.boto("publisher")
    blob = publisher.encrypt(KeyId=arn, Plaintext=b"x")["CiphertextBlob"]
    with pytest.raises(ClientError) as caught:
        publisher.re_encrypt(CiphertextBlob=blob, DestinationKeyId=arn)
    assert _code(caught) == "KMSInvalidStateException"
    assert whole.xks.last()["rule"] == "kms-operation"


def test_an_attested_decrypt_tells_the_store_every_register(tmp_path: Path) -> None:
    tuples: list[dict[str, object]] = [
        {"name": "administration", "faces": ["xks"], "principals": ["*"],
         "operations": ["xks:GetKeyMetadata", "xks:Encrypt"], "keys": ["*"]},
        {"name": "enclaves", "faces": ["xks"], "principals": ["*"], "operations": ["xks:Decrypt"], "keys": ["*"],
         "told": [TOLD]},
    ]  # fmt: skip
    with both(tmp_path, policy(*tuples)) as whole:
        arn = whole.key(whole.connected())
        blob = whole.boto("publisher").encrypt(KeyId=arn, Plaintext=b"share")["CiphertextBlob"]
        enclave = whole.boto("enclave")
        with pytest.raises(ClientError) as caught:
            enclave.decrypt(KeyId=arn, CiphertextBlob=blob)
        assert _code(caught) == "KMSInvalidStateException"
        assert whole.xks.last()["rule"] == "guard-told"
        key = rsa.generate_private_key(65537, 2048)
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        nsm = NsmClient(ToyNsm(whole.pki, IMAGE, "i-0-enc0", lambda: int(now_ms())).transact)
        answer = enclave.decrypt(
            KeyId=arn,
            CiphertextBlob=blob,
            Recipient={
                "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
                "AttestationDocument": nsm.attest(public_key=spki),
            },
        )
        assert open_envelope(answer["CiphertextForRecipient"], key) == b"share"
        entry = whole.xks.last()
        assert entry["guard"]["registers"] == "told"
        assert {name: entry["kms"]["told"][name] for name in TOLD} == TOLD


@pytest.mark.parametrize(
    ("xks_key_id", "code"),
    [
        ("no-such-key", "XksKeyNotFoundException"),
        (KEYS.encrypt_only, "XksKeyInvalidConfigurationException"),
        (KEYS.impotent, "XksKeyInvalidConfigurationException"),
        (str(KEYS.disabled), "XksKeyInvalidConfigurationException"),
    ],
)
def test_a_kms_key_is_made_over_an_external_key_that_can_do_all(whole: Whole, xks_key_id: str, code: str) -> None:
    with pytest.raises(ClientError) as caught:
        whole.key(whole.connected(), xks_key_id)
    assert _code(caught) == code


def test_an_external_key_serves_one_kms_key(whole: Whole) -> None:
    store = whole.connected()
    whole.key(store)
    with pytest.raises(ClientError) as caught:
        whole.key(store)
    assert _code(caught) == "XksKeyAlreadyInUseException"


def test_a_store_is_created_over_a_proxy_that_answers(whole: Whole) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    secret = base64.b64encode(bytes(48)).decode()
    for changes, code in (
        ({"XksProxyUriEndpoint": f"https://localhost:{nobody}"}, "XksProxyUriUnreachableException"),
        (
            {"XksProxyAuthenticationCredential": {"AccessKeyId": "A" * 20, "RawSecretAccessKey": secret}},
            "XksProxyIncorrectAuthenticationCredentialException",
        ),
        ({"XksProxyUriPath": "/other/kms/xks/v1"}, "XksProxyInvalidConfigurationException"),
        ({"CustomKeyStoreType": "AWS_CLOUDHSM"}, "UnsupportedOperationException"),
    ):
        with pytest.raises(ClientError) as caught:
            whole.create(**changes)
        assert _code(caught) == code
    assert whole.boto("admin").describe_custom_key_stores()["CustomKeyStores"] == []


def test_a_stores_life(whole: Whole) -> None:
    admin = whole.boto("admin")
    store = whole.create()["CustomKeyStoreId"]

    def state() -> str:
        (found,) = admin.describe_custom_key_stores(CustomKeyStoreId=store)["CustomKeyStores"]
        assert "RawSecretAccessKey" not in json.dumps(found, default=str)
        return str(found["ConnectionState"])

    assert state() == "DISCONNECTED"
    with pytest.raises(ClientError) as caught:
        whole.key(store)
    assert _code(caught) == "CustomKeyStoreInvalidStateException"
    admin.connect_custom_key_store(CustomKeyStoreId=store)
    assert state() == "CONNECTED"
    arn = whole.key(store)
    blob = admin.encrypt(KeyId=arn, Plaintext=b"x")["CiphertextBlob"]
    admin.update_custom_key_store(CustomKeyStoreId=store, NewCustomKeyStoreName="renamed")
    admin.disconnect_custom_key_store(CustomKeyStoreId=store)
    assert admin.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] == "Unavailable"
    with pytest.raises(ClientError) as caught:
        admin.decrypt(CiphertextBlob=blob)
    assert _code(caught) == "KMSInvalidStateException"
    with pytest.raises(ClientError) as caught:
        admin.delete_custom_key_store(CustomKeyStoreId=store)
    assert _code(caught) == "CustomKeyStoreHasCMKsException"
    admin.connect_custom_key_store(CustomKeyStoreId=store)
    assert admin.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"


@pytest.mark.parametrize("none", [None, ""])
def test_a_store_goes_to_a_vpc_endpoint_service_and_back(whole: Whole, none: str | None) -> None:
    admin, service = whole.boto("admin", checked=False), "com.amazonaws.vpce.eu-central-1.vpce-svc-0123456789abcdef0"
    store = str(whole.create()["CustomKeyStoreId"])
    names = [f"https://localhost:{whole.xks_port}", f"https://127.0.0.1:{whole.xks_port}"]
    there = {"XksProxyConnectivity": "VPC_ENDPOINT_SERVICE", "XksProxyVpcEndpointServiceName": service}
    back = {"XksProxyConnectivity": "PUBLIC_ENDPOINT", "XksProxyVpcEndpointServiceName": none}

    def update(**changes: Any) -> None:
        admin.update_custom_key_store(CustomKeyStoreId=store, **changes)

    def refused(**changes: Any) -> None:
        with pytest.raises(ClientError) as caught:
            update(**changes)
        assert _code(caught) == "ValidationException"

    def shown() -> tuple[str, str, str | None]:
        (found,) = admin.describe_custom_key_stores(CustomKeyStoreId=store)["CustomKeyStores"]
        proxy = found["XksProxyConfiguration"]
        return proxy["Connectivity"], proxy["UriEndpoint"], proxy.get("VpcEndpointServiceName")

    refused(**there)
    refused(XksProxyConnectivity="VPC_ENDPOINT_SERVICE", XksProxyUriEndpoint=names[1])
    update(XksProxyUriEndpoint=names[1], **there)
    assert shown() == ("VPC_ENDPOINT_SERVICE", names[1], service)
    refused(**back)
    refused(XksProxyConnectivity="PUBLIC_ENDPOINT", XksProxyUriEndpoint=names[0])
    refused(XksProxyVpcEndpointServiceName=none)
    update(NewCustomKeyStoreName="renamed")
    assert shown() == ("VPC_ENDPOINT_SERVICE", names[1], service)
    update(XksProxyUriEndpoint=names[0], **back)
    assert shown() == ("PUBLIC_ENDPOINT", names[0], None)


def test_credentials_rotate_under_a_connected_store(whole: Whole) -> None:
    admin, store = whole.boto("admin"), whole.connected()
    arn = whole.key(store)
    second = whole.xks.desk.add_credential(now_ms())
    admin.update_custom_key_store(
        CustomKeyStoreId=store,
        XksProxyAuthenticationCredential={
            "AccessKeyId": second.access_key_id,
            "RawSecretAccessKey": second.secret_access_key,
        },
    )
    whole.xks.desk.retire_credential(whole.xks.credential.access_key_id, now_ms())
    blob = admin.encrypt(KeyId=arn, Plaintext=b"x")["CiphertextBlob"]
    assert admin.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
