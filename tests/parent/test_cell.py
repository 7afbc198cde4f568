"""Several enclaves of one parent: who gets a request, who gets it next, and who never does."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.parent.enclaves import (
    ASKED,
    INFER,
    A,
    B,
    C,
    Enclave,
    Parent,
    Run,
    begins_and_cuts,
    cuts,
    hangs,
    hints,
    says,
    send,
    with_parent,
)

from anchorhold.parent.gateway import KEY_IDS_METADATA, BadTargets, targets_of
from anchorhold.parent.request import Request
from anchorhold.v1 import gateway_pb2 as pb
from anchorhold.v1.gateway_pb2_grpc import GatewayStub
from anchorhold.wire.messages import pack_fields


@pytest.fixture
def pair() -> Iterator[list[Enclave]]:
    """One with key A, one with key B, both honest."""
    with tempfile.TemporaryDirectory(prefix="ah") as folder:
        yield [Enclave(Path(folder) / "w", [A], says), Enclave(Path(folder) / "w2", [B], says)]


@pytest.mark.parametrize(("target", "place"), [(A, 0), (B, 1)])
def test_a_request_goes_to_the_enclave_that_has_its_key(
    pair: list[Enclave], run: Run, target: bytes, place: int
) -> None:
    answer = with_parent(run, pair, lambda parent: parent.ask(target))
    assert answer == [pair[place].window.name.encode()]
    assert [len(one.got) for one in pair] == [1 - place, place]
    assert pair[place].got == [ASKED]


def test_a_request_that_names_nobody_goes_to_the_default(pair: list[Enclave], run: Run) -> None:
    assert with_parent(run, pair, lambda parent: parent.ask()) == [b"w"]


def test_a_request_to_a_key_that_nobody_has_reaches_nobody(pair: list[Enclave], run: Run) -> None:
    assert with_parent(run, pair, lambda parent: parent.ask(C)) == "unknown-key"
    assert [one.got for one in pair] == [[], []]


def test_a_key_of_the_next_epoch_is_learned_when_it_is_asked_for(pair: list[Enclave], run: Run) -> None:
    async def use(parent: Parent) -> Any:
        first = await parent.ask(B)
        pair[1].keys.append(C)
        return [first, await parent.ask(C)]

    assert with_parent(run, pair, use) == [[b"w2"], [b"w2"]]


def test_keys_that_are_known_are_not_asked_for_again(pair: list[Enclave], run: Run) -> None:
    async def use(parent: Parent) -> int:
        for _ in range(5):
            await parent.ask(A)
        return parent.health.snapshot()["out.status"]

    counted = with_parent(run, pair, use)
    assert [one.statuses for one in pair] == [1, 1]
    assert counted == 2 * len(pack_fields({"key_ids": A, "phase": b"SERVING"})), "and what they said is counted"


GIVES_UP = {"cut": cuts, "its key is gone": hints("unknown-key"), "unavailable": hints("unavailable")}


@pytest.mark.parametrize("how", GIVES_UP)
def test_the_other_chosen_enclave_gets_the_same_frames(pair: list[Enclave], run: Run, how: str) -> None:
    pair[0].answer = GIVES_UP[how]

    async def use(parent: Parent) -> Any:
        return await parent.ask(A, B), parent.said

    answer, said = with_parent(run, pair, use)
    assert answer == [b"w2"]
    assert [one.got for one in pair] == [[ASKED], [ASKED]]
    assert said == ['{"event": "failed-over"}\n']


def test_an_enclave_that_is_gone_is_failed_over(pair: list[Enclave], run: Run) -> None:
    async def use(parent: Parent) -> Any:
        first = await parent.ask(A, B)
        pair[0].stop()
        return [first, await parent.ask(A, B), await parent.ask(A, B)]

    assert with_parent(run, pair, use) == [[b"w"], [b"w2"], [b"w2"]]


def test_an_enclave_that_hangs_is_failed_over(pair: list[Enclave], run: Run) -> None:
    pair[0].answer, pair[0].answer_s = hangs, 0.2
    assert with_parent(run, pair, lambda parent: parent.ask(A, B)) == [b"w2"]


@pytest.mark.parametrize("how", GIVES_UP)
def test_nobody_outside_the_targets_gets_the_request(pair: list[Enclave], run: Run, how: str) -> None:
    pair[0].answer = GIVES_UP[how]
    answer = with_parent(run, pair, lambda parent: parent.ask(A))
    assert answer == {"cut": "window", "its key is gone": "unknown-key", "unavailable": "unavailable"}[how]
    assert pair[1].got == []


def test_once_an_answer_has_begun_there_is_no_other(pair: list[Enclave], run: Run) -> None:
    pair[0].answer = begins_and_cuts
    assert with_parent(run, pair, lambda parent: parent.ask(A, B)) == "begun, then window"
    assert pair[1].got == []


@pytest.mark.parametrize("code", ["malformed", "truncated", "timeout"])
def test_what_is_wrong_with_the_request_is_said_by_the_first(pair: list[Enclave], run: Run, code: str) -> None:
    pair[0].answer = hints(code)
    assert with_parent(run, pair, lambda parent: parent.ask(A, B)) == code
    assert pair[1].got == []


def test_where_all_of_them_give_up_the_last_word_counts(pair: list[Enclave], run: Run) -> None:
    pair[0].answer, pair[1].answer = cuts, hints("draining")
    assert with_parent(run, pair, lambda parent: parent.ask(A, B)) == "draining"


def test_where_all_of_them_are_gone_nobody_answers(pair: list[Enclave], run: Run) -> None:
    async def use(parent: Parent) -> Any:
        for one in pair:
            one.stop()
        return await parent.ask(A, B)

    assert with_parent(run, pair, use) == "window"


def test_a_request_that_is_still_on_its_way_is_given_over_whole(pair: list[Enclave], run: Run) -> None:
    pair[0].answer, pair[0].whole = cuts, False

    async def use(parent: Parent) -> Any:
        async def slowly() -> AsyncIterator[bytes]:
            yield ASKED[0]
            while not pair[1].got:  # noqa: ASYNC110 - the other's accept loop fills it
                await asyncio.sleep(0.01)
            for body in ASKED[1:]:
                yield body

        return await parent.ask(A, B, frames=slowly())

    assert with_parent(run, pair, use) == [b"w2"]
    assert [one.got for one in pair] == [[ASKED[:1]], [ASKED]]


def test_a_hint_arrives_also_where_the_client_is_still_sending(pair: list[Enclave], run: Run) -> None:
    pair[0].answer, pair[0].whole = hints("unknown-key"), False

    async def use(parent: Parent) -> Any:
        return {str(await parent.ask(A, frames=send([bytes(16_384)] * 24))) for _ in range(10)}

    assert with_parent(run, pair[:1], use) == {"unknown-key"}


def test_an_enclave_that_is_found_gone_has_no_keys_any_more(pair: list[Enclave], run: Run) -> None:
    async def use(parent: Parent) -> Any:
        await parent.ask(A)
        pair[0].stop()
        await parent.ask(C)
        return [one.relay.key_ids for one in parent.cell.members]

    assert with_parent(run, pair, use) == [frozenset(), frozenset({B})]


def test_a_request_too_long_to_keep_is_relayed_once(pair: list[Enclave], run: Run) -> None:
    pieces = [bytes(200_000)] * 3

    async def use(parent: Parent) -> Any:
        honest = await parent.ask(A, B, frames=send(pieces))
        pair[0].answer = cuts
        return [honest, await parent.ask(A, B, frames=send(pieces))]

    assert with_parent(run, pair, use) == [[b"w"], "window"]
    assert pair[0].got == [pieces, pieces]
    assert pair[1].got == []


def test_the_one_with_fewer_open_exchanges_comes_first(pair: list[Enclave], run: Run) -> None:
    async def use(parent: Parent) -> Any:
        parent.cell.members[0].open = 2
        busy = await parent.ask(A, B)
        parent.cell.members[0].open = 0
        return [busy, await parent.ask(A, B), await parent.ask(B, A)]

    assert with_parent(run, pair, use) == [[b"w2"], [b"w"], [b"w2"]]


def test_what_is_kept_of_a_request_is_dropped_with_the_first_frame_of_an_answer(run: Run) -> None:
    async def go() -> tuple[list[bytes], list[bytes], list[bytes]]:
        request = Request(send(ASKED))
        first = [body async for body in request.frames()]
        again = [body async for body in request.frames()]
        request.forget()
        return first, again, [body async for body in request.frames()]

    assert run(go()) == (ASKED, ASKED, [])


@pytest.mark.parametrize("name", ["w", "w2"])
def test_evidence_is_of_the_enclave_that_is_named(pair: list[Enclave], run: Run, name: str) -> None:
    async def use(parent: Parent) -> Any:
        return await GatewayStub(parent.channel).Attest(pb.AttestRequest(nonce=bytes(32), enclave=name))

    answer = with_parent(run, pair, use)
    assert answer.document == name.encode()
    assert answer.nonce_proof == (b"path" if name == "w2" else b""), "and the nonce's path, where there is one"


def test_evidence_of_an_enclave_that_is_not_there_is_not_another_ones(pair: list[Enclave], run: Run) -> None:
    async def use(parent: Parent) -> Any:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await GatewayStub(parent.channel).Attest(pb.AttestRequest(nonce=bytes(32), enclave="w3"))
        return failed.value.code()

    assert with_parent(run, pair, use) is grpc.StatusCode.NOT_FOUND
    assert [one.attests for one in pair] == [0, 0]


def test_evidence_of_any_enclave_is_of_one_that_answers(pair: list[Enclave], run: Run) -> None:
    async def use(parent: Parent) -> Any:
        first = await GatewayStub(parent.channel).Attest(pb.AttestRequest(nonce=bytes(32)))
        pair[0].stop()
        second = await GatewayStub(parent.channel).Attest(pb.AttestRequest(nonce=bytes(32)))
        return [first.document, second.document]

    assert with_parent(run, pair, use) == [b"w", b"w2"]


def test_evidence_of_any_enclave_is_of_one_that_runs_and_has_little_to_do(pair: list[Enclave], run: Run) -> None:
    async def use(parent: Parent) -> Any:
        answers = []
        for state, exchanges in (("ended", 0), ("running", 3)):
            pair[0].state, parent.cell.members[0].open = state, exchanges
            answers.append(await GatewayStub(parent.channel).Attest(pb.AttestRequest(nonce=bytes(32))))
        return [one.document for one in answers]

    assert with_parent(run, pair, use) == [b"w2", b"w2"]
    assert [one.attests for one in pair] == [0, 2]


def test_enclaves_names_each_with_its_keys(pair: list[Enclave], run: Run) -> None:
    async def use(parent: Parent) -> Any:
        await parent.ask(C)
        pair[1].state = "ended"
        return await GatewayStub(parent.channel).Enclaves(pb.EnclavesRequest())

    listed = with_parent(run, pair, use).enclaves
    assert [(one.enclave_id, one.state, list(one.key_ids)) for one in listed] == [
        ("w", "running", [A]),
        ("w2", "ended", [B]),
    ]


BAD_TARGETS = {
    "nothing": "",
    "not hex": "zz" * 16,
    "in another writing": A.hex() + "," + b"\xab".hex().upper() * 16,
    "with a blank": " " + A.hex(),
    "too short": A.hex()[:-2],
    "an empty one": f"{A.hex()},",
    "nine": ",".join(bytes([n]).hex() * 16 for n in range(9)),
}


@pytest.mark.parametrize("name", BAD_TARGETS)
def test_targets_in_another_form_are_refused_and_reach_nobody(pair: list[Enclave], run: Run, name: str) -> None:
    metadata = ((KEY_IDS_METADATA, BAD_TARGETS[name]),)
    with pytest.raises(BadTargets):
        targets_of(metadata)

    async def use(parent: Parent) -> Any:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            async for _ in parent.channel.stream_stream(INFER)(send(ASKED), metadata=metadata):
                pass
        return failed.value.code()

    assert with_parent(run, pair, use) is grpc.StatusCode.INVALID_ARGUMENT
    assert [one.got for one in pair] == [[], []]


def test_targets_are_read_as_they_stand() -> None:
    eight = [bytes([n]) * 16 for n in range(8)]
    assert targets_of(((KEY_IDS_METADATA, ",".join(one.hex() for one in eight)),)) == tuple(eight)
    assert targets_of((("other", "x"),)) == ()
    with pytest.raises(BadTargets):
        targets_of(((KEY_IDS_METADATA, A.hex()), (KEY_IDS_METADATA, B.hex())))


@pytest.mark.parametrize("raw", [b"short", bytes(17), bytes(16 * 65)])
def test_keys_in_another_form_are_no_keys(pair: list[Enclave], run: Run, raw: bytes) -> None:
    pair[0].keys = [raw]
    assert with_parent(run, pair, lambda parent: parent.ask(raw[:16].ljust(16, b"\0"))) == "unknown-key"
    assert pair[0].got == []
