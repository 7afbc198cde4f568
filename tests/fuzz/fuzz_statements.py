"""Any bytes give a statement, a configuration, a lease or an EvidenceError, nothing else, in bounded time and memory.

Whatever is read writes the same bytes again, and no statement is of two kinds.
"""

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.fuzz import seeds as kept

from anchorhold.attestation import labels
from anchorhold.attestation.binding import Genesis, Release, Serve, decode_statement, encode_statement
from anchorhold.attestation.configuration import (
    Configuration,
    EngineSettings,
    LogTrust,
    Source,
    decode_configuration,
    encode_configuration,
)
from anchorhold.attestation.cose import parse_sign1, sign1
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.lease import Lease, sign_lease, verify_lease
from anchorhold.attestation.purpose import Grant, Purpose
from anchorhold.attestation.types import BootId, Milliseconds, ModelDigest, Sha384, StatementDigest

MAX_LEN = 8_192
TOKENS = (b"genesis", b"release", b"serve", b"boot_id", b"\xf6", b"\x58\x30", b"sources", b"owner", b"kms", b"adapter")
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
_DIGEST = StatementDigest(Sha384(b"g" * 48))
_MODEL = ModelDigest(b"d" * 48)


def seeds() -> list[bytes]:
    """One of each."""
    configuration = Configuration(
        model=_MODEL,
        model_id="org/model",
        alias="model",
        signers=(b"root",),
        sources=(
            Source("kms", "kms", "cloud", "https://h:1", (b"ca",), "arn:aws:kms:r:0:key/1", "r", b"", 10_000),
            Source("owner", "owner", "owner inc", "https://h:2", (b"ca",), "k1", "", b"l" * 32, 10_000),
        ),
        log=LogTrust("example.org/log", "example.org/log+00000000+AQ==", "none"),
        log_lease_ms=300_000,
        epoch_ms=600_000,
        grace_ms=60_000,
        purposes=("chat",),
        purpose_class="serve",
        credential_issuer=b"i" * 32,
        release_policy=None,
        engine=EngineSettings("float32", 4_096, 8, 2),
    )
    lease = Lease(
        "owner",
        BootId(b"b" * 32),
        _DIGEST,
        _MODEL,
        (Grant(Purpose("chat")),),
        1,
        _DIGEST,
        10_000,
        Milliseconds(1 << 40),
    )
    adapted = replace(lease, adapter=ModelDigest(b"a" * 48))
    signed = [sign_lease(one, KEY) for one in (lease, adapted)]
    asked = [decode_statement(one, Release) for one in kept.statements() if b"grelease" in one]
    statements = [encode_statement(replace(one, adapter=adapted.adapter)) for one in asked]
    configurations = [encode_configuration(replace(configuration, adapters=most)) for most in (0, 4)]
    payloads = [parse_sign1(one, "seed").payload for one in signed]
    return [*kept.statements(), *statements, *configurations, *signed, *payloads]


def one_input(data: bytes) -> None:
    """The same bytes to each."""
    kinds = 0
    for kind in (Genesis, Release, Serve):
        try:
            statement = decode_statement(data, kind)
        except EvidenceError:
            continue
        kinds += 1
        assert encode_statement(statement) == data
    assert kinds <= 1
    try:
        configuration = decode_configuration(data)
    except EvidenceError:
        pass
    else:
        assert encode_configuration(configuration) == data
    for raw in (data, sign1(data, KEY, aad=labels.LEASE)):
        try:
            verify_lease(raw, KEY.public_key())
        except EvidenceError:
            continue
