"""`openssl cms` as the judge of CiphertextForRecipient: it opens ours, we open its, in AWS's indefinite-length form."""

import hashlib
import secrets
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from anchorhold.authority.kms.cms import seal_for_recipient
from anchorhold.enclave.keys.envelope import EnvelopeInvalid, open_envelope, parse_envelope

from .conftest import RSA_KEY, spki

pytestmark = pytest.mark.slow

OAEP = "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:{digest} -keyopt rsa_mgf1_md:{digest}"
BER = "-stream -indef"
SECRET = bytes(range(32))
SIZES = (1, 15, 16, 32, 4_096)


@dataclass(frozen=True)
class Openssl:
    """The command line over one recipient: a key, and a certificate that names it as AWS does."""

    folder: Path

    def run(self, arguments: str, given: bytes) -> bytes:
        result = subprocess.run(
            ["openssl", *arguments.split()], input=given, capture_output=True, check=True, cwd=self.folder
        )
        return result.stdout

    def encrypt(self, content: bytes, form: str = BER, *, digest: str = "sha256", cipher: str = "aes-256-cbc") -> bytes:
        oaep = OAEP.format(digest=digest)
        command = f"cms -encrypt -binary -{cipher} -outform DER {form} -keyid -recip recipient.pem {oaep}"
        return self.run(command, content)

    def decrypt(self, envelope: bytes) -> bytes:
        return self.run("cms -decrypt -binary -inform DER -inkey key.pem", envelope)


@pytest.fixture(scope="module")
def openssl(tmp_path_factory: pytest.TempPathFactory) -> Openssl:
    folder = tmp_path_factory.mktemp("openssl")
    (folder / "key.pem").write_bytes(RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "recipient")])
    identifier = x509.SubjectKeyIdentifier(hashlib.sha256(spki(RSA_KEY)).digest())
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, RSA_KEY.public_key(), 1, begins, begins + timedelta(days=1))
        .add_extension(identifier, critical=False)
        .sign(RSA_KEY, hashes.SHA256())
    )
    (folder / "recipient.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return Openssl(folder)


def ours(content: bytes) -> bytes:
    return seal_for_recipient(
        content, RSA_KEY.public_key(), content_key=secrets.token_bytes(32), iv=secrets.token_bytes(16)
    )


@pytest.mark.parametrize("size", SIZES)
def test_openssl_opens_what_we_seal(openssl: Openssl, size: int) -> None:
    content = secrets.token_bytes(size)
    assert openssl.decrypt(ours(content)) == content


@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_openssl_seals_in_that_form(openssl: Openssl, size: int) -> None:
    content = secrets.token_bytes(size)
    sealed = openssl.encrypt(content)
    assert sealed[:2] == b"\x30\x80"  # indefinite, as AWS writes it
    assert open_envelope(sealed, RSA_KEY) == content


def test_openssl_s_envelope_is_ours_but_for_what_the_standards_leave_to_the_writer(openssl: Openssl) -> None:
    """SHA-256 without NULL (RFC 4055 2.1), so 4 bytes less, and a last block in a piece of its own (X.690 8.7.3)."""
    theirs, mine = openssl.encrypt(SECRET), ours(SECRET)
    (*named, ciphertext), pieces = parse_envelope(theirs), parse_envelope(mine)
    for part, other in zip(named, pieces, strict=False):
        mine = mine.replace(other, part)
    mine = mine.replace(b"\x04\x30" + pieces[3], b"\x04\x20" + ciphertext[:32] + b"\x04\x10" + ciphertext[32:])
    without_null = (
        ("3182016b30820167", "3182016730820163"),
        ("303c06092a864886f70d010107302f", "303806092a864886f70d010107302b"),
        ("a00f300d06096086480165030402010500", "a00d300b0609608648016503040201"),
        ("a11c301a06092a864886f70d010108300d06096086480165030402010500",
         "a11a301806092a864886f70d010108300b0609608648016503040201"),
    )  # fmt: skip
    for full, bare in without_null:
        assert mine.count(bytes.fromhex(full)) == 1
        mine = mine.replace(bytes.fromhex(full), bytes.fromhex(bare))
    assert mine == theirs


def test_definite_lengths_say_the_same(openssl: Openssl) -> None:
    sealed = openssl.encrypt(SECRET, form="")
    assert sealed[:2] == b"\x30\x82"
    assert open_envelope(sealed, RSA_KEY) == SECRET


@pytest.mark.parametrize(
    "change",
    [{"digest": "sha1"}, {"digest": "sha384"}, {"cipher": "aes-128-cbc"}, {"cipher": "aes-256-gcm"}],
    ids=lambda change: next(iter(change.values())),
)
def test_what_openssl_seals_in_another_form_is_refused(openssl: Openssl, change: dict[str, str]) -> None:
    sealed = openssl.encrypt(SECRET, **change)
    assert openssl.decrypt(sealed) == SECRET
    with pytest.raises(EnvelopeInvalid):
        open_envelope(sealed, RSA_KEY)


def test_a_recipient_named_by_issuer_and_serial_is_refused(openssl: Openssl) -> None:
    command = (
        f"cms -encrypt -binary -aes-256-cbc -outform DER {BER} -recip recipient.pem {OAEP.format(digest='sha256')}"
    )
    sealed = openssl.run(command, SECRET)
    assert openssl.decrypt(sealed) == SECRET
    with pytest.raises(EnvelopeInvalid):
        open_envelope(sealed, RSA_KEY)
