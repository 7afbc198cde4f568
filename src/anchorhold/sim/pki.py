"""A toy certificate authority of the same shape and lifetimes as AWS's (facts of 100 published documents).

root 30 years > regional 20 days > zonal 6 days > instance 1 day > leaf 3 hours; P-384 and ecdsa-with-SHA384
throughout; no SAN, no EKU. The root is not pinned anywhere, so whatever hangs under it is `simulated`. It is told the
time, as everything here is.
"""

import secrets
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
from cryptography.x509.oid import NameOID

from anchorhold.attestation.anchors import Anchor

REGION = "sim-local-1"
ROOT_NAME = "simulated.nitro-enclaves"
ROOT_LIFE = timedelta(days=30 * 365)
REGIONAL_LIFE = timedelta(days=20)
ZONAL_LIFE = timedelta(days=6)
INSTANCE_LIFE = timedelta(days=1)
LEAF_LIFE = timedelta(hours=3)
REISSUE_BEFORE = timedelta(minutes=15)  # AWS replaces a leaf about so long before its end
_BACKDATED = timedelta(seconds=3)  # AWS's leaves begin three seconds early


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        """The certificate's DER."""
        return self.certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Leaf:
    """What an NSM signs with: the leaf, its key, and the bundle root first."""

    issued: Issued
    cabundle: tuple[bytes, ...]


class SimulatedPki:
    """One root and the intermediates of one instance, renewed before they end. `leaf` issues for a module."""

    def __init__(self, root: Issued) -> None:
        self._root = root
        self._intermediates: tuple[Issued, ...] = ()

    @classmethod
    def create(cls, now: datetime) -> "SimulatedPki":
        """A fresh root."""
        return cls(_root(now))

    @classmethod
    def load(cls, folder: Path, now: datetime) -> "SimulatedPki":
        """The root kept in `folder`, made at the first call. A toy: the key lies there in the clear, mode 0600."""
        kept = folder / "simulated-root-key.pem"
        if kept.exists():
            raw = kept.read_bytes()
            key = load_pem_private_key(raw, None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise ValueError("simulated root: expected a P-384 key")
            return cls(Issued(x509.load_pem_x509_certificate(raw), key))
        root = _root(now)
        private = root.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        folder.mkdir(parents=True, exist_ok=True)
        kept.touch(mode=0o600)
        kept.write_bytes(private + root.certificate.public_bytes(Encoding.PEM))
        return cls(root)

    @property
    def anchor(self) -> Anchor:
        """The root as an anchor."""
        return Anchor("simulated", self._root.der)

    @property
    def root_pem(self) -> bytes:
        """The root certificate, for those who are to trust it."""
        return self._root.certificate.public_bytes(Encoding.PEM)

    def leaf(self, module_id: str, now: datetime) -> Leaf:
        """A fresh leaf for `module_id` from `now` on."""
        instance = module_id.rpartition("-")[0]
        intermediates = self._path(instance, now)
        begin = now - _BACKDATED
        issuer = intermediates[-1]
        key = ec.generate_private_key(ec.SECP384R1())
        name = f"{module_id}.{REGION}.aws"
        template = _template(name, key, _name_of(issuer), begin, begin + LEAF_LIFE)
        template = template.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # Not critical, as on real leaves.
        template = template.add_extension(_usage(sign=True), critical=False)
        leaf = Issued(template.sign(issuer.key, hashes.SHA384()), key)
        return Leaf(leaf, (self._root.der, *(one.der for one in intermediates)))

    def _path(self, instance: str, now: datetime) -> tuple[Issued, ...]:
        last_leaf_end = now + LEAF_LIFE
        kept = self._intermediates
        if not kept or min(one.certificate.not_valid_after_utc for one in kept) < last_leaf_end:
            kept = self._renew(now)
            self._intermediates = kept
        name = f"{instance}.{REGION}.aws.nitro-enclaves"
        return (*kept, _issue(name, kept[-1], now, INSTANCE_LIFE, 0))

    def _renew(self, now: datetime) -> tuple[Issued, ...]:
        suffix = f"{REGION}.aws.nitro-enclaves"
        regional = _issue(f"{secrets.token_hex(8)}.{suffix}", self._root, now, REGIONAL_LIFE, 2)
        zonal = _issue(f"{secrets.token_hex(8)}.zonal.{suffix}", regional, now, ZONAL_LIFE, 1)
        return regional, zonal


def _root(now: datetime) -> Issued:
    key = ec.generate_private_key(ec.SECP384R1())
    template = _template(ROOT_NAME, key, ROOT_NAME, now - timedelta(days=1), now + ROOT_LIFE)
    return Issued(_as_ca(template, None).sign(key, hashes.SHA384()), key)


def _issue(name: str, issuer: Issued, now: datetime, life: timedelta, path_length: int) -> Issued:
    key = ec.generate_private_key(ec.SECP384R1())
    begin = now - _BACKDATED
    template = _as_ca(_template(name, key, _name_of(issuer), begin, begin + life), path_length)
    return Issued(template.sign(issuer.key, hashes.SHA384()), key)


def _template(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_x509_name(name))
        .issuer_name(_x509_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _as_ca(template: x509.CertificateBuilder, path_length: int | None) -> x509.CertificateBuilder:
    constrained = template.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    return constrained.add_extension(_usage(sign=path_length != 0, certify=True), critical=True)


def _usage(*, sign: bool, certify: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certify,
        crl_sign=certify and sign,
        encipher_only=False,
        decipher_only=False,
    )


def _x509_name(common: str) -> x509.Name:
    # X.520 allows 64 characters in a common name; a leaf's name is longer, on AWS too.
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Simulated"),
            x509.NameAttribute(NameOID.COMMON_NAME, common, _validate=False),
        ]
    )


def _name_of(issuer: Issued) -> str:
    return str(issuer.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
