"""No log, no keys: until its genesis is proved to be in the log the enclave asks nobody for anything (DESIGN 6).

The hostile parent answers for the log. What counts is not what the enclave says but that nothing of it reached a
source: the parent's forwarders to both saw no connection, and no journal has an entry.
"""

import base64
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.e2e.cell import SOURCES, Base, Cell, Cells, ask

from anchorhold.attestation.transcript.append import AppendReply
from anchorhold.attestation.transcript.checkpoint import Checkpoint, parse_note, sign_checkpoint
from anchorhold.client.errors import Unavailable

from .hostile import LyingLog, Spoil, Wire

pytestmark = pytest.mark.slow


class Watched:
    """Forwarders to both sources that count."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self.wires = {name: Wire(base.config["egress"][name]) for name in SOURCES}
        self._journals = self._counts()

    @property
    def egress(self) -> dict[str, str]:
        return {name: wire.address for name, wire in self.wires.items()}

    def assert_nobody_was_asked(self) -> None:
        assert {name: wire.connections for name, wire in self.wires.items()} == dict.fromkeys(SOURCES, 0)
        assert self._counts() == self._journals

    def _counts(self) -> dict[str, int]:
        return {name: len(self._base.journal(name)) for name in SOURCES}


@pytest.fixture
def watched(base: Base) -> Iterator[Watched]:
    made = Watched(base)
    yield made
    for wire in made.wires.values():
        wire.close()


def start(base: Base, cells: Cells, watched: Watched, spoil: Spoil) -> tuple[Cell, LyingLog]:
    log = LyingLog(base.config["log"], spoil)
    return cells.start(egress=watched.egress, log=log.url), log


def test_an_honest_log_behind_the_same_proxies_is_enough(base: Base, cells: Cells, watched: Watched) -> None:
    """The control: the forwarders do count, and nothing but the lie keeps the others from starting."""
    cell, log = start(base, cells, watched, lambda answer: answer)
    assert ask(cell.serving().trust).text
    assert all(wire.connections for wire in watched.wires.values())
    cell.close()
    log.close()


def nothing(_base: Base) -> Spoil:
    return lambda _answer: None


def wrong_proof(_base: Base) -> Spoil:
    def spoil(answer: bytes) -> bytes:
        reply = AppendReply.decode(answer)
        first = bytes([reply.proof[0][0] ^ 1]) + reply.proof[0][1:]
        return replace(reply, proof=(first, *reply.proof[1:])).encode()

    return spoil


def old_head(base: Base) -> Spoil:
    """Genuine, and from before the record."""
    before = (base.state / "log/log/checkpoint").read_bytes()
    return lambda answer: replace(AppendReply.decode(answer), checkpoint=before).encode()


def another_key(_base: Base) -> Spoil:
    """The true head of the log, under its own name, signed by somebody else."""

    def spoil(answer: bytes) -> bytes:
        reply = AppendReply.decode(answer)
        origin, size, root = parse_note(reply.checkpoint).text.splitlines()
        head = Checkpoint(origin, int(size), base64.b64decode(root))
        return replace(reply, checkpoint=sign_checkpoint(head, Ed25519PrivateKey.generate())).encode()

    return spoil


LIES: dict[str, tuple[Callable[[Base], Spoil], str]] = {
    "nothing": (nothing, "LogUnavailable"),
    "wrong-proof": (wrong_proof, "LogContradiction"),
    "old-head": (old_head, "LogContradiction"),
    "another-key": (another_key, "LogContradiction"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_log_that_proves_nothing_gets_no_key_asked_for(base: Base, cells: Cells, watched: Watched, lie: str) -> None:
    spoil, error = LIES[lie]
    cell, log = start(base, cells, watched, spoil(base))
    assert cell.ended() == 4
    assert log.appends.is_set(), "the genesis was offered"
    assert f"{error} in MEASURED" in cell.console()
    watched.assert_nobody_was_asked()
    with pytest.raises(Unavailable):
        ask(cell.trust)
    cell.close()
    log.close()


def test_while_the_log_is_silent_nobody_is_asked(base: Base, cells: Cells, watched: Watched) -> None:
    over = threading.Event()

    def silence(_answer: bytes) -> None:
        over.wait()

    cell, log = start(base, cells, watched, silence)
    assert log.appends.wait(60.0)
    over.wait(2.0)  # a start that asked too early would have by now: the next step takes milliseconds
    assert cell.exit() is None
    watched.assert_nobody_was_asked()
    with pytest.raises(Unavailable):
        ask(cell.trust)
    cell.kill_enclave()
    over.set()
    assert cell.ended() == "SIGKILL"
    cell.close()
    log.close()
