"""The owner face under a hostile parent: what may be released, to whom, once."""

import secrets
from collections.abc import Callable
from dataclasses import replace

import pytest

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import (
    Ask,
    Release,
    Serve,
    encode_statement,
    nsm_nonce,
    rsa_key_digest,
    statement_digest,
)
from anchorhold.attestation.channel.seal import HYBRID_SEED, HybridPrivateKey
from anchorhold.attestation.lease import verify_lease
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.types import BootId, ConfigDigest, StatementDigest
from anchorhold.enclave.keys.source import Refused, SourceUnavailable
from anchorhold.sim.owner_face import CONFIGURED, IMAGE, MODEL, OTHER_MODEL, PURPOSE, TTL_MS, Authority, Enclave
from anchorhold.sim.pki import SimulatedPki


def test_the_share_of_the_sealing_comes_back_with_a_lease_for_exactly_this_request(authority: Authority) -> None:
    authority.register()
    share, blob = authority.share()
    enclave = authority.enclave()
    source = enclave.source(blob, share)
    released = source.request(Ask.KEY, number=1, purposes=(Purpose(PURPOSE),))
    assert released.share is not None
    with released.share as view:
        assert bytes(view) == share
    lease = verify_lease(released.lease, source._lease_key)
    assert (lease.boot_id, lease.model, lease.request) == (enclave.context.boot_id, MODEL, 1)
    assert lease.keystore == authority.order("status")["keystore"] == "software, key beside it"
    assert lease.not_after == authority.clock.ms() + TTL_MS
    renewed = source.request(Ask.LEASE, number=2, purposes=(Purpose(PURPOSE),))
    assert renewed.share is None
    assert renewed.lease != released.lease
    assert [entry.type for entry in authority.journal()] == ["register", "share", "release", "release"]


def refused(authority: Authority, enclave: Enclave, code: str, *, number: int = 1, purpose: str = PURPOSE) -> str:
    """Ask for a lease, expect `code`, and give the journal's detail."""
    with pytest.raises(Refused) as refusal:
        enclave.source().request(Ask.LEASE, number=number, purposes=(Purpose(purpose),))
    assert refusal.value.code == code
    last = authority.journal()[-1]
    assert (last.type, last.body["code"]) == ("deny", code)
    return str(last.body["detail"])


@pytest.mark.parametrize("register", [0, 1, 2])
def test_one_changed_measurement_is_refused_and_the_journal_shows_both_sides(
    authority: Authority, register: int
) -> None:
    authority.register()
    detail = refused(authority, authority.enclave(IMAGE | {register: b"\xee" * 48}), "evidence")
    assert f"measurement {register}" in detail
    assert IMAGE[register].hex() in detail
    assert "ee" * 48 in detail


@pytest.mark.parametrize("extend", [None, b"\xcd" * 48])
def test_another_or_no_deployment_configuration_is_refused(authority: Authority, extend: bytes | None) -> None:
    authority.register()
    assert "measurement 16" in refused(authority, authority.enclave(extend=extend), "evidence")


def test_a_debug_enclave_is_refused(authority: Authority) -> None:
    authority.register()
    refused(authority, authority.enclave(dict.fromkeys(range(3), bytes(48)) | {4: b"\x04" * 48}), "evidence")


def test_a_document_under_another_root_is_refused(authority: Authority) -> None:
    authority.register()
    stranger = SimulatedPki.create(authority.clock.utc())
    refused(authority, authority.enclave(pki=stranger), "evidence")


def test_what_is_not_registered_or_not_allowed_is_refused(authority: Authority) -> None:
    refused(authority, authority.enclave(), "model")
    authority.register()
    refused(authority, authority.enclave(), "purpose", purpose="training")
    other = authority.enclave(model=OTHER_MODEL)
    refused(authority, other, "model")


def test_a_request_number_that_does_not_rise_is_refused(authority: Authority) -> None:
    authority.register()
    enclave = authority.enclave()
    enclave.source().request(Ask.LEASE, number=5, purposes=(Purpose(PURPOSE),))
    refused(authority, enclave, "replayed", number=5)
    refused(authority, enclave, "replayed", number=4)
    enclave.source().request(Ask.LEASE, number=6, purposes=(Purpose(PURPOSE),))


def test_a_boot_that_changes_its_genesis_is_refused(authority: Authority) -> None:
    authority.register()
    enclave = authority.enclave()
    enclave.source().request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))
    changed = replace(enclave, context=replace(enclave.context, genesis=StatementDigest(b"\x60" * 48)))
    refused(authority, changed, "boot", number=2)


@pytest.mark.parametrize(("model", "purpose_class"), [(OTHER_MODEL, "serve"), (MODEL, "evaluate")])
def test_a_blob_of_another_model_or_purpose_class_is_refused(
    authority: Authority, model: object, purpose_class: str
) -> None:
    authority.register()
    share, blob = authority.share(OTHER_MODEL if model == OTHER_MODEL else MODEL, purpose_class)
    with pytest.raises(Refused, match="blob"):
        authority.enclave().source(blob, share).request(Ask.KEY, number=1, purposes=(Purpose(PURPOSE),))


def challenge(authority: Authority) -> bytes:
    status, raw = authority.call("/v1/challenge", {})
    assert status == 200
    answer = canonical.decode(raw, "answer", limit=1000)
    assert isinstance(answer, dict)
    given = answer["challenge"]
    assert isinstance(given, bytes)
    return given


def statement(enclave: Enclave, fresh: bytes, **changes: object) -> Release:
    release = Release(
        boot_id=enclave.context.boot_id,
        genesis=enclave.context.genesis,
        source="owner",
        ask=Ask.LEASE,
        model=MODEL,
        purposes=(Purpose(PURPOSE),),
        request=1,
        challenge=fresh,
        release_key=HybridPrivateKey(secrets.token_bytes(HYBRID_SEED)).public,
        rsa_key=None,
    )
    return replace(release, **changes)  # type: ignore[arg-type]  # the test names the fields


def ask(authority: Authority, document: bytes, raw_statement: bytes, blob: bytes | None = None) -> tuple[int, object]:
    status, raw = authority.call("/v1/release", {"document": document, "statement": raw_statement, "blob": blob})
    answer = canonical.decode(raw, "answer", limit=10_000)
    assert isinstance(answer, dict)
    return status, answer.get("code")


def attest(enclave: Enclave, release: Release) -> bytes:
    return enclave.nsm.attest(user_data=statement_digest(release), nonce=nsm_nonce(Release, release.challenge))


def test_a_recorded_request_is_refused_the_second_time_and_after_its_minute(authority: Authority) -> None:
    authority.register()
    enclave = authority.enclave()
    release = statement(enclave, challenge(authority))
    document, raw = attest(enclave, release), encode_statement(release)
    assert ask(authority, document, raw) == (200, None)
    assert ask(authority, document, raw) == (403, "replayed")
    authority.clock.passed += 61
    assert ask(authority, document, raw) == (403, "challenge")


def test_one_challenge_grants_once_also_to_a_request_that_is_new_otherwise(authority: Authority) -> None:
    authority.register()
    enclave = authority.enclave()
    first = statement(enclave, challenge(authority))
    assert ask(authority, attest(enclave, first), encode_statement(first)) == (200, None)
    again = replace(first, request=2, release_key=HybridPrivateKey(secrets.token_bytes(HYBRID_SEED)).public)
    assert ask(authority, attest(enclave, again), encode_statement(again)) == (403, "replayed")
    other_boot = replace(first, boot_id=BootId(b"o" * 32))
    assert ask(authority, attest(enclave, other_boot), encode_statement(other_boot)) == (403, "replayed")


def test_a_challenge_lives_one_minute_and_is_this_authority_s_own(authority: Authority) -> None:
    authority.register()
    enclave = authority.enclave()
    fresh = challenge(authority)
    authority.clock.passed += 60
    for given in (fresh, secrets.token_bytes(32), b"", fresh[:-1] + bytes([fresh[-1] ^ 1])):
        release = statement(enclave, given)
        assert ask(authority, attest(enclave, release), encode_statement(release)) == (403, "challenge")


def test_relaying_the_challenge_to_the_public_attest_gains_nothing(authority: Authority) -> None:
    """The parent may ask any enclave for a `serve` document with any nonce: it is not a `release` document."""
    authority.register()
    enclave = authority.enclave()
    fresh = challenge(authority)
    serve = Serve(
        boot_id=enclave.context.boot_id,
        genesis=enclave.context.genesis,
        suite="suite",
        channel_key=HybridPrivateKey(secrets.token_bytes(HYBRID_SEED)).public,
        receipt_key=b"\x01" * 32,
        model=MODEL,
        configuration=ConfigDigest(CONFIGURED),
        epoch=1,
        not_after=authority.clock.ms(),
    )
    document = enclave.nsm.attest(user_data=statement_digest(serve), nonce=nsm_nonce(Serve, fresh))
    assert ask(authority, document, encode_statement(serve)) == (403, "statement")
    assert ask(authority, document, encode_statement(statement(enclave, fresh))) == (403, "evidence")


Change = Callable[[Enclave, Release], tuple[bytes, bytes]]


def _other_statement(enclave: Enclave, release: Release) -> tuple[bytes, bytes]:
    mine = replace(release, release_key=HybridPrivateKey(secrets.token_bytes(HYBRID_SEED)).public)
    return attest(enclave, release), encode_statement(mine)


def _other_boot(enclave: Enclave, release: Release) -> tuple[bytes, bytes]:
    return attest(enclave, release), encode_statement(replace(release, boot_id=BootId(bytes(32))))


def _bare_nonce(enclave: Enclave, release: Release) -> tuple[bytes, bytes]:
    document = enclave.nsm.attest(user_data=statement_digest(release), nonce=release.challenge)
    return document, encode_statement(release)


def _flipped_bit(enclave: Enclave, release: Release) -> tuple[bytes, bytes]:
    document = attest(enclave, release)
    return document[:-1] + bytes([document[-1] ^ 1]), encode_statement(release)


def _empty(_: Enclave, release: Release) -> tuple[bytes, bytes]:
    return b"", encode_statement(release)


@pytest.mark.parametrize("change", [_other_statement, _other_boot, _bare_nonce, _flipped_bit, _empty])
def test_evidence_that_does_not_vouch_for_exactly_this_statement_is_refused(
    authority: Authority, change: Change
) -> None:
    authority.register()
    enclave = authority.enclave()
    release = statement(enclave, challenge(authority))
    assert ask(authority, *change(enclave, release)) == (403, "evidence")


def test_a_statement_for_another_authority_is_refused(authority: Authority) -> None:
    authority.register()
    enclave = authority.enclave()
    release = statement(enclave, challenge(authority), source="kms")
    assert ask(authority, attest(enclave, release), encode_statement(release)) == (403, "source")


def test_an_rsa_key_in_place_of_the_hybrid_one_gets_no_share(authority: Authority) -> None:
    authority.register()
    _, blob = authority.share()
    enclave = authority.enclave()
    release = statement(enclave, challenge(authority), ask=Ask.KEY, release_key=None, rsa_key=rsa_key_digest(b"spki"))
    document = enclave.nsm.attest(
        user_data=statement_digest(release), nonce=nsm_nonce(Release, release.challenge), public_key=b"spki"
    )
    assert ask(authority, document, encode_statement(release), blob) == (403, "statement")


def test_a_lease_request_never_brings_a_share(authority: Authority) -> None:
    authority.register()
    _, blob = authority.share()
    enclave = authority.enclave()
    release = statement(enclave, challenge(authority))
    assert ask(authority, attest(enclave, release), encode_statement(release), blob) == (403, "blob")


def test_a_challenge_outlives_a_restart_and_is_used_once_all_the_same(authority: Authority) -> None:
    authority.register()
    enclave = authority.enclave()
    release = statement(enclave, challenge(authority))
    authority.restart()
    document = attest(enclave, release)
    assert ask(authority, document, encode_statement(release)) == (200, None)
    authority.restart()
    assert ask(authority, document, encode_statement(release)) == (403, "replayed")


def test_an_authority_that_is_down_is_unavailable_and_not_a_refusal(authority: Authority) -> None:
    authority.register()
    source = authority.enclave().source()
    authority.served.stop()
    with pytest.raises(SourceUnavailable):
        source.request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))


def test_strangers_cannot_fill_the_journal(authority: Authority) -> None:
    authority.register()
    for _ in range(70):
        assert ask(authority, b"", b"") == (403, "statement")
    denials = [entry for entry in authority.journal() if entry.type == "deny"]
    assert len(denials) == 60
    authority.clock.passed += 1
    ask(authority, b"", b"")
    assert authority.journal()[-1].body["left_out"] == 10
