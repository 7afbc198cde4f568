"""The parent hands the configuration in: one form, every field within its limits, and any other byte is another C."""

import dataclasses
import hashlib

import pytest

from anchorhold.attestation.canonical import decode, encode
from anchorhold.attestation.configuration import (
    Configuration,
    EngineSettings,
    LogTrust,
    Source,
    configuration_digest,
    decode_configuration,
    encode_configuration,
    pcr16,
)
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import ConfigDigest, ModelDigest

KMS = Source(
    kind="kms",
    name="kms",
    custodian="cloud",
    endpoint="https://localhost:8443",
    authorities=(b"ca",),
    key="arn:aws:kms:sim-local-1:000000000000:key/1",
    region="sim-local-1",
    lease_key=b"",
    lease_ttl_ms=10_000,
)
OWNER = Source("owner", "owner", "owner inc", "https://127.0.0.1:9443", (b"ca",), "k1", "", b"l" * 32, 10_000)
GOOD = Configuration(
    model=ModelDigest(b"d" * 48),
    model_id="org/model",
    alias="model",
    signers=(b"root",),
    sources=(KMS, OWNER),
    log=LogTrust("example.org/log", "example.org/log+00000000+AQ==", "none"),
    log_lease_ms=300_000,
    epoch_ms=600_000,
    grace_ms=60_000,
    purposes=("serve",),
    purpose_class="serve",
    credential_issuer=b"i" * 32,
    release_policy=None,
    engine=EngineSettings("float32", 4_096, 8, 2),
)


def test_it_reads_back_equal_and_c_is_of_its_bytes() -> None:
    raw = encode_configuration(GOOD)
    assert decode_configuration(raw) == GOOD
    assert configuration_digest(raw) != configuration_digest(raw + b"\x00")
    assert GOOD.source("owner") is OWNER
    with pytest.raises(KeyError):
        GOOD.source("nobody")


def test_register_16_is_one_extension_with_the_raw_c() -> None:
    digest = ConfigDigest(b"c" * 48)
    assert pcr16(digest) == hashlib.sha384(bytes(48) + digest).digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"model": b"d" * 47},
        {"model_id": ""},
        {"alias": "a\nb"},
        {"signers": ()},
        {"signers": (b"",)},
        {"signers": (b"x" * 4_097,)},
        {"signers": (b"x",) * 9},
        {"sources": ()},
        {"sources": (KMS, KMS)},
        {"sources": (KMS, dataclasses.replace(OWNER, name="kms"))},
        {"sources": (OWNER,) * 5},
        {"log_lease_ms": 1_999},
        {"epoch_ms": 86_400_001},
        {"grace_ms": -1},
        {"purposes": ()},
        {"purposes": ("serve", "serve")},
        {"purpose_class": "reseal"},
        {"credential_issuer": b""},
        {"log": LogTrust("o", "k", "2-of-3")},
        {"log": LogTrust("", "k", "none")},
        {"engine": EngineSettings("float16", 4_096, 8, 2)},
        {"engine": EngineSettings("float32", 0, 8, 2)},
        {"engine": EngineSettings("float32", 4_096, 8, 0)},
        {"engine": EngineSettings("float32", 4_096, True, 2)},
    ],
)
def test_a_field_outside_its_limits_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(EvidenceError):
        encode_configuration(dataclasses.replace(GOOD, **changes))  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "vault"},
        {"key": "alias/mine"},
        {"region": ""},
        {"lease_key": b"l" * 32},
        {"authorities": ()},
        {"lease_ttl_ms": 3_600_001},
        {"endpoint": "http://localhost:1"},
        {"endpoint": "https://localhost"},
        {"endpoint": "https://user@localhost:1"},
        {"endpoint": "https://localhost:1/path"},
        {"endpoint": "https://localhost:0"},
        {"endpoint": "https://:443"},
    ],
)
def test_a_source_outside_its_limits_is_refused(changes: dict[str, object]) -> None:
    source = dataclasses.replace(KMS, **changes)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(EvidenceError):
        encode_configuration(dataclasses.replace(GOOD, sources=(source,)))


def test_an_owner_without_a_lease_key_is_refused() -> None:
    with pytest.raises(EvidenceError, match="lease_key"):
        encode_configuration(dataclasses.replace(GOOD, sources=(dataclasses.replace(OWNER, lease_key=b""),)))


@pytest.mark.parametrize("name", ["v", "model", "sources", "log", "engine", "release_policy"])
def test_a_missing_or_extra_field_is_refused(name: str) -> None:
    fields = decode(encode_configuration(GOOD), "test", limit=100_000)
    assert isinstance(fields, dict)
    for changed in ({key: value for key, value in fields.items() if key != name}, {**fields, name + "2": 1}):
        with pytest.raises(EvidenceError):
            decode_configuration(encode(changed))


def test_no_other_encoding_of_the_same_configuration_is_taken() -> None:
    raw = encode_configuration(GOOD)
    for spoiled in (raw + b"\x00", raw[:-1], b"\xbf" + raw[1:] + b"\xff", b"", bytes(200_000)):
        with pytest.raises(EvidenceError):
            decode_configuration(spoiled)
