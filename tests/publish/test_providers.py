"""Shares from a real owner authority over TLS and from a real KMS face: what was sealed for is all that opens."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation.sealed.manifest import PurposeClass, ShareKind, ShareRole
from anchorhold.attestation.sealed.shares import encryption_context, verify_share
from anchorhold.attestation.types import Milliseconds, ModelDigest
from anchorhold.authority.kms import setup
from anchorhold.authority.kms.app import make_app
from anchorhold.authority.owner.keys import BlobRefused, open_share
from anchorhold.authority.tls import TlsFiles
from anchorhold.publish.errors import ProviderUnavailable, PublishError, ShareRefused
from anchorhold.publish.providers import KmsShares, OwnerShares, Subject, kms_client
from anchorhold.sim.owner_face import Authority, Served, owner_face
from anchorhold.sim.pki import SimulatedPki

SUBJECT = Subject(ModelDigest(b"\xd1" * 48), "tiny", "1")
FIELDS = ("access_key_id", "secret_access_key", "session_token")
PURPOSES = (PurposeClass.SERVE, PurposeClass.RESEAL)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with owner_face(tmp_path_factory.mktemp("owner")) as running:
        yield running


def owner_shares(authority: Authority, token: str | None = None, ca: Path | None = None) -> OwnerShares:
    own = TlsFiles.within(authority.state_dir).authority
    url = f"https://localhost:{authority.served.port}"
    return OwnerShares("owner", url, token=authority.token if token is None else token, ca=ca or own)


def test_the_owner_wraps_one_share_for_each_purpose_and_opens_each_for_that_one_alone(authority: Authority) -> None:
    from anchorhold.authority.owner.authority import load_owner

    made = owner_shares(authority).new_share(SUBJECT, PURPOSES)
    assert [(one.kind, one.role, one.purpose_class) for one in made.wrapped] == [
        (ShareKind.OWNER, ShareRole.SHARE, purpose) for purpose in PURPOSES
    ]
    owner = load_owner(authority.state_dir, authority.clock.ms)
    for one in made.wrapped:
        verify_share(made.share, one.check, SUBJECT.model, "owner", ShareRole.SHARE)
        for purpose in PurposeClass:
            arguments = (owner.keystore, (one.key,), one.blob, SUBJECT.model, purpose.value)
            if purpose is one.purpose_class:
                assert open_share(*arguments) == bytes(made.share)
            else:
                with pytest.raises(BlobRefused):
                    open_share(*arguments)
    owner.state.close()
    assert [entry.type for entry in authority.journal()][-2:] == ["share", "share"]


def test_two_shares_differ(authority: Authority) -> None:
    one, two = (owner_shares(authority).new_share(SUBJECT, PURPOSES) for _ in range(2))
    assert one.share != two.share
    assert bytes(one.share).hex() not in repr(one)


def test_a_wrong_token_gets_no_share(authority: Authority) -> None:
    with pytest.raises(ShareRefused, match="401"):
        owner_shares(authority, token="wrong").new_share(SUBJECT, PURPOSES)


def test_an_authority_under_another_ca_is_not_spoken_to(authority: Authority, tmp_path: Path) -> None:
    with owner_face(tmp_path) as other:
        shares = owner_shares(authority, ca=TlsFiles.within(other.state_dir).authority)
        with pytest.raises(ProviderUnavailable):
            shares.new_share(SUBJECT, PURPOSES)


def test_an_authority_that_is_down_is_unavailable_and_plain_http_is_no_address(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ca = TlsFiles.within(authority.state_dir).authority
    with pytest.raises(ProviderUnavailable):
        OwnerShares("owner", f"https://localhost:{port}", token="t", ca=ca).new_share(SUBJECT, PURPOSES)
    with pytest.raises(PublishError, match="https"):
        OwnerShares("owner", f"http://localhost:{port}", token="t", ca=ca)


def test_an_authority_that_never_answers_in_tls_is_unavailable(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        ca = TlsFiles.within(authority.state_dir).authority
        url = f"https://localhost:{listener.getsockname()[1]}"
        with pytest.raises(ProviderUnavailable):
            OwnerShares("owner", url, token="t", ca=ca).new_share(SUBJECT, PURPOSES)
        thread.join()


class BookKms:
    """A KMS that keeps plaintext by blob and context, as boto3's client answers."""

    def __init__(self, key: str = "arn:aws:kms:eu-central-1:000000000000:key/k", share: bytes = b"s" * 32) -> None:
        self.key = key
        self.share = share
        self.book: list[tuple[bytes, dict[str, str]]] = []

    def generate_data_key(self, *, KeyId: str, KeySpec: str, EncryptionContext: dict[str, str]) -> dict[str, Any]:  # noqa: N803 - boto3's names
        assert KeySpec == "AES_256"
        return self._keep(self.share, EncryptionContext) | {"Plaintext": self.share}

    def encrypt(self, *, KeyId: str, Plaintext: bytes, EncryptionContext: dict[str, str]) -> dict[str, Any]:  # noqa: N803 - boto3's names
        return self._keep(Plaintext, EncryptionContext)

    def _keep(self, plaintext: bytes, context: dict[str, str]) -> dict[str, Any]:
        self.book.append((plaintext, context))
        return {"KeyId": self.key, "CiphertextBlob": b"blob-%d" % (len(self.book) - 1)}


def test_a_kms_wraps_share_and_lease_each_under_its_own_context() -> None:
    kms = BookKms()
    made = KmsShares("kms", "alias/x", kms).new_share(SUBJECT, PURPOSES)
    for one in made.wrapped:
        plaintext, context = kms.book[int(one.blob.removeprefix(b"blob-"))]
        wanted = encryption_context("tiny", SUBJECT.model, one.role, one.purpose_class)
        assert context == wanted
        verify_share(plaintext, one.check, SUBJECT.model, "kms", one.role)
        assert (plaintext == bytes(made.share)) is (one.role is ShareRole.SHARE)
        assert one.key == kms.key  # the full ARN, whatever name was asked for
    leases = [one for one in made.wrapped if one.role is ShareRole.LEASE]
    assert [one.purpose_class for one in leases] == [*PURPOSES]  # an enclave that reseals renews its lease too


def test_a_kms_that_gives_half_a_share_is_refused() -> None:
    with pytest.raises(ShareRefused, match="32 bytes, got 16"):
        KmsShares("kms", "k", BookKms(share=b"s" * 16)).new_share(SUBJECT, PURPOSES)


@pytest.mark.slow
def test_a_real_kms_face_wraps_under_its_full_arn_and_refuses_an_unknown_key_by_name(tmp_path: Path) -> None:
    now = Milliseconds(time.time_ns() // 1_000_000)
    pki = SimulatedPki.create(datetime.fromtimestamp(now / 1000, UTC))
    folder = tmp_path / "kms"
    setup.init(folder, "simulated", [pki.anchor], now=now)
    callers = json.loads((folder / setup.CREDENTIALS).read_text())
    served = Served(make_app(folder, lambda: Milliseconds(time.time_ns() // 1_000_000)), TlsFiles.within(folder))
    try:
        admin, publisher = (_client(tmp_path, folder, served.port, callers, name) for name in ("admin", "publisher"))
        arn = admin.create_key(Description="model")["KeyMetadata"]["Arn"]
        allow = [
            {"Effect": "Allow", "Principal": {"AWS": callers[name]["arn"]}, "Action": actions, "Resource": "*"}
            for name, actions in (("admin", "kms:*Key*"), ("publisher", ["kms:GenerateDataKey", "kms:Encrypt"]))
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": allow})
        admin.put_key_policy(KeyId=arn, PolicyName="default", Policy=policy)
        made = KmsShares("kms", arn, publisher).new_share(SUBJECT, PURPOSES)
        assert {one.key for one in made.wrapped} == {arn}
        assert len({one.blob for one in made.wrapped}) == len(made.wrapped) == 4
        with pytest.raises(ShareRefused, match="NotFoundException"):
            KmsShares("kms", arn[:-12] + "0" * 12, publisher).new_share(SUBJECT, PURPOSES)
    finally:
        served.stop()
    with pytest.raises(ProviderUnavailable):
        KmsShares("kms", arn, publisher).new_share(SUBJECT, PURPOSES)


def _client(scratch: Path, folder: Path, port: int, callers: dict[str, dict[str, str]], name: str) -> Any:
    credentials = scratch / f"{name}.json"
    credentials.write_text(json.dumps({field: callers[name].get(field) for field in FIELDS}))
    return kms_client(
        endpoint=f"https://localhost:{port}",
        region="eu-central-1",
        ca=TlsFiles.within(folder).authority,
        credentials=credentials,
    )
