"""The stack's release desk over several runs: what a client that remembers must never see go back."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.release.bundle import UnverifiedBundle
from anchorhold.attestation.release.quorum import SignerRole
from anchorhold.attestation.release.statement import Reason
from anchorhold.attestation.release.verify import AcceptedReleases, verify_releases
from anchorhold.attestation.transcript.append import AppendReply, AppendRequest
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import Milliseconds
from anchorhold.client.trust import milliseconds
from anchorhold.log.server import append
from anchorhold.log.store import Store, init_state
from anchorhold.publish.release import ReleaseSigner, revoke, write_bundle
from anchorhold.sim.processes import StackError
from anchorhold.sim.release_desk import LIFE_MS, PRODUCT, ReleaseDesk
from anchorhold.sim.stage import START

IMAGE = {index: bytes([0xA0 + index]) * 48 for index in (0, 1, 2, 4)}
CHANGED = {**IMAGE, 2: b"\x77" * 48}


class Log:
    """A real log in its own folder."""

    def __init__(self, folder: Path) -> None:
        key = Ed25519PrivateKey.generate()
        init_state(folder, "log.example/sim", key)
        self.vkey = Vkey.of("log.example/sim", key.public_key())
        self.store = Store(folder)

    def append(self, wanted: AppendRequest) -> AppendReply:
        return append(self.store, wanted)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "log")
    yield made
    made.store.close()


def run(state: Path, log: Log, image: dict[int, bytes] = IMAGE, at: datetime = START) -> UnverifiedBundle:
    """What one `sim up` does, with the keys and the list that the folder holds."""
    return ReleaseDesk(state).publish(image, log.vkey, log.append, milliseconds(at))


def accepted(state: Path, log: Log, at: datetime = START, floor: int = 0) -> AcceptedReleases:
    desk = ReleaseDesk(state)
    return verify_releases(
        desk.list.read_bytes(),
        desk.pin(None).quorum,
        product=PRODUCT,
        now=milliseconds(at),
        max_list_age=Milliseconds(1_000),
        version_floor=floor,
        log=log.vkey,
    )


def test_a_run_releases_its_image_signed_by_both_and_logged(tmp_path: Path, log: Log) -> None:
    run(tmp_path, log)
    releases = accepted(tmp_path, log)
    assert [one.name for one in releases.list_signers] == ["owner", "operator"]
    (statement,) = releases.accepted
    assert statement.holds(IMAGE)
    assert set(statement.measurements[0]) == {0, 1, 2}
    quorum = ReleaseDesk(tmp_path).pin(None).quorum
    assert (quorum.threshold, quorum.revocation_threshold) == (2, 1)


def test_versions_grow_and_signers_stay_while_the_statement_of_an_unchanged_image_is_kept(
    tmp_path: Path, log: Log
) -> None:
    first = run(tmp_path, log)
    later = START + timedelta(days=3)
    second = run(tmp_path, log, at=later)
    assert second.statements == first.statements
    assert log.store.size == 1
    assert accepted(tmp_path, log, at=later, floor=2).version == 2


def test_another_image_takes_the_place_of_the_one_before(tmp_path: Path, log: Log) -> None:
    run(tmp_path, log)
    run(tmp_path, log, CHANGED)
    releases = accepted(tmp_path, log)
    assert releases.version == 2
    (statement,) = releases.accepted
    assert statement.holds(CHANGED)
    assert not releases.refused


def test_a_statement_in_its_second_half_is_made_anew(tmp_path: Path, log: Log) -> None:
    first = run(tmp_path, log)
    later = START + timedelta(milliseconds=LIFE_MS // 2 + 1)
    second = run(tmp_path, log, at=later)
    assert second.statements != first.statements
    assert accepted(tmp_path, log, at=later).accepted[0].not_before == milliseconds(later)


def test_a_new_log_gets_the_release_too(tmp_path: Path, log: Log) -> None:
    run(tmp_path, log)
    other = Log(tmp_path / "other")
    run(tmp_path, other)
    assert other.store.size == 1
    assert accepted(tmp_path, other).version == 2
    other.store.close()


def test_a_revoked_image_is_not_released_again_by_the_next_run(tmp_path: Path, log: Log) -> None:
    bundle = run(tmp_path, log)
    desk = ReleaseDesk(tmp_path)
    digest = bundle.unverified_list.statements[0]
    ended = revoke(bundle, digest, desk.signers[1], reason=Reason.COMPROMISE, at=milliseconds(START))
    write_bundle(desk.list, ended)
    with pytest.raises(StackError, match="revoked"):
        run(tmp_path, log)
    assert desk.list.read_bytes() == ended.encode()
    # Nor after runs of another image, which goes on being released.
    for _ in range(2):
        run(tmp_path, log, CHANGED)
        releases = accepted(tmp_path, log)
        assert [one.holds(CHANGED) for one in releases.accepted] == [True]
        assert [code for _, code in releases.refused] == ["release-revoked"]
    with pytest.raises(StackError, match="revoked"):
        run(tmp_path, log)


def test_a_strangers_revocation_is_none(tmp_path: Path, log: Log) -> None:
    bundle = run(tmp_path, log)
    stranger = ReleaseSigner.generate("stranger", SignerRole.AUDITOR)
    digest = bundle.unverified_list.statements[0]
    write_bundle(
        ReleaseDesk(tmp_path).list, revoke(bundle, digest, stranger, reason=Reason.MISTAKE, at=milliseconds(START))
    )
    run(tmp_path, log)
    assert accepted(tmp_path, log).version == 2
