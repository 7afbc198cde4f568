"""The scribe against a real store, and against a parent that cuts, repeats, rewinds and lies."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.transcript import tree
from anchorhold.attestation.transcript.append import AppendReply, AppendRequest
from anchorhold.attestation.transcript.batch import ReceiptLeaf, batch_root, decode_leaves
from anchorhold.attestation.transcript.bodies import Anomaly, Batch, Close, Death, Genesis, Heartbeat, LogLease
from anchorhold.attestation.transcript.checkpoint import Checkpoint, sign_checkpoint
from anchorhold.attestation.transcript.entry import parse_record
from anchorhold.enclave.serve import scribe
from anchorhold.enclave.serve.log_errors import BootEnded, LogBehind, LogContradiction, LogUnavailable
from anchorhold.enclave.serve.scribe import MAX_UNSENT
from anchorhold.log.files import cas_path

from .log_bench import BOOT, GENESIS, LOG_KEY, Bench

ODD = Anomaly("parent-timeout", "", "")
DEATH = Death("refused", "owner", 5, 6, 2_000, b"l" * 16)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "log").start()


def test_every_entry_is_in_the_log_when_write_returns(bench: Bench) -> None:
    included = bench.scribe.write(ODD)
    assert (included.seq, included.index, included.checkpoint.size) == (1, 1, 2)
    assert bench.bodies() == [GENESIS, ODD]


def test_nothing_is_written_before_the_genesis(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "log")
    with pytest.raises(ValueError, match="genesis is the first entry"):
        bench.scribe.write(ODD)
    assert bench.store.size == 0


def test_a_log_that_is_down_stops_the_boot_and_gets_the_same_bytes_later(bench: Bench) -> None:
    bench.link.down = True
    with pytest.raises(LogUnavailable):
        bench.scribe.write(ODD)
    bench.link.down = False
    second = Anomaly("second", "", "")
    assert bench.scribe.write(second).seq == 2
    sent = [AppendRequest.decode(raw).record for raw in bench.link.sent]
    assert sent[1] == sent[2], "the record that was signed is the one that is sent again"
    assert bench.bodies() == [GENESIS, ODD, second]


def test_a_lost_answer_does_not_make_a_second_record(bench: Bench) -> None:
    def lose(_reply: bytes) -> bytes:
        raise OSError("cut")

    bench.link.spoil = lose
    with pytest.raises(LogUnavailable):
        bench.scribe.write(ODD)
    bench.link.spoil = None
    bench.scribe.write(DEATH)
    assert bench.bodies() == [GENESIS, ODD, DEATH]


def _other_key(reply: AppendReply, bench: Bench) -> AppendReply:
    head = bench.store.vkey.open_checkpoint(reply.checkpoint)
    return replace(reply, checkpoint=sign_checkpoint(head, Ed25519PrivateKey.generate()))


def _other_origin(reply: AppendReply, bench: Bench) -> AppendReply:
    head = bench.store.vkey.open_checkpoint(reply.checkpoint)
    return replace(reply, checkpoint=sign_checkpoint(replace(head, origin="log.example/2"), LOG_KEY))


def _not_included(reply: AppendReply, bench: Bench) -> AppendReply:
    return replace(reply, index=0)


def _cut_proof(reply: AppendReply, bench: Bench) -> AppendReply:
    return replace(reply, proof=reply.proof[:-1])


def _no_consistency(reply: AppendReply, bench: Bench) -> AppendReply:
    return replace(reply, consistency=())


def _forked(reply: AppendReply, bench: Bench) -> AppendReply:
    """A log that signs another history with our record in it."""
    record = AppendRequest.decode(bench.link.sent[-1]).record
    leaves = [tree.leaf_hash(b"another history"), tree.leaf_hash(record)]
    head = Checkpoint("log.example/1", 2, tree.root_of(leaves))
    return AppendReply(1, sign_checkpoint(head, LOG_KEY), (leaves[0],), (leaves[1],))


def _rolled_back(reply: AppendReply, bench: Bench) -> AppendReply:
    record = AppendRequest.decode(bench.link.sent[-1]).record
    head = Checkpoint("log.example/1", 1, tree.leaf_hash(record))
    return AppendReply(0, sign_checkpoint(head, LOG_KEY), (), ())


@pytest.mark.parametrize(
    "lie", [_other_key, _other_origin, _not_included, _cut_proof, _no_consistency, _forked, _rolled_back]
)
def test_a_log_that_lies_is_a_contradiction_for_ever(
    bench: Bench, lie: Callable[[AppendReply, Bench], AppendReply]
) -> None:
    bench.link.spoil = lambda reply: lie(AppendReply.decode(reply), bench).encode()
    with pytest.raises(LogContradiction):
        bench.scribe.write(ODD)
    bench.link.spoil = None
    with pytest.raises(LogContradiction):
        bench.scribe.write(ODD)
    with pytest.raises(LogContradiction):
        bench.scribe.receipt(b"c" * 48, b"t" * 16)


def test_garbage_for_an_answer_is_a_contradiction(bench: Bench) -> None:
    bench.link.spoil = lambda reply: reply[:-1]
    with pytest.raises(LogContradiction):
        bench.scribe.write(ODD)


def test_a_checkpoint_of_another_log_is_refused_before_the_genesis(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "log")
    note = sign_checkpoint(Checkpoint("log.example/1", 0, tree.EMPTY_ROOT), Ed25519PrivateKey.generate())
    with pytest.raises(LogContradiction):
        bench.scribe.open_checkpoint(note)


def test_the_log_is_held_to_the_checkpoint_the_genesis_nonce_came_from(tmp_path: Path) -> None:
    """A roll-back across boots: the first append of this boot must extend what the last boot left."""
    note = Bench(tmp_path / "log").start().store.checkpoint
    bench = Bench(tmp_path / "other")
    bench.scribe.open_checkpoint(note)
    bench.link.spoil = lambda reply: _rolled_back(AppendReply.decode(reply), bench).encode()
    bench.link.rewritten_since = 0
    with pytest.raises(LogContradiction):
        bench.scribe.genesis(BOOT, GENESIS, ())


def test_receipts_are_logged_as_salted_commitments_in_order(bench: Bench) -> None:
    leaves = [ReceiptLeaf(bytes([n]) * 48, bytes([n]) * 16) for n in range(3)]
    for leaf in leaves:
        bench.scribe.receipt(leaf.commitment, leaf.tag)
    bench.scribe.flush()
    batch = bench.bodies()[-1]
    assert isinstance(batch, Batch)
    raw = (bench.state / cas_path(batch.leaves)).read_bytes()
    assert hashlib.sha256(raw).digest() == batch.leaves
    assert decode_leaves(raw) == tuple(leaves)
    assert (batch.count, batch.root) == (3, batch_root(leaves))


def test_a_batch_of_256_leaves_without_being_asked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scribe, "BATCH_INTERVAL_S", 3_600.0)  # it is their number, and no second that passed meanwhile
    for number in range(256):
        bench.scribe.receipt(number.to_bytes(48), number.to_bytes(16))
    bench.scribe.write(ODD)  # waits its turn behind the batch
    batch = bench.bodies()[1]
    assert isinstance(batch, Batch)
    assert batch.count == 256


def test_receipts_wait_for_a_log_that_is_down(bench: Bench) -> None:
    bench.link.down = True
    bench.scribe.receipt(b"c" * 48, b"t" * 16)
    with pytest.raises(LogUnavailable):
        bench.scribe.flush()
    bench.link.down = False
    bench.scribe.flush()
    assert [type(body) for body in bench.bodies()] == [Genesis, Batch]


def test_a_log_lease_counts_from_the_making_of_its_heartbeat(bench: Bench) -> None:
    made: list[Heartbeat] = []

    def heartbeat(size: int) -> Heartbeat:
        made.append(Heartbeat(size, {"requests": 0}, {"response": 7}, dumpable=False, core_limit=0))
        return made[0]

    def slow(reply: bytes) -> bytes:
        bench.now += 500
        return reply

    bench.link.spoil = slow
    grant = bench.scribe.renew(heartbeat, 60_000)
    assert (grant.made_at, grant.until_ms) == (1.0, 61_000)
    lease = bench.bodies()[-1]
    assert isinstance(lease, LogLease)
    assert (lease.index, lease.size, lease.until_ms) == (1, 2, 61_000)
    assert made[0].size == 1


def test_no_log_lease_without_the_log(bench: Bench) -> None:
    bench.link.down = True
    with pytest.raises(LogUnavailable):
        bench.scribe.renew(lambda size: Heartbeat(size, {}, {}, dumpable=False, core_limit=0), 60_000)


def test_a_death_is_offered_once_and_does_not_wait_for_ever(bench: Bench) -> None:
    bench.link.down = True
    assert bench.scribe.offer_death(DEATH, within_s=0.5) is None
    assert AppendRequest.decode(bench.link.sent[-1]).record


def test_a_death_is_offered_even_to_a_log_that_was_caught(bench: Bench) -> None:
    bench.link.spoil = lambda reply: reply[:-1]
    with pytest.raises(LogContradiction):
        bench.scribe.write(ODD)
    assert bench.scribe.offer_death(DEATH) is None
    assert bench.bodies()[-1] == DEATH


def test_time_in_the_transcript_never_goes_back(bench: Bench) -> None:
    bench.now = 5
    bench.scribe.write(ODD)
    raw = AppendRequest.decode(bench.link.sent[-1]).record
    assert parse_record(raw).unverified_entry.t == 1_000


def test_concurrent_asyncio_writers_keep_one_chain(bench: Bench) -> None:
    async def many() -> list[int]:
        wanted = [bench.scribe.awrite(Anomaly(f"n{number}", "", "")) for number in range(20)]
        return [included.seq for included in await asyncio.gather(*wanted)]

    assert asyncio.run(many()) == list(range(1, 21))
    assert [body.code for body in bench.bodies() if isinstance(body, Anomaly)] == [f"n{n}" for n in range(20)]


def test_nothing_follows_the_last_record(bench: Bench) -> None:
    bench.scribe.write(Close("shutdown", {}, {}, ()))
    with pytest.raises(BootEnded):
        bench.scribe.write(ODD)
    assert isinstance(bench.bodies()[-1], Close)


def _beat(size: int) -> Heartbeat:
    return Heartbeat(size, {}, {}, dumpable=False, core_limit=0)


def test_a_long_silence_of_the_log_does_not_end_the_scribe(bench: Bench) -> None:
    """One more try of a log lease leaves at most one more heartbeat behind, and a full queue empties itself."""
    bench.link.down = True
    for _ in range(MAX_UNSENT + 6):
        with pytest.raises(LogUnavailable):
            bench.scribe.renew(_beat, 60_000)
    bench.link.down = False
    bench.scribe.renew(_beat, 60_000)
    assert [type(body) for body in bench.bodies()] == [Genesis, Heartbeat, Heartbeat, LogLease]


def test_a_full_queue_takes_the_last_record_once_the_log_is_back(bench: Bench) -> None:
    bench.link.down = True
    for _ in range(MAX_UNSENT):
        with pytest.raises(LogUnavailable):
            bench.scribe.write(ODD)
    with pytest.raises(LogBehind):
        bench.scribe.write(Anomaly("not-signed", "", ""))
    bench.link.down = False
    assert bench.scribe.offer_death(DEATH, within_s=60.0) is not None  # a disk may take a while over so many
    assert bench.bodies() == [GENESIS, *[ODD] * MAX_UNSENT, DEATH]


def test_whoever_watches_hears_of_a_log_that_lies_from_a_batch_too(bench: Bench) -> None:
    told: list[str] = []
    bench.scribe.watch(told.append)
    bench.link.spoil = lambda reply: reply[:-1]
    bench.scribe.receipt(b"c" * 48, b"t" * 16)
    with pytest.raises(LogContradiction):
        bench.scribe.flush()
    assert told == ["log-contradiction"]
