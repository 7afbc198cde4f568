"""A batch says what single verification says, whatever came before: a cache saves work and decides nothing."""

import json
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.vectors.evidence import der
from tests.vectors.evidence.build import document
from tests.vectors.evidence.certificates import MODULE, START, Chain, chain, good_chain, shorter

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.batch import verify_batch
from anchorhold.attestation.certificates import CACHE_LIMIT, read_certificate
from anchorhold.attestation.chain import ChainCache, ChainInvalid, Expired, WrongRoot, verify_chain
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import Policy
from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.attestation.verify import OWN_WORD, Evidence, TimeEvidence, TimeSource, verify_at, verify_live

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "evidence"
INDEX: dict[str, Any] = json.loads((FOLDER / "index.json").read_bytes())
ROOT = Anchor("vectors", (FOLDER / INDEX["root"]).read_bytes())
_OWN = INDEX["policies"]["own"]
POLICY = Policy(
    frozenset(Platform(name) for name in _OWN["platforms"]),
    tuple({int(index): bytes.fromhex(value) for index, value in one.items()} for one in _OWN["sets"]),
    Milliseconds(_OWN["max_age_ms"]),
)
NOW = TimeEvidence(TimeSource.CALLER, START)
TIMES = (
    NOW,
    OWN_WORD,
    TimeEvidence(TimeSource.CALLER, START + timedelta(hours=3)),  # leaves have ended
    TimeEvidence(TimeSource.CALLER, START + timedelta(days=2)),  # and instances
    TimeEvidence(TimeSource.CALLER, START - timedelta(days=1)),
)


def _limited(leaf: str) -> bytes:
    """A leaf under a zonal CA that says, for OpenSSL alone to heed, that `MODULE.bad` is not its to name."""
    excluded = der.tlv(0xA1, der.sequence(der.tlv(0xA4, der.name(f"{MODULE}.bad"))))
    extra = (der.NAME_CONSTRAINTS, False, der.sequence(excluded))
    return document(made=chain(zonal={"extras": (extra,)}, leaf={"subject": f"{MODULE}.{leaf}"}))


def _forged() -> bytes:
    """The true path with a certificate in it that nobody signed: the root's name, a stranger's key."""
    good = good_chain()
    stranger = shorter(("root",), {"root": {"seed": "stranger"}}).certificate
    return document(made=Chain((good.cabundle[0], stranger, *good.cabundle[1:]), good.certificate, good.key))


@cache
def pool() -> tuple[bytes, ...]:
    """Every vector about a chain, a few others, and pairs of which one could pass in the other's shadow."""
    wanted = ("accept", "chain", "root", "signature", "registers", "trailing")
    vectors = [FOLDER / one["file"] for one in INDEX["vectors"] if one["name"].startswith(wanted)]
    other_leaf = document(made=chain(leaf={"seed": "another leaf"}))
    extra = (b"", b"\x84", other_leaf, _limited("good"), _limited("bad"), _forged())
    return (*(path.read_bytes() for path in vectors), *extra)


Outcome = Evidence | tuple[type[EvidenceError], str, str]


def outcome(one: Evidence | EvidenceError) -> Outcome:
    return one if isinstance(one, Evidence) else (type(one), one.code, str(one))


@cache
def alone(raw: bytes, time: TimeEvidence) -> Outcome:
    try:
        return verify_at(raw, POLICY, ROOT, time)
    except EvidenceError as error:
        return outcome(error)


@settings(max_examples=80)
@given(st.data(), st.sampled_from([1, 2, 3, 7, CACHE_LIMIT]))
def test_any_mix_in_any_order_comes_out_as_one_by_one(data: st.DataObject, limit: int) -> None:
    asked = data.draw(st.lists(st.tuples(st.sampled_from(pool()), st.sampled_from(TIMES)), max_size=12))
    kept = ChainCache(limit)
    for _ in range(2):  # the second time over what the first has left
        found = verify_batch([raw for raw, _ in asked], POLICY, ROOT, [time for _, time in asked], cache=kept)
        assert [outcome(one) for one in found] == [alone(raw, time) for raw, time in asked]
    assert len(kept) <= 2 * limit


def test_the_whole_pool_at_once_and_backwards_comes_out_as_one_by_one() -> None:
    kept = ChainCache()
    accepted = 0
    for raws in (pool(), pool()[::-1]):
        for time in TIMES:
            found = [outcome(one) for one in verify_batch(raws, POLICY, ROOT, time, cache=kept)]
            assert found == [alone(raw, time) for raw in raws]
            accepted += sum(isinstance(one, Evidence) for one in found)
    assert accepted > 20, "the pool holds good documents too"


def test_one_time_for_all_or_one_for_each() -> None:
    raw = document()
    assert verify_batch([raw, raw], POLICY, ROOT, NOW) == [verify_at(raw, POLICY, ROOT, NOW)] * 2
    assert verify_batch([], POLICY, ROOT, NOW) == []
    with pytest.raises(ValueError, match="shorter"):
        verify_batch([raw, raw], POLICY, ROOT, [NOW])


def walk(made: Chain, kept: ChainCache, at: datetime = START, anchor: Anchor = ROOT) -> None:
    verify_chain(made.certificate, made.cabundle, anchor, at, kept)


def settled(made: Chain, kept: ChainCache) -> int:
    return kept.vouched([read_certificate(one, "x") for one in (*made.cabundle, made.certificate)])


def test_what_held_is_not_computed_again() -> None:
    kept = ChainCache()
    first, second = good_chain(), chain(leaf={"seed": "second"})
    elsewhere = chain(zonal={"seed": "other zone"}, instance={"seed": "other"}, leaf={"seed": "third"})
    assert settled(first, kept) == 1
    walk(first, kept)
    assert [settled(one, kept) for one in (first, second, elsewhere)] == [5, 4, 2]


@pytest.mark.parametrize("level", ["regional", "zonal", "instance", "leaf"])
def test_nothing_of_a_path_that_failed_is_kept(level: str) -> None:
    kept = ChainCache()
    changes: dict[str, Any] = {level: {"signer": "stranger"}}
    forged = chain(**changes)
    with pytest.raises(ChainInvalid):
        walk(forged, kept)
    assert len(kept) == 0
    walk(good_chain(), kept)
    with pytest.raises(ChainInvalid, match="signature failure"):
        walk(forged, kept)


def test_every_rule_and_time_is_judged_anew() -> None:
    kept = ChainCache()
    good = good_chain()
    walk(good, kept)
    with pytest.raises(Expired, match="leaf"):
        walk(good, kept, at=START + timedelta(hours=3))
    with pytest.raises(WrongRoot):
        walk(good, kept, anchor=Anchor("other", chain(root={"seed": "other"}).cabundle[0]))
    # The instance's CA, well known by now, is no leaf, and the leaf no CA.
    as_leaf = Chain(good.cabundle[:-1], good.cabundle[-1], good.key)
    with pytest.raises(ChainInvalid, match="expected no CA"):
        walk(as_leaf, kept)
    short = shorter(("root", "leaf"), {})
    walk(short, kept)
    as_issuer = Chain((*short.cabundle, short.certificate), good.certificate, good.key)
    with pytest.raises(ChainInvalid, match="is no CA"):
        walk(as_issuer, kept)


def test_a_ca_with_words_about_those_below_it_vouches_for_one_path_only() -> None:
    kept = ChainCache()
    good, bad = _limited("good"), _limited("bad")
    found = verify_batch([good, bad, good], POLICY, ROOT, NOW, cache=kept)
    assert isinstance(found[0], Evidence)
    assert isinstance(found[1], ChainInvalid), "name constraints are OpenSSL's to judge"
    assert found[2] == found[0]


def test_the_least_recently_used_is_forgotten_first() -> None:
    kept = ChainCache(4)
    first = good_chain()
    walk(first, kept)
    for number in range(3):
        walk(chain(leaf={"seed": f"leaf {number}"}), kept)
    assert settled(first, kept) == 4, "its leaf is forgotten, the CAs in use are not"
    assert len(kept) == 8


def test_a_live_document_may_use_the_cache_too() -> None:
    kept = ChainCache()
    nonce = b"n" * 48
    for raw in (document(), document(made=chain(leaf={"seed": "second"}))):
        live = verify_live(raw, POLICY, ROOT, START, nonce, cache=kept)
        assert live == verify_live(raw, POLICY, ROOT, START, nonce)
    assert settled(good_chain(), kept) == 5
