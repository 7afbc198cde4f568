"""Several enclaves of one deployment: a request sealed to two of them is answered by the other once one is killed."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation.channel.client import Delta, Finished
from anchorhold.attestation.channel.errors import Truncated
from anchorhold.attestation.document import parse_document
from anchorhold.attestation.types import BootId
from anchorhold.client.sdk import Answer, Client, Settings
from anchorhold.client.session import Session
from anchorhold.log.files import cas_path
from anchorhold.sim.cell import phases
from anchorhold.sim.deploy import Settings as Deployed
from anchorhold.sim.stack import Options, Stack, down

from .cell import wait_until, whole_lines
from .conftest import ROOT, TINY, Running

pytestmark = pytest.mark.slow
SHORT = Settings(max_tokens=4)
LONG = Settings(max_tokens=1_800)  # some seconds of the tiny model
ENCLAVES = 3
BOTH = 2
LIMITS = 3  # the auditor's exit code: nothing contradicted, not all known


@pytest.fixture
def trio() -> Iterator[Running]:
    """A stack whose parent runs three enclaves."""
    path = Path(tempfile.mkdtemp(prefix="ah-"))
    lock = ROOT / "requirements/enclave.lock"
    options = Options(state=path / "s", model="tiny", settings=Deployed(engine=TINY), lock=lock, enclaves=ENCLAVES)
    try:
        stack = Stack(options)
        yield Running(stack, stack.up())
    finally:
        down(path / "s")
        shutil.rmtree(path, ignore_errors=True)


def _boot(session: Session) -> BootId:
    return session.channel.serve.boot_id


def _check_receipt(answer: Answer) -> None:
    """The receipt names the statement of exactly the enclave whose session the answer names."""
    assert answer.receipt.receipt.statement == answer.session.channel.statement
    assert answer.session in answer.sealed_to


def _kill(trio: Running, session: Session) -> None:
    """SIGKILL to the process of that boot, which the hypervisor knows by the module id in its evidence."""
    module = session.channel.evidence.module_id
    lines = whole_lines(trio.state / "hypervisor/hypervisor.log")
    started = {e["enclave"]: e["pid"] for e in map(json.loads, lines) if e["event"] == "enclave-started"}
    os.kill(started[module], signal.SIGKILL)


def _asked(trio: Running, *more: str) -> dict[str, Any]:
    done = trio.cli("ask", "hello", "--trust", str(trio.state / "trust.json"), "--max-tokens", "4", "--json", *more)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _documented(trio: Running) -> set[str]:
    """Module ids of every document that the log holds."""
    store = trio.state / "log" / Path(cas_path(bytes(48))).parts[0]
    found = set()
    for path in store.rglob("*"):
        if path.is_file():
            try:
                found.add(parse_document(path.read_bytes()).module_id)
            except Exception:  # noqa: BLE001 - the store holds more than documents
                continue
    return found


def _only_text(stream: Iterator[Delta | Finished]) -> None:
    """The rest of it, which must break off."""
    for event in stream:
        assert isinstance(event, Delta), "a receipt came for an answer that was cut off"


def test_the_enclaves_of_a_set_take_over_from_each_other_and_nobody_else_does(trio: Running) -> None:
    assert list(phases(trio.state).values()) == ["SERVING"] * ENCLAVES
    with Client(trio.trust, enclaves=BOTH) as client:
        # Both are genuine: evidence of two boots under one root, one D, one C.
        answer = client.ask("hello", SHORT)
        assert len({_boot(one) for one in answer.sealed_to}) == BOTH
        assert len({one.channel.evidence.module_id for one in answer.sealed_to}) == BOTH
        assert {one.channel.serve.configuration for one in answer.sealed_to} == {trio.trust.configuration}
        _check_receipt(answer)

        # One dies while it answers: that answer is cut off, and never success.
        stream = client.stream("hello", LONG)
        assert isinstance(next(stream), Delta)
        dying = client.session
        assert dying is not None
        _kill(trio, dying)
        with pytest.raises(Truncated):
            _only_text(stream)

        # The next request is sealed to both as before, and the other one of them takes it: not the third.
        after = client.ask("hello", SHORT)
        assert after.sealed_to == answer.sealed_to, "no new evidence was asked for"
        assert (after.resealed, client.resealed) == (0, 0)
        assert _boot(after.session) != _boot(dying)
        _check_receipt(after)
        assert after.text == answer.text, "the same model, greedy"

    # Who seals to one enclave alone verifies another and seals again once it is gone: counted.
    with Client(trio.trust) as client:
        first = client.ask("hello", SHORT)
        assert len(first.sealed_to) == 1
        _kill(trio, first.session)
        second = client.ask("hello", SHORT)
        assert (second.resealed, client.resealed) == (1, 1)
        assert _boot(second.session) not in (_boot(first.session), _boot(dying))
        _check_receipt(second)

    # Who comes later does with the one that is left, and is told which one that is.
    log = trio.state / "logs/parent.log"
    wait_until("the parent to notice", lambda: log.read_text().count("enclave-gone") == ENCLAVES - 1)
    told = _asked(trio, "--enclaves", str(BOTH))
    assert told["answered_by"]["boot"] == _boot(second.session).hex()
    assert [one["boot"] for one in told["sealed_to"]] == [_boot(second.session).hex()]
    assert told["resealed"] == 0
    assert told["receipt"]["statement"] == told["answered_by"]["statement"]

    # The transcript has all the boots, and an auditor finds nothing wrong but that two of them just stop.
    code, report = trio.audit()
    assert not [one for one in report["findings"] if one["status"] == "FAIL"]
    assert code == LIMITS
    assert len([one for one in report["findings"] if one["code"] in ("L-OPEN", "L-TAIL")]) >= ENCLAVES - 1
    modules = {one.channel.evidence.module_id for one in (*answer.sealed_to, second.session)}
    assert modules <= _documented(trio)
