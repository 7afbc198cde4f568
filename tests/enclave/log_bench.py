"""A scribe of one boot over a real log, through a parent that a test can make cut, hold and lie."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from anchorhold.attestation.transcript import tree
from anchorhold.attestation.transcript.append import AppendRequest
from anchorhold.attestation.transcript.bodies import Body, Genesis
from anchorhold.attestation.transcript.entry import SigningKeys, VerifyingKeys, parse_record
from anchorhold.attestation.types import Sha384, StatementDigest
from anchorhold.enclave.keys.clock import EnclaveClock, Reading, RecordClock
from anchorhold.enclave.serve.scribe import Scribe, ScribeContext
from anchorhold.log.server import append
from anchorhold.log.store import Store, init_state

BOOT = StatementDigest(Sha384(b"\x11" * 48))
GENESIS = Genesis(b"d" * 32, b"s" * 32, b"c" * 32, b"", "0.1.0", None)
LOG_KEY = Ed25519PrivateKey.generate()


def clock_from(timestamp_ms: int, boottime: Callable[[], float]) -> EnclaveClock:
    """Enclave time that goes on from here with the boot clock."""
    clock = EnclaveClock(boottime)
    clock.observe(Reading(timestamp_ms, boottime(), boottime()))
    return clock


def never_in_doubt(timestamp_ms: int, boottime: Callable[[], float]) -> RecordClock:
    """The same for a recorder; doubt fails the test."""
    return RecordClock(clock_from(timestamp_ms, boottime), pytest.fail)


class Link:
    """The parent between scribe and log: honest until `spoil` is set, and slow while `free` is not."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.sent: list[bytes] = []
        self.down = False
        self.free = threading.Event()
        self.free.set()
        self.spoil: Callable[[bytes], bytes] | None = None
        self.rewritten_since: int | None = None

    def __call__(self, raw: bytes) -> bytes:
        self.sent.append(raw)
        self.free.wait()
        if self.down:
            raise OSError("nobody listens")
        wanted = AppendRequest.decode(raw)
        if self.rewritten_since is not None:
            wanted = replace(wanted, since=self.rewritten_since)
        reply = append(self.store, wanted).encode()
        return reply if self.spoil is None else self.spoil(reply)


class Bench:
    """One boot on one log."""

    def __init__(self, state: Path) -> None:
        self.state = state
        vkey = init_state(state, "log.example/1", LOG_KEY)
        self.store = Store(state)
        self.link = Link(self.store)
        self.now = 1_000
        self.keys = SigningKeys(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())
        context = ScribeContext(self.keys, self.link, vkey, lambda: self.now, lambda: self.now / 1000)
        self.scribe = Scribe(context)

    def start(self) -> "Bench":
        self.scribe.open_checkpoint(self.store.checkpoint)
        self.scribe.genesis(BOOT, GENESIS, ())
        return self

    def bodies(self) -> list[Body]:
        """What the log holds, chain and signatures checked."""
        keys = VerifyingKeys(self.keys.ed25519.public_key(), self.keys.mldsa65.public_key())
        size = self.store.size
        bundle = self.store.bundle(0, size)
        assert bundle is not None
        found, head = [], b""
        for number, raw in enumerate(tree.decode_bundle(bundle, size)):
            record = parse_record(raw)
            entry = record.verify(keys)
            assert (entry.seq, entry.prev, entry.boot) == (number, head, BOOT)
            head = record.head
            found.append(entry.body)
        return found
