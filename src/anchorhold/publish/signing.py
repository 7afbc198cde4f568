"""The model signer: an EC P-384 key with a code-signing certificate under a root of the owner's own.

Writes what `attestation/sealed/signature.py` checks and what `model_signing verify certificate` takes.
"""

import base64
import hashlib
import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from anchorhold.attestation.sealed.signature import MEDIA_TYPE, PAYLOAD_TYPE, pae, statement
from anchorhold.publish.errors import PublishError

KEY_FILE = "signer.key.pem"
CHAIN_FILE = "signer.chain.pem"
ROOT_FILE = "signer.root.pem"
ROOT_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class ModelSigner:
    """A signing key and its certificates, leaf first; the root may be left out."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.key.curve, ec.SECP384R1):
            raise PublishError(f"model signer: expected a P-384 key, got {self.key.curve.name}")
        if not self.chain or self.chain[0].public_key() != self.key.public_key():
            raise PublishError("model signer: the first certificate is not the key's")


def sign_manifest(raw: bytes, signer: ModelSigner) -> bytes:
    """The bundle over the folder `signed/` whose one file `manifest` has these bytes."""
    payload = json.dumps(statement(hashlib.sha256(raw).digest()), indent=2).encode()
    signature = signer.key.sign(pae(payload), ec.ECDSA(hashes.SHA384()))
    certificates = [{"rawBytes": _base64(one.public_bytes(Encoding.DER))} for one in signer.chain]
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"x509CertificateChain": {"certificates": certificates}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": _base64(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": _base64(signature), "keyid": ""}],
        },
    }
    return json.dumps(bundle, separators=(",", ":")).encode()


def create_signer(folder: Path, name: str, now: datetime) -> None:
    """A fresh root and signer in `folder`. The root's key is not kept: a new signer is a new root, named in a new C."""
    folder.mkdir(parents=True, exist_ok=True)
    root_key, key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    root_name, leaf_name = _name(f"{name} model root"), _name(f"{name} model signer")
    root = _certificate(root_name, root_name, root_key, root_key, now, ROOT_LIFE, ca=True)
    leaf = _certificate(leaf_name, root_name, key, root_key, now, LEAF_LIFE, ca=False)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor = os.open(folder / KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
    (folder / CHAIN_FILE).write_bytes(leaf.public_bytes(Encoding.PEM))
    (folder / ROOT_FILE).write_bytes(root.public_bytes(Encoding.PEM))


def load_signer(folder: Path) -> ModelSigner:
    """What `create_signer` wrote. Raises PublishError."""
    try:
        key = load_pem_private_key((folder / KEY_FILE).read_bytes(), None)
        chain = x509.load_pem_x509_certificates((folder / CHAIN_FILE).read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise PublishError(f"model signer: {folder} has no readable key and chain") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PublishError("model signer: expected an EC key")
    return ModelSigner(key, tuple(chain))


def load_root(folder: Path) -> bytes:
    """The signer's root certificate, DER: what a deployment configuration names. Raises PublishError."""
    try:
        return x509.load_pem_x509_certificate((folder / ROOT_FILE).read_bytes()).public_bytes(Encoding.DER)
    except (OSError, ValueError) as error:
        raise PublishError(f"model signer: {folder} has no readable root") from error


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    life: timedelta,
    *,
    ca: bool,
) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    return builder.sign(issuer_key, hashes.SHA384())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
