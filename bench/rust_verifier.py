"""The Rust verifier that ours is measured against: PyPI `evervault-attestation-bindings`, used as a caller would.

It pins the AWS root, reads the system clock and wants a TLS certificate whose public key the document carries as
`user_data`. No public document of a production enclave has all three today, so it is met twice:

- on documents of the simulated platform, made now, with the root in a *copy of the module's file* replaced by ours (the
  PEM lies in it as text). Both verifiers accept the same bytes.
- on real documents under a clock set to the document's time (`rust_verifier_child.py`). There its very last comparison,
  of `user_data` with the certificate's key, fails: form, chain and signature have been checked by then.
"""

import importlib.machinery
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

MODULE = "evervault_attestation_bindings"
# What it says when `user_data` is not the certificate's key, or is not there: its last comparison.
LAST_COMPARISON = re.compile("public key length in the attestation doc was invalid|User data was not set")
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
_REGISTERS = (0, 1, 2, 8)  # those it compares


@dataclass(frozen=True, slots=True)
class Peer:
    """The TLS certificate that an enclave would show, and what a document says of it."""

    certificate: bytes
    user_data: bytes

    @classmethod
    def create(cls, now: datetime) -> "Peer":
        """A fresh one, valid for a day."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now)
        made = builder.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
        user_data = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return cls(made.public_bytes(Encoding.DER), user_data)


def installed() -> bool:
    """Whether the package is there."""
    return importlib.util.find_spec(MODULE) is not None


def under_root(root_pem: bytes, room: Path) -> Any:
    """The module from a copy of its file that trusts `root_pem` in the place of AWS's root."""
    spec = importlib.util.find_spec(MODULE)
    assert spec is not None
    assert spec.origin is not None
    [library] = Path(spec.origin).parent.glob("*.so")
    content = library.read_bytes()
    [pinned] = _PEM.findall(content)
    if len(root_pem) > len(pinned):
        raise ValueError(f"root: expected at most {len(pinned)} bytes of PEM, got {len(root_pem)}")
    copy = room / library.name
    copy.write_bytes(content.replace(pinned, root_pem.ljust(len(pinned), b"\n")))
    loader = importlib.machinery.ExtensionFileLoader(MODULE, str(copy))
    found = importlib.util.spec_from_file_location(MODULE, copy, loader=loader)
    assert found is not None
    module = importlib.util.module_from_spec(found)
    loader.exec_module(module)
    return module


def verification(module: Any, peer: Peer, raw: bytes, pcrs: dict[int, bytes]) -> Callable[[], object]:
    """One verification of `raw` with its registers as those expected."""
    expected = [module.PCRs(*(pcrs[index].hex() for index in _REGISTERS))]
    return lambda: module.attest_enclave(peer.certificate, expected, raw)
