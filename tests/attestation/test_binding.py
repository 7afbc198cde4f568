"""A statement of another kind, of another document, or changed in one byte gains nothing."""

import dataclasses
from collections.abc import Iterator

import pytest

from anchorhold.attestation import labels
from anchorhold.attestation.binding import (
    Ask,
    Genesis,
    Release,
    Serve,
    Statement,
    bind,
    decode_statement,
    encode_statement,
    key_id,
    nsm_nonce,
    rsa_key_digest,
    statement_digest,
)
from anchorhold.attestation.canonical import decode, encode
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import EvidenceError, Malformed, Mismatch, NotCanonical, TooLarge
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.types import BootId, ConfigDigest, Milliseconds, ModelDigest, Sha384, StatementDigest
from anchorhold.attestation.verify import Evidence, verify_live
from anchorhold.sim.stage import NONCE, Stage

BOOT_ID = BootId(b"b" * 32)
GENESIS_DIGEST = StatementDigest(b"g" * 48)
MODEL = ModelDigest(b"d" * 48)
CONFIG = ConfigDigest(b"c" * 48)
GENESIS = Genesis(BOOT_ID, b"t" * 32, b"q" * 1952, b"r" * 32, CONFIG, None)
RELEASE = Release(
    BOOT_ID,
    GENESIS_DIGEST,
    "owner",
    Ask.KEY,
    MODEL,
    (Purpose("chat"),),
    1,
    b"x" * 32,
    release_key=b"k" * 1216,
    rsa_key=None,
)
SERVE = Serve(
    BOOT_ID, GENESIS_DIGEST, "suite", b"k" * 1216, b"r" * 32, MODEL, CONFIG, 3, Milliseconds(1_800_000_000_000)
)
KINDS = (GENESIS, RELEASE, SERVE)
TYPES: tuple[type[Statement], ...] = (Genesis, Release, Serve)


def evidence_for(stage: Stage, user_data: bytes | None, public_key: bytes | None = None) -> Evidence:
    raw = stage.module.attest(user_data=user_data, public_key=public_key, nonce=NONCE)
    return verify_live(raw, stage.policy, stage.pki.anchor, stage.clock.now, NONCE)


def changed_fields(statement: Statement, **changes: object) -> bytes:
    fields = decode(encode_statement(statement), "test", limit=10_000)
    assert isinstance(fields, dict)
    kept = {name: value for name, value in {**fields, **changes}.items() if value is not ...}
    return encode(kept)


@pytest.mark.parametrize("statement", KINDS)
def test_each_kind_reads_back_equal_and_binds(stage: Stage, statement: Statement) -> None:
    raw = encode_statement(statement)
    kind = type(statement)
    assert decode_statement(raw, kind) == statement
    assert bind(evidence_for(stage, statement_digest(statement)), raw, kind) == statement


@pytest.mark.parametrize("statement", KINDS)
def test_a_statement_of_another_kind_is_refused(stage: Stage, statement: Statement) -> None:
    raw = encode_statement(statement)
    evidence = evidence_for(stage, statement_digest(statement))
    for kind in TYPES:
        if kind is not type(statement):
            with pytest.raises(Mismatch, match="user_data differs"):
                bind(evidence, raw, kind)
            with pytest.raises(EvidenceError):
                decode_statement(raw, kind)


def test_the_same_bytes_have_another_digest_under_each_kind() -> None:
    raws = [encode_statement(one) for one in KINDS]
    digests = {statement_digest(one) for one in KINDS}
    assert len(digests) == len(set(raws)) == 3
    assert len({nsm_nonce(kind, b"same") for kind in TYPES}) == 3
    assert len(nsm_nonce(Serve, b"")) == 48
    assert nsm_nonce(Serve, b"a") != nsm_nonce(Serve, b"b")


@pytest.mark.parametrize("user_data", [None, b"", b"u" * 48, b"u" * 64])
def test_a_statement_that_user_data_does_not_name_is_refused(stage: Stage, user_data: bytes | None) -> None:
    with pytest.raises(Mismatch) as caught:
        bind(evidence_for(stage, user_data), encode_statement(SERVE), Serve)
    assert caught.value.code == "user-data"


def test_a_statement_changed_by_the_parent_is_refused(stage: Stage) -> None:
    evidence = evidence_for(stage, statement_digest(SERVE))
    parents_key = dataclasses.replace(SERVE, channel_key=b"p" * 1216)
    with pytest.raises(Mismatch, match="user_data"):
        bind(evidence, encode_statement(parents_key), Serve)


def test_bytes_that_are_attested_but_are_no_statement_are_refused(stage: Stage) -> None:
    raw = encode({"v": 1, "kind": "serve"})
    with pytest.raises(Malformed):
        bind(evidence_for(stage, labelled(labels.STATEMENT_SERVE, raw)), raw, Serve)


def test_public_key_is_null_or_the_rsa_key_named(stage: Stage) -> None:
    spki = b"spki of an RSA key"
    by_rsa = dataclasses.replace(RELEASE, release_key=None, rsa_key=rsa_key_digest(spki))
    digest = statement_digest(by_rsa)
    assert bind(evidence_for(stage, digest, spki), encode_statement(by_rsa), Release) == by_rsa
    for shown in (None, b"", b"another key"):
        with pytest.raises(Mismatch, match="public_key"):
            bind(evidence_for(stage, digest, shown), encode_statement(by_rsa), Release)
    for statement in KINDS:
        with pytest.raises(Mismatch, match="public_key"):
            bind(evidence_for(stage, statement_digest(statement), spki), encode_statement(statement), type(statement))


@pytest.mark.parametrize(
    "changes",
    [
        {"release_key": None},
        {"rsa_key": b"s" * 48},
        {"release_key": b"k" * 1215},
        {"boot_id": b"b" * 31},
        {"genesis": b""},
        {"ask": "everything"},
        {"purposes": []},
        {"purposes": ["chat"]},
        {"purposes": [{"reason": "chat"}]},
        {"source": "x" * 65},
        {"request": -1},
        {"request": 2**53},
        {"request": True},
        {"challenge": b"x" * 65},
        {"v": 2},
        {"kind": "serve"},
        {"extra": 1},
        {"model": ...},
    ],
)
def test_a_release_out_of_form_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(EvidenceError):
        decode_statement(changed_fields(RELEASE, **changes), Release)


def spoiled(raw: bytes) -> Iterator[bytes]:
    yield raw + b"\x00"
    yield raw[:-1]
    yield b"\xbf" + raw[1:] + b"\xff"
    yield b""
    yield bytes(9_000)


@pytest.mark.parametrize("statement", KINDS)
def test_a_statement_in_any_other_encoding_is_refused(statement: Statement) -> None:
    for raw in spoiled(encode_statement(statement)):
        with pytest.raises((Malformed, NotCanonical, TooLarge)):
            decode_statement(raw, type(statement))


def test_our_own_bad_statement_is_never_encoded() -> None:
    with pytest.raises(Malformed):
        encode_statement(dataclasses.replace(RELEASE, rsa_key=Sha384(b"s" * 48)))


def test_a_key_id_names_one_statement() -> None:
    ids = {key_id(statement_digest(dataclasses.replace(SERVE, epoch=epoch))) for epoch in range(3)}
    assert len(ids) == 3
    assert all(len(one) == 16 for one in ids)
