"""A gateway's key and certificate, made for one test."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anchorhold.client.tls import TlsPin

NAME = "gateway.example"


@dataclass(frozen=True, slots=True)
class Identity:
    """A gateway's key and a certificate that it signed itself."""

    key: bytes
    certificate: bytes

    @classmethod
    def make(cls, name: str = NAME) -> "Identity":
        key = ec.generate_private_key(ec.SECP256R1())
        named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)  # noqa: TID251 - gRPC judges by the machine's clock
        certificate = (
            x509.CertificateBuilder()
            .subject_name(named)
            .issuer_name(named)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cls(private, certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def pin(self) -> TlsPin:
        return TlsPin(NAME, self.certificate.decode())

    def context(self, folder: Path) -> ssl.SSLContext:
        """For Python's own TLS, with a classical key exchange whatever its OpenSSL knows: from 3.5 on it has ML-KEM."""
        path = folder / "both.pem"
        path.write_bytes(self.key + self.certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        context.set_ecdh_curve("X25519")
        context.set_alpn_protocols(["h2"])
        return context
