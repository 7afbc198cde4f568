"""`anchorhold authority reseal order|end` against a real owner face, and what `authority status` says of orders."""

import hashlib
import json
from datetime import UTC, datetime

import pytest
from tests.authority.guard.conftest import ANN, BEN, hex_of
from tests.cli.test_authority import Stack, stack

from anchorhold.authority.guard.defaults import Approving, owner_policy
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.reading import read_policy
from anchorhold.authority.guard.requests import sign_request
from anchorhold.authority.owner.authority import DATABASE
from anchorhold.authority.owner.state import SCHEMA, State
from anchorhold.sim.owner_face import CONFIGURED, IMAGE, MODEL, OTHER_MODEL, sealed_manifest

__all__ = ["stack"]  # the fixture is used by its name

Capture = pytest.CaptureFixture[str]
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@pytest.fixture
def measured(stack: Stack) -> str:
    """The file of the resealing enclave's measurements."""
    return written(stack, "reseal.json", hashlib.sha384(bytes(48) + CONFIGURED).hexdigest())


def written(stack: Stack, name: str, register: str) -> str:
    registers = {**{str(index): value.hex() for index, value in IMAGE.items()}, "16": register}
    policy = {"version": 1, "platforms": ["simulated"], "releases": {"tiny resealing": [registers]}}
    (stack.folder / name).write_text(json.dumps(policy))
    return str(stack.folder / name)


def order(stack: Stack, measured: str, *given: str) -> int:
    return stack.run_reseal("order", "--measurements", measured, "--reason", "incident-7", *given)


def standing(stack: Stack) -> list[dict[str, object]]:
    orders = stack.owner.order("status")["reseal_orders"]
    assert isinstance(orders, list)
    return [dict(one) for one in orders if isinstance(one, dict)]


def test_an_order_is_given_shown_and_ended_and_each_is_journaled(stack: Stack, measured: str, capsys: Capture) -> None:
    assert order(stack, measured, "--for", "12h", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    expires = stack.owner.clock.ms() + 12 * HOUR_MS
    assert said == {"model": MODEL.hex(), "measurements": 1, "expires": expires, "reason": "incident-7"}
    (one,) = standing(stack)
    assert (one["model"], one["expires"], one["at"]) == (MODEL, expires, stack.owner.clock.ms())
    entry = stack.owner.journal()[-1]
    assert (entry.type, entry.body["policy"], entry.body["expires"]) == ("reseal-order", one["policy"], expires)
    assert stack.run("status", "--json") == 0
    (shown,) = json.loads(capsys.readouterr().out)["reseal_orders"]
    assert (shown["model"], shown["reason"]) == (MODEL.hex(), "incident-7")
    assert stack.run("status") == 0
    assert f"reseal order      {MODEL.hex()[:16]}...: until " in capsys.readouterr().out
    assert stack.run_reseal("end", "--reason", "done", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"model": MODEL.hex(), "reason": "done"}
    assert standing(stack) == []
    assert stack.owner.journal()[-1].type == "reseal-order-end"
    assert stack.run("status") == 0
    assert "reseal order" not in capsys.readouterr().out


def test_an_order_that_ended_by_its_time_is_no_longer_shown(stack: Stack, measured: str) -> None:
    assert order(stack, measured, "--for", "90s") == 0
    assert len(standing(stack)) == 1
    stack.owner.clock.passed += 90
    assert standing(stack) == []


def test_another_order_takes_the_place_of_the_one_before(stack: Stack, measured: str, capsys: Capture) -> None:
    until = datetime.fromtimestamp(stack.owner.clock.ms() // 1000 + 86_400, UTC)
    assert order(stack, measured, "--for", "1h") == 0
    assert order(stack, measured, "--until", until.isoformat()) == 0
    assert [one["expires"] for one in standing(stack)] == [int(until.timestamp()) * 1000]
    assert "accepted     1 set of measurements" in capsys.readouterr().out


def test_the_model_is_named_by_its_digest_its_manifest_or_the_stack(stack: Stack, measured: str) -> None:
    manifest = stack.folder / "manifest"
    manifest.write_bytes(sealed_manifest())
    for named in (["--model", MODEL.hex()], ["--model", "tiny"], ["--manifest", str(manifest)], []):
        assert order(stack, measured, "--for", "7d", *named) == 0
        assert [one["expires"] for one in standing(stack)] == [stack.owner.clock.ms() + 7 * DAY_MS]
        assert stack.run_reseal("end", "--reason", "done", *named) == 0
        assert standing(stack) == []
    assert order(stack, measured, "--for", "1h", "--model", "tiny", "--manifest", str(manifest)) == 2


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (["--for", "8d"], 2, "expected at most 7 days"),
        (["--for", "0h"], 2, "expected at most 7 days"),
        (["--for", "soon"], 2, "expected a span"),
        (["--until", "2026-01-31"], 2, "with its zone"),
        (["--until", "2126-01-31T12:00:00Z"], 1, "hint: an order ends 7 days from now at the latest"),
        (["--until", "2000-01-31T12:00:00Z"], 1, "hint: an order ends 7 days from now at the latest"),
        ([], 2, "--for"),
        (["--for", "1h", "--until", "2026-01-31T12:00:00Z"], 2, "not allowed with"),
        (["--for", "1h", "--model", OTHER_MODEL.hex()], 1, "hint: anchorhold authority register"),
        (["--for", "1h", "--model", "another"], 2, "expected its digest D"),
        (["--for", "1h", "--reason", "x" * 129], 1, "reason"),
    ],
)
def test_what_the_owner_would_not_take_is_said_with_its_fix(
    stack: Stack, measured: str, capsys: Capture, given: list[str], code: int, words: str
) -> None:
    assert order(stack, measured, *given) == code
    assert words in capsys.readouterr().err
    assert standing(stack) == []


def test_measurements_that_would_let_a_debug_enclave_in_are_refused(stack: Stack, capsys: Capture) -> None:
    assert order(stack, written(stack, "debug.json", bytes(48).hex()), "--for", "1h") == 1
    assert "zero" in capsys.readouterr().err
    (stack.folder / "broken.json").write_text("{")
    assert order(stack, str(stack.folder / "broken.json"), "--for", "1h") == 1
    assert "not JSON" in capsys.readouterr().err
    assert standing(stack) == []


def test_there_is_nothing_to_end_where_no_order_stands(stack: Stack, capsys: Capture) -> None:
    assert stack.run_reseal("end", "--reason", "done") == 1
    assert "hint: anchorhold authority status" in capsys.readouterr().err
    assert stack.run_reseal("end", "--reason", "done", "--owner-url", "https://127.0.0.1:1") == 2


def test_where_approvers_are_named_the_same_order_given_again_is_done_once_they_signed(
    stack: Stack, measured: str, capsys: Capture
) -> None:
    state = State.load(stack.owner.state_dir / DATABASE)
    with state.connection() as connection:
        read = read_policy(owner_policy(Approving({"ann": hex_of(ANN), "ben": hex_of(BEN)}, 2)))
        Memory(SCHEMA, connection).put_policy(read.digest, read.raw, stack.owner.clock.ms())
    state.close()
    assert order(stack, measured, "--for", "1h") == 1
    assert "hint: have the quorum sign it" in capsys.readouterr().err
    waiting = stack.owner.order("guard/approvals")["waiting"]
    assert isinstance(waiting, list)
    assert isinstance(waiting[0], dict)
    raw = waiting[0]["request"]
    assert isinstance(raw, bytes)
    for voice in (ANN, BEN):
        stack.owner.order("guard/approve", id=waiting[0]["id"], signature=sign_request(raw, voice))
    # They agreed to these measurements and to no others.
    other = written(stack, "other.json", "ab" * 48)
    assert order(stack, other, "--for", "1h") == 1
    assert standing(stack) == []
    assert order(stack, measured, "--for", "1h") == 0
    assert len(standing(stack)) == 1
    assert stack.run_reseal("end", "--reason", "done") == 0  # which takes nobody's leave
