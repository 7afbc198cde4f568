"""Each attack of the hostile parent against real enclaves: the client ends with that attack's own error, never a text.

What was shown before it is a beginning of the honest answer, from authenticated records; an answer is never whole.
"""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from tests.attacks.attacks import ATTACKS, BytesAtTheWindow, Named, OldEvidence, Swaps
from tests.attacks.hostile_parent import Attack, HostileParent, ask_window
from tests.e2e.cell import Base, Cell, Cells, wait_until
from tests.e2e.conftest import ROOT, cli

from anchorhold.attestation.canonical import decode
from anchorhold.attestation.chain import WrongRoot
from anchorhold.attestation.channel.client import Delta, Finished
from anchorhold.attestation.channel.errors import RecordInvalid
from anchorhold.attestation.cose import parse_sign1
from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.types import Platform
from anchorhold.client.errors import ClientError, Hinted, LeaseEnded
from anchorhold.client.sdk import AsyncClient, Settings, utc_now
from anchorhold.client.trust import Trust, encode_trust

pytestmark = pytest.mark.slow
FEW = Settings(max_tokens=8)


@dataclass(frozen=True)
class Seen:
    """What a client was shown in its last request, and how it ended: None for a verified receipt."""

    text: str
    error: Exception | None
    requests: int


@pytest.fixture(scope="module")
def enclaves(base: Base) -> Iterator[list[Cell]]:
    """Two genuine enclaves of one deployment."""
    cells = Cells(base)
    try:
        # One after the other: a cell knows its enclave as the first that was not there when it was made.
        yield [cells.start().serving() for _ in range(2)]
    finally:
        cells.close()


async def _ask(trust: Trust, now: Callable[[], datetime]) -> tuple[str, Exception | None]:
    shown = ""
    async with AsyncClient(trust, now=now) as client:
        try:
            async for event in client.stream("hello", FEW):
                if isinstance(event, Finished):
                    return shown, None
                assert isinstance(event, Delta)
                shown += event.text
        except (EvidenceError, ClientError) as error:
            return shown, error
    raise AssertionError("neither a receipt nor an error")


def attacked(
    enclaves: list[Cell],
    attack: Attack,
    *,
    trust: Trust | None = None,
    now: Callable[[], datetime] = utc_now,
    before: int = 0,
) -> Seen:
    """What a client sees through the attack; some others may have asked before it, without harm."""

    async def run() -> Seen:
        parent = HostileParent([one.window for one in enclaves], attack)
        address = await parent.start()
        try:
            shown_to = replace(trust or enclaves[0].trust, gateway=address)
            for _ in range(before):
                assert (await _ask(shown_to, now))[1] is None
            shown, error = await _ask(shown_to, now)
            return Seen(shown, error, len(parent.requests))
        finally:
            await parent.stop()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def honest(enclaves: list[Cell]) -> str:
    """What the model says when nobody interferes: the control of every test here."""
    seen = attacked(enclaves, Attack())
    assert seen.error is None
    assert len(seen.text) > 1
    return seen.text


@pytest.mark.parametrize("name", ATTACKS)
def test_each_attack_ends_in_its_own_error(enclaves: list[Cell], honest: str, name: str) -> None:
    attack: Named = ATTACKS[name]
    seen = attacked(enclaves, attack.make(), before=attack.before)
    assert isinstance(seen.error, attack.error), seen
    assert getattr(seen.error, "code", None) == attack.code
    assert honest.startswith(seen.text)
    assert bool(seen.text) is attack.text
    # A hint is answered with one new seal, everything else with none.
    assert seen.requests <= attack.before + (2 if isinstance(seen.error, Hinted) else 1)


@pytest.mark.parametrize(("first", "error"), [(0, Mismatch), (1, RecordInvalid)], ids=["whole", "records"])
def test_two_users_who_get_each_others_answers_take_neither(
    enclaves: list[Cell], honest: str, first: int, error: type[Exception]
) -> None:
    """The same question to the same enclave: the texts would be alike, the answers are not."""
    assert honest

    async def run() -> list[tuple[str, Exception | None]]:
        parent = HostileParent([enclaves[0].window], Swaps(first))
        trust = replace(enclaves[0].trust, gateway=await parent.start())
        try:
            return list(await asyncio.gather(_ask(trust, utc_now), _ask(trust, utc_now)))
        finally:
            await parent.stop()

    for shown, refusal in asyncio.run(run()):
        assert isinstance(refusal, error)
        assert shown == ""


@pytest.mark.parametrize("all_at_once", [True, False])
def test_however_the_window_is_written_the_answer_is_the_same(
    enclaves: list[Cell], honest: str, all_at_once: bool
) -> None:
    seen = attacked(enclaves, BytesAtTheWindow(all_at_once=all_at_once))
    assert (seen.text, seen.error) == (honest, None)


def test_a_simulated_enclave_is_none_to_a_production_policy(base: Base, enclaves: list[Cell], honest: str) -> None:
    """The right measurements, pinned by hand, of a platform of silicon: under AWS's root, and the simulated one."""
    assert honest
    production = frozenset({Platform.NITRO_ENCLAVE})
    trust = replace(enclaves[0].trust, platforms=production, releases=None, measurements=base.measurements)
    seen = attacked(enclaves, Attack(), trust=replace(trust, root=None))
    assert isinstance(seen.error, WrongRoot)
    assert (seen.text, seen.requests) == ("", 0)
    seen = attacked(enclaves, Attack(), trust=trust)
    assert getattr(seen.error, "code", None) == "platform"
    assert (seen.text, seen.requests) == ("", 0)
    simulated = replace(trust, platforms=frozenset({Platform.SIMULATED}))
    assert attacked(enclaves, Attack(), trust=simulated).error is None, "the control: nothing else stands against it"


def test_an_old_lease_shown_after_its_end_is_seen_before_anything_is_sealed(enclaves: list[Cell], honest: str) -> None:
    """The enclave has renewed it; the parent shows the one of before, beside evidence that is new."""
    assert honest
    attack = OldEvidence("owner_lease")
    assert attacked(enclaves, attack).error is None, "the one kept was good"
    over = _end(attack.kept["owner_lease"])
    wait_until("a renewal that ends later", lambda: _lease_end(enclaves[0]) > over + 1_000)

    def after() -> datetime:
        return datetime.fromtimestamp(over / 1000, tz=UTC)

    seen = attacked(enclaves, attack, now=after)
    assert isinstance(seen.error, LeaseEnded)
    assert seen.error.receipt is None, "by its own clock, not by anybody's word"
    assert seen.requests == 0
    assert attacked(enclaves, Attack(), now=after).error is None, "the control: the lease that is in force"


def _lease_end(cell: Cell) -> int:
    return _end(asyncio.run(ask_window(cell.window, bytes(32)))["owner_lease"])


def _end(lease: bytes) -> int:
    members = decode(parse_sign1(lease, "lease").payload, "lease", limit=65_536)
    assert isinstance(members, dict)
    end = members["not_after"]
    assert isinstance(end, int)
    return end


def test_the_program_stands_between_the_command_and_real_enclaves(enclaves: list[Cell], cells: Cells) -> None:
    """`anchorhold ask` through `python -m tests.attacks.hostile_parent`: exit code 1, and no receipt."""
    command = [sys.executable, "-m", "tests.attacks.hostile_parent", "--attack", "truncate"]
    command += [word for one in enclaves for word in ("--window", str(one.window))]
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT}/src"}
    trust, receipt = cells.folder / "hostile-trust.json", cells.folder / "receipt"
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=paths) as program:
        try:
            assert program.stdout is not None
            address = program.stdout.readline().decode().strip()
            trust.write_bytes(encode_trust(replace(enclaves[0].trust, gateway=address)))
            done = cli("ask", "hello", "--trust", str(trust), "--max-tokens", "8", "--receipt", str(receipt))
        finally:
            program.kill()
    assert done.returncode == 1
    assert "before the final record" in done.stderr
    assert not receipt.exists()
