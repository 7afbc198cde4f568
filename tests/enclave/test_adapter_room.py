"""The room where tenants' adapters are: opened once, kept under their own leases, wiped when those end."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.sealed.names import ADAPTER_FILES
from anchorhold.attestation.transcript.bodies import Adapter, AdapterEnd, KeyRelease, KeyRequest
from anchorhold.attestation.types import ModelDigest
from anchorhold.enclave import adapters as module
from anchorhold.enclave.keys import keeper
from anchorhold.enclave.keys.lease import Event, LeaseEnded
from anchorhold.enclave.keys.source import Refused, SourceUnavailable
from anchorhold.enclave.model.engine import ModelRefused
from anchorhold.enclave.serve.log_errors import LogUnavailable
from anchorhold.enclave.serve.service import AdapterRefused
from anchorhold.sim.loopback import MODEL

from .adapter_room import RENEWAL_S, RETRY_S, TTL_S, Room, Sealed, plain_adapter, room, run, sealed_adapters, until

OPENED = ["adapter", "key-request", "key-release", "lease"]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    return sealed_adapters(tmp_path_factory.mktemp("sealed"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_adapter(tmp_path_factory.mktemp("plain") / "adapter")


@pytest.fixture(scope="module")
def three(sealed: Sealed, plain: Path) -> list[ModelDigest]:
    return [sealed.make(plain, version) for version in ("1", "2", "3")]


@pytest.fixture
def made(sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    with room(sealed, tmp_path, monkeypatch) as one:
        yield one


def refused(made: Room, adapter: ModelDigest) -> Code:
    with pytest.raises(AdapterRefused) as refusal:
        run(lambda: made.adapters.lend(adapter))
    return refusal.value.code


def test_the_first_request_opens_it_and_the_next_ones_find_it_open(made: Room, three: list[ModelDigest]) -> None:
    async def use() -> None:
        first, second = await asyncio.gather(made.adapters.lend(three[0]), made.adapters.lend(three[0]))
        first.release()
        second.release()
        first.gate.check()

    run(use)
    run(use)
    assert made.engine.loads == [three[0]]
    assert set(made.engine.loaded[three[0]]) == ADAPTER_FILES
    assert made.types() == OPENED
    opened, asked, released = made.bodies()[:3]
    assert isinstance(opened, Adapter)
    assert (opened.adapter, opened.model, opened.keys) == (three[0], MODEL, ("tenant-key",))
    assert isinstance(asked, KeyRequest)
    assert isinstance(released, KeyRelease)
    assert asked.adapter == released.adapter == three[0]
    assert asked.model == MODEL


def test_its_files_are_the_plaintext_and_are_zeroed_at_the_end(
    made: Room, three: list[ModelDigest], plain: Path
) -> None:
    run(lambda: made.adapters.lend(three[0]))
    files = dict(made.engine.loaded[three[0]])
    assert {name: bytes(view) for name, view in files.items()} == {
        name: (plain / name).read_bytes() for name in ADAPTER_FILES
    }
    made.adapters.close()
    assert not any(any(bytes(view)) for view in files.values())
    assert made.engine.loaded == {}


def test_an_end_of_its_lease_wipes_it_and_the_boot_goes_on(made: Room, three: list[ModelDigest]) -> None:
    lent = run(lambda: made.adapters.lend(three[0]))
    files = dict(made.engine.loaded[three[0]])
    made.answer = _refuse
    entry = made.adapters._entries[three[0]]
    entry.gate.refused("owner", entry.gate.ask("owner"), "revoked")
    with pytest.raises(LeaseEnded):
        lent.gate.admit()
    lent.gate.check()  # a drain: what is under way may use what is left of the lease
    entry.gate.close()
    until(entry.wiped.is_set)
    assert not any(any(bytes(view)) for view in files.values())
    assert three[0] in made.engine.dropped
    assert made.types() == [*OPENED, "adapter-end"]
    end = made.bodies()[-1]
    assert isinstance(end, AdapterEnd)
    assert (end.adapter, end.reason, end.source) == (three[0], Event.REFUSED.value, "owner")
    made.main.require()


def test_a_lease_that_is_not_renewed_ends_it(made: Room, three: list[ModelDigest]) -> None:
    lent = run(lambda: made.adapters.lend(three[0]))
    made.answer = _vanish
    gate = made.adapters._entries[three[0]].gate
    for wait in (RENEWAL_S, RETRY_S):
        made.clock.now += wait
        asked = len(made.asked[three[0]])
        until(lambda before=asked: len(made.asked[three[0]]) > before and gate.due("owner") is not None)  # type: ignore[misc]  # bound as it is made
    lent.gate.check()
    made.clock.now += TTL_S
    until(lambda: three[0] not in made.engine.loaded)
    with pytest.raises(LeaseEnded):
        lent.gate.check()
    until(lambda: "adapter-end" in made.types())
    assert [ask for ask, _ in made.asked[three[0]]].count(Ask.LEASE) > 1, "it was asked again before the end"
    made.main.require()


def test_leases_are_renewed_while_it_is_open(made: Room, three: list[ModelDigest]) -> None:
    lent = run(lambda: made.adapters.lend(three[0]))
    for leases in range(2, 6):
        made.clock.now += RENEWAL_S
        until(lambda wanted=leases: made.types().count("lease") == wanted)  # type: ignore[misc]  # bound as it is made
    assert 4 * RENEWAL_S > TTL_S
    lent.gate.check()


def test_what_nobody_uses_makes_room_and_numbers_go_on_when_it_comes_again(
    made: Room, three: list[ModelDigest]
) -> None:
    async def use(adapter: ModelDigest) -> None:
        (await made.adapters.lend(adapter)).release()
        made.clock.now += 0.01

    for adapter in three:
        run(lambda one=adapter: use(one))  # type: ignore[misc]  # bound as it is made
    assert three[0] not in made.engine.loaded
    run(lambda: use(three[0]))
    assert set(made.engine.loaded) == {three[2], three[0]}
    assert [number for _, number in made.asked[three[0]]] == [1, 2]
    ends = [body for body in made.bodies() if isinstance(body, AdapterEnd)]
    assert [(one.adapter, one.reason) for one in ends] == [(three[0], "idle"), (three[1], "idle")]
    assert made.types()[:8] == [*OPENED, *OPENED]


def test_where_all_are_in_use_another_is_told_busy(made: Room, three: list[ModelDigest]) -> None:
    async def use() -> None:
        first, second = [await made.adapters.lend(one) for one in three[:2]]
        with pytest.raises(AdapterRefused) as refusal:
            await made.adapters.lend(three[2])
        assert refusal.value.code is Code.BUSY
        first.release()
        first.release()  # twice is once
        await made.adapters.lend(three[2])
        second.release()

    run(use)
    assert set(made.engine.loaded) == {three[1], three[2]}


def test_an_adapter_of_another_base_is_refused_before_any_key_is_asked_for(
    made: Room, sealed: Sealed, plain: Path
) -> None:
    other = sealed.make(plain, "other-base", ModelDigest(bytes([7]) * 48))
    assert refused(made, other) is Code.ADAPTER
    assert other not in made.asked
    assert made.types() == []


@pytest.mark.parametrize("file", ["signed/manifest", "signature"])
def test_what_the_signers_did_not_sign_is_refused_before_any_key_is_asked_for(
    made: Room, sealed: Sealed, plain: Path, file: str
) -> None:
    adapter = sealed.make(plain, f"spoilt-{file[-5:]}")
    path = sealed.folder / adapter.hex() / file
    raw = bytearray(path.read_bytes())
    raw[-40] ^= 1
    path.write_bytes(raw)
    assert refused(made, adapter) is Code.ADAPTER
    assert made.asked == {}
    assert made.types() == []


def test_one_adapter_under_the_name_of_another_is_refused(made: Room, sealed: Sealed, three: list[ModelDigest]) -> None:
    wanted = ModelDigest(bytes([9]) * 48)
    (sealed.folder / wanted.hex()).symlink_to(sealed.folder / three[0].hex())
    assert refused(made, wanted) is Code.ADAPTER
    assert made.asked == {}


def test_a_spoilt_body_is_refused_after_the_key_and_nothing_of_it_stays(
    made: Room, sealed: Sealed, plain: Path
) -> None:
    adapter = sealed.make(plain, "spoilt-body")
    path = sealed.folder / adapter.hex() / "adapter_model.safetensors.sealed"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert refused(made, adapter) is Code.ADAPTER
    assert made.engine.loads == []
    until(lambda: "adapter-end" in made.types())
    end = made.bodies()[-1]
    assert isinstance(end, AdapterEnd)
    assert end.reason == "not-opened"
    until(lambda: made.adapters._entries == {})


def test_a_refusal_is_remembered_for_a_while_and_an_unreachable_source_for_less(
    made: Room, three: list[ModelDigest]
) -> None:
    made.answer = _vanish
    assert refused(made, three[0]) is Code.BUSY
    until(lambda: made.adapters._entries == {})
    made.answer = _refuse
    assert refused(made, three[0]) is Code.BUSY
    assert len(made.asked[three[0]]) == 1, "not asked again at once"
    made.clock.now += module.AWAY_S
    assert refused(made, three[0]) is Code.ADAPTER
    until(lambda: made.adapters._entries == {})
    assert [number for _, number in made.asked[three[0]]] == [1, 2]
    assert refused(made, three[0]) is Code.ADAPTER
    assert len(made.asked[three[0]]) == 2, "not asked again so soon"
    made.answer = lambda _ask: None
    made.clock.now += module.REFUSED_S
    run(lambda: made.adapters.lend(three[0]))
    assert made.engine.loads == [three[0]]


def test_what_the_engine_does_not_take_is_refused_and_wiped(made: Room, three: list[ModelDigest]) -> None:
    seen: list[bool] = []

    def refuse() -> None:
        seen.append(True)
        raise ModelRefused("another shape")

    made.engine.during = refuse
    assert refused(made, three[0]) is Code.ADAPTER
    assert seen == [True]
    until(lambda: made.types()[-1] == "adapter-end")


def test_an_end_that_comes_inside_a_load_leaves_nothing_loaded(made: Room, three: list[ModelDigest]) -> None:
    def end() -> None:
        made.adapters._entries[three[0]].gate.close()

    made.engine.during = end
    assert refused(made, three[0]) is Code.ADAPTER
    until(lambda: made.adapters._entries == {})
    assert made.engine.loaded == {}


def test_the_end_of_the_boot_ends_every_adapter_and_says_no_more(made: Room, three: list[ModelDigest]) -> None:
    lent = run(lambda: made.adapters.lend(three[0]))
    made.main.close()
    made.adapters.close()
    with pytest.raises(LeaseEnded):
        lent.gate.check()
    assert made.types() == OPENED, "the boot's own last record says it"
    assert refused(made, three[1]) is Code.LEASE_ENDED


def test_a_parent_that_holds_an_opening_after_its_lease_ends_the_boot(
    made: Room, three: list[ModelDigest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WIPING_S", 0.2)
    hold = made.parent.hold = threading.Event()

    async def use() -> None:
        opening = asyncio.ensure_future(made.adapters.lend(three[0]))
        await asyncio.to_thread(made.parent.held.wait)
        made.adapters._entries[three[0]].gate.close()
        cause = await asyncio.to_thread(made.main.wait_end, 20.0)
        assert cause is not None
        assert (cause.event, cause.code) == (Event.FAULT, "adapter-held")
        hold.set()
        with pytest.raises(AdapterRefused):
            await opening

    run(use)


def test_a_client_that_leaves_while_it_opens_leaves_it_open_for_the_next(made: Room, three: list[ModelDigest]) -> None:
    hold = made.parent.hold = threading.Event()

    async def use() -> None:
        leaving = asyncio.ensure_future(made.adapters.lend(three[0]))
        await asyncio.to_thread(made.parent.held.wait)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert made.adapters._entries[three[0]].users == 0
        hold.set()
        (await made.adapters.lend(three[0])).release()

    run(use)
    assert made.engine.loads == [three[0]]


def test_an_answer_that_comes_after_the_end_is_in_no_entry_behind_it(made: Room, three: list[ModelDigest]) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(ask: Ask) -> None:
        if ask is Ask.LEASE:
            asked.set()
            go_on.wait()

    made.answer = slow
    run(lambda: made.adapters.lend(three[0]))
    made.clock.now += RENEWAL_S
    assert asked.wait(20)
    made.clock.now += TTL_S
    until(lambda: made.types()[-1:] == ["adapter-end"])
    until(lambda: three[0] not in made.adapters._entries)
    go_on.set()
    time.sleep(0.2)
    assert made.types() == [*OPENED, "key-request", "adapter-end"]


def test_an_answer_that_comes_as_it_ends_is_in_an_entry_before_the_last(
    made: Room, three: list[ModelDigest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "JOIN_S", 20.0)  # it comes soon, however slow this thread is
    asked, go_on = threading.Event(), threading.Event()

    def slow(ask: Ask) -> None:
        if ask is Ask.LEASE:
            asked.set()
            go_on.wait()

    made.answer = slow
    run(lambda: made.adapters.lend(three[0]))
    made.clock.now += RENEWAL_S
    assert asked.wait(20)
    made.adapters._entries[three[0]].gate.close()
    until(lambda: three[0] not in made.engine.loaded)
    go_on.set()
    until(lambda: made.types()[-1:] == ["adapter-end"])
    assert made.types() == [*OPENED, "key-request", "key-release", "lease", "adapter-end"]


def test_entries_that_the_log_does_not_take_keep_it_shut(
    made: Room, three: list[ModelDigest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_seconds: float) -> None:
        raise LogUnavailable("away")

    monkeypatch.setattr(made.recorder, "barrier", away)
    assert refused(made, three[0]) is Code.BUSY
    until(lambda: made.adapters._entries == {})
    assert made.engine.loaded == {}


def test_more_than_the_room_can_remember_is_busy(
    made: Room, three: list[ModelDigest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN", 1)
    made.adapters._numbers[three[1]] = {"owner": 3}
    assert refused(made, three[0]) is Code.BUSY
    run(lambda: made.adapters.lend(three[1]))
    assert made.asked[three[1]] == [(Ask.KEY, 4)]


def _refuse(_ask: Ask) -> None:
    raise Refused("owner", "revoked", "no")


def _vanish(_ask: Ask) -> None:
    raise SourceUnavailable("owner", "unreachable", "nobody there")
