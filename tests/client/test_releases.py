"""A client whose trust file names whose releases count: what it accepts now, and what it never goes back on."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.client.desk import DAY, SIGNERS, Desk

from anchorhold.attestation.chain import WrongRoot
from anchorhold.attestation.policy import MeasurementMismatch, PolicyInvalid
from anchorhold.attestation.release.verify import ListRefused
from anchorhold.client.errors import (
    ClientError,
    NotReleased,
    ReleaseListMissing,
    ReleaseListRefused,
    ReleaseMemoryInvalid,
)
from anchorhold.client.releases import Releases
from anchorhold.client.sdk import AsyncClient
from anchorhold.client.seen import FileMemory, OwnMemory, Seen
from anchorhold.client.session import AttestAnswer, Session
from anchorhold.client.trust import Trust, encode_trust, load_trust, milliseconds
from anchorhold.publish.release import new_bundle, renew, write_bundle
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import LoopbackEnclave, ManualClock
from anchorhold.sim.pki import SimulatedPki

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
PKI = SimulatedPki.create(NOW)
OTHER_IMAGE = {index: bytes([index + 0x77]) * 48 for index in (0, 1, 2)}


class Stage:
    """An enclave that runs release 1.0, its signers, and a client that pinned them in a file."""

    def __init__(self, folder: Path) -> None:
        self.enclave = LoopbackEnclave(PKI, ManualClock(NOW))
        self.link = Link(self.enclave)
        self.desk = Desk(folder / "desk", NOW)
        self.current = self.desk.statement("1.0", self.enclave.measurements)
        self.other = self.desk.statement("0.9", OTHER_IMAGE)
        self.path = folder / "pinned" / "trust.json"
        self.path.parent.mkdir()
        self.path.write_bytes(encode_trust(self.desk.trust(loopback_trust(self.enclave))))

    @property
    def trust(self) -> Trust:
        return load_trust(self.path)

    @property
    def memory(self) -> FileMemory:
        pin = self.trust.releases
        assert pin is not None
        return FileMemory.beside(self.path, pin)

    def session(self, trust: Trust | None = None) -> Session:
        """Of a client that has just been started."""

        async def verify() -> Session:
            async with AsyncClient(
                trust or self.trust, gateway=self.link, now=lambda: self.enclave.clock.now
            ) as client:
                return await client.verify()

        return asyncio.run(verify())

    def refused(self, kind: type[ClientError] = ReleaseListRefused) -> str:
        """The code, and that nothing was asked of anybody where the list itself is the reason."""
        attests = self.link.attests
        with pytest.raises(kind) as refusal:
            self.session()
        assert type(refusal.value) is kind
        assert refusal.value.hint
        if kind is not NotReleased:
            assert self.link.attests == attests
        return refusal.value.code


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_an_accepted_release_opens_a_session_that_names_it(stage: Stage) -> None:
    stage.desk.release(stage.current, stage.other)
    assert stage.session().release == "1.0"


def test_an_image_that_no_release_names_is_refused_as_ever(stage: Stage) -> None:
    stage.desk.release(stage.other)
    with pytest.raises(MeasurementMismatch):
        stage.session()


# The list


def test_a_list_past_its_age_stops_the_client_before_it_asks_anybody(stage: Stage) -> None:
    stage.desk.release(stage.current)
    trust = stage.trust
    assert trust.releases is not None
    releases = Releases(trust, trust.releases)
    week = 7 * DAY
    assert releases.accepted(NOW + week).version == 1
    with pytest.raises(ReleaseListRefused) as refusal:
        releases.accepted(NOW + week + timedelta(milliseconds=1))
    assert refusal.value.code == "list-too-old"
    stage.enclave.clock.advance(8 * DAY.total_seconds())
    assert stage.refused() == "list-too-old"


def test_the_age_allowed_is_the_one_pinned(stage: Stage) -> None:
    stage.desk.release(stage.current, issued=-timedelta(seconds=61))
    assert stage.session().release == "1.0"
    pinned = json.loads(stage.path.read_bytes())
    pinned["releases"]["max_list_age_s"] = 60
    stage.path.write_text(json.dumps(pinned))
    assert stage.refused() == "list-too-old"


def test_a_list_that_too_few_signed_is_refused_and_leaves_no_trace(stage: Stage) -> None:
    bundle = new_bundle([stage.current], issued_at=milliseconds(NOW))
    for _ in range(8):
        bundle = renew(bundle, issued_at=milliseconds(NOW))
    stage.desk.hand_out(bundle, SIGNERS[:1])
    assert stage.refused() == "list-threshold"
    assert not stage.memory.path.exists()
    # Version 9 was nobody's word, so version 1 is not a step back.
    stage.desk.release(stage.current)
    assert stage.session().release == "1.0"


def test_a_release_that_is_in_no_log_is_refused(stage: Stage) -> None:
    stage.desk.hand_out(new_bundle([stage.current], issued_at=milliseconds(NOW)), logged=False)
    assert stage.refused() == "release-not-logged"


def test_no_list_is_not_yesterdays_list(stage: Stage) -> None:
    stage.desk.release(stage.current)
    assert stage.session().release == "1.0"
    stage.desk.list.unlink()
    assert stage.refused(ReleaseListMissing) == "release-list-missing"


def test_an_address_counts_from_the_trust_file_and_needs_one(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # What lies beside whoever runs the client is no list of theirs.
    monkeypatch.chdir(stage.path.parent)
    stage.desk.release(stage.current)
    stage.path.write_bytes(
        encode_trust(stage.desk.trust(loopback_trust(stage.enclave), source="../desk/releases.cbor"))
    )
    assert stage.session().release == "1.0"
    for trust in (
        replace(stage.trust, file=None),
        replace(stage.trust, releases=replace(stage.desk.pin(), source=None)),
    ):
        with pytest.raises(ReleaseListMissing):
            stage.session(trust)


# What was seen


@pytest.mark.parametrize("served", [1, 2])
def test_a_list_older_than_one_seen_is_refused_also_after_a_restart(stage: Stage, served: int) -> None:
    old = stage.desk.release(stage.current, version=served)
    stage.desk.release(stage.current, version=3)
    assert stage.session().release == "1.0"
    write_bundle(stage.desk.list, old)
    assert stage.refused() == "list-rolled-back"
    assert stage.memory.read().version == 3


def test_the_first_list_is_remembered_and_the_same_one_is_taken_again(stage: Stage) -> None:
    stage.desk.release(stage.current, version=2)
    assert stage.memory.read() == Seen()
    assert stage.session().release == "1.0"
    assert stage.memory.read().version == 2
    assert stage.session().release == "1.0"


def test_two_lists_of_one_version_are_a_fork(stage: Stage) -> None:
    stage.desk.release(stage.current)
    assert stage.session().release == "1.0"
    stage.desk.release(stage.current, stage.other)
    assert stage.refused() == "list-forked"


def test_a_newer_list_seen_by_another_client_meanwhile_counts(stage: Stage) -> None:
    trust = stage.trust
    assert trust.releases is not None
    slow, fast = OwnMemory(), stage.memory
    stage.desk.release(stage.current)
    old = Releases(trust, trust.releases, memory=slow).accepted(NOW)
    stage.desk.release(stage.current, version=2)
    Releases(trust, trust.releases, memory=fast).accepted(NOW)
    with pytest.raises(ListRefused) as refusal:
        fast.note(old, milliseconds(NOW))
    assert refusal.value.code == "list-rolled-back"


def test_a_trust_given_as_bytes_remembers_as_long_as_its_client_lives(stage: Stage) -> None:
    trust = replace(stage.trust, file=None)
    assert trust.releases is not None
    releases = Releases(trust, trust.releases)
    old = stage.desk.release(stage.current)
    stage.desk.release(stage.current, version=2)
    releases.accepted(NOW)
    write_bundle(stage.desk.list, old)
    with pytest.raises(ReleaseListRefused):
        releases.accepted(NOW)
    assert not stage.memory.path.exists()


def test_another_quorum_has_versions_of_its_own(stage: Stage) -> None:
    stage.desk.release(stage.current, version=5)
    assert stage.session().release == "1.0"
    pinned = json.loads(stage.path.read_bytes())
    pinned["releases"]["threshold"] = 1
    stage.path.write_text(json.dumps(pinned))
    stage.desk.release(stage.current)
    assert stage.session().release == "1.0"


def _another_version(raw: bytes) -> bytes:
    assert b'"list_version": 3' in raw
    return raw.replace(b'"list_version": 3', b'"list_version": 1')


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda raw: b"",
    "cut": lambda raw: raw[:-10],
    "another version": _another_version,
    "no list": lambda raw: b"[]",
    "null": lambda raw: b"null",
    "not text": lambda raw: b"\xff" + raw,
    "a field more": lambda raw: raw.replace(b'"version"', b'"more": 1, "version"', 1),
    "too large": lambda raw: raw + b" " * 300_000,
}


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
def test_a_memory_that_was_touched_is_refused_and_not_begun_anew(
    stage: Stage, spoilt: Callable[[bytes], bytes]
) -> None:
    stage.desk.release(stage.current, version=3)
    assert stage.session().release == "1.0"
    raw = spoilt(stage.memory.path.read_bytes())
    stage.memory.path.write_bytes(raw)
    for _ in range(2):
        assert stage.refused(ReleaseMemoryInvalid) == "release-memory"
    assert stage.memory.path.read_bytes() == raw


def test_the_memory_of_another_quorum_in_its_place_is_refused(stage: Stage, tmp_path: Path) -> None:
    stage.desk.release(stage.current)
    assert stage.session().release == "1.0"
    other = FileMemory(stage.memory.path, replace(stage.desk.pin(), product="another"))
    with pytest.raises(ReleaseMemoryInvalid, match="another quorum"):
        other.read()


def test_a_memory_that_cannot_be_kept_is_no_session(stage: Stage, tmp_path: Path) -> None:
    stage.desk.release(stage.current)
    with pytest.raises(ReleaseMemoryInvalid):
        stage.session(replace(stage.trust, file=tmp_path / "gone" / "trust.json"))


@given(raw=st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
def test_any_bytes_in_its_place_are_refused(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.seen"
    path.write_bytes(raw)
    with pytest.raises(ReleaseMemoryInvalid):
        FileMemory(path, Desk.pin_of_all()).read()


# Revocation and time


def test_a_revoked_release_is_refused_at_the_next_session_and_the_code_says_so(stage: Stage) -> None:
    bundle = stage.desk.release(stage.current, stage.other)
    assert stage.session().release == "1.0"
    stage.desk.revoke(bundle, stage.current)
    assert stage.refused(NotReleased) == "release-revoked"


def test_a_running_client_hears_of_it_too(stage: Stage) -> None:
    bundle = stage.desk.release(stage.current, stage.other)

    async def verify_twice() -> None:
        async with AsyncClient(stage.trust, gateway=stage.link, now=lambda: NOW) as client:
            assert (await client.verify()).release == "1.0"
            stage.desk.revoke(bundle, stage.current)
            await client.verify()

    with pytest.raises(NotReleased):
        asyncio.run(verify_twice())


def test_a_list_of_nothing_but_revoked_releases_says_so_too(stage: Stage) -> None:
    stage.desk.revoke(stage.desk.release(stage.current, version=4), stage.current)
    assert stage.refused() == "release-revoked"
    # It was verified all the same: an older list is a step back.
    assert stage.memory.read().version == 4
    stage.desk.release(stage.other, stage.current, version=3)
    assert stage.refused() == "list-rolled-back"


@pytest.mark.parametrize("others", [True, False], ids=["one of two", "the only one"])
def test_a_revocation_once_seen_cannot_be_left_out_again(stage: Stage, others: bool) -> None:
    statements = (stage.current, stage.other) if others else (stage.current,)
    bundle = stage.desk.release(*statements)
    stage.desk.revoke(bundle, stage.current)
    assert stage.refused(NotReleased if others else ReleaseListRefused) == "release-revoked"
    # The same list, as it was signed, without the file's revocation.
    write_bundle(stage.desk.list, bundle)
    assert stage.refused() == "list-unrevokes"
    # Nor does a newer list take it back, signed by two as it is.
    stage.desk.release(*statements, version=7)
    assert stage.refused() == "list-unrevokes"


@pytest.mark.parametrize(
    ("begin", "life", "code"),
    [(DAY, 90 * DAY, "release-not-yet"), (-2 * DAY, DAY, "release-expired")],
    ids=["not yet", "expired"],
)
def test_a_release_outside_its_time_is_refused_by_name(
    stage: Stage, begin: timedelta, life: timedelta, code: str
) -> None:
    current = stage.desk.statement("1.0", stage.enclave.measurements, begin=begin, life=life)
    # Signed while it was still in force.
    stage.desk.release(current, stage.other, issued=-3 * DAY)
    assert stage.refused(NotReleased) == code


def test_a_document_that_only_claims_a_revoked_release_is_not_taken_for_it(stage: Stage) -> None:
    """The name of a release is said of genuine enclaves alone."""
    elsewhere = LoopbackEnclave(SimulatedPki.create(NOW), stage.enclave.clock, stage.enclave.configuration)

    class OwnRoot(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            said = elsewhere.attest(nonce)
            return AttestAnswer(said.document, said.statement, said.owner_lease, said.kms_lease, said.configuration)

    stage.link = OwnRoot(stage.enclave)
    stage.desk.revoke(stage.desk.release(stage.current, stage.other), stage.current)
    with pytest.raises(WrongRoot):
        stage.session()


@pytest.mark.parametrize("stale", ["nonce", "configuration"])
def test_nor_is_one_that_would_not_have_been_taken_anyway(stage: Stage, stale: str) -> None:
    enclave = stage.enclave
    assert enclave.configuration is not None
    if stale == "configuration":
        enclave = LoopbackEnclave(PKI, enclave.clock, replace(enclave.configuration, alias="another"))

    class Another(Link):
        def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
            said = enclave.attest(b"n" * 32 if stale == "nonce" else nonce)
            return replace(answer, document=said.document)

    stage.link = Another(stage.enclave)
    stage.desk.revoke(stage.desk.release(stage.current, stage.other), stage.current)
    with pytest.raises(MeasurementMismatch):
        stage.session()


def test_releases_never_make_up_for_the_configuration(stage: Stage) -> None:
    """The image is accepted, the deployment is another: register 16 follows from the C pinned, not from the list."""
    stage.desk.release(stage.current)
    assert stage.enclave.configuration is not None
    changed = LoopbackEnclave(PKI, stage.enclave.clock, replace(stage.enclave.configuration, alias="another"))
    stage.link = Link(changed)
    with pytest.raises(MeasurementMismatch) as refusal:
        stage.session()
    assert refusal.value.index == 16


def test_a_trust_without_its_verified_list_accepts_nothing(stage: Stage) -> None:
    with pytest.raises(PolicyInvalid):
        stage.trust.policy_of(None)
    stage.desk.release(stage.current)
    trust = stage.trust
    assert trust.releases is not None
    accepted = Releases(trust, trust.releases).accepted(NOW)
    assert trust.policy_of(accepted).required == {0, 1, 2, 16}
    with pytest.raises(PolicyInvalid):
        replace(trust, releases=replace(trust.releases, product="another")).policy_of(accepted)
    with pytest.raises(PolicyInvalid):
        _ = stage.trust.policy
