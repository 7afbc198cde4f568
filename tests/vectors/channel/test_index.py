"""The channel's vectors: each comes out as its index says, at the end it is for; its files are what `make.py` makes."""

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from tests.vectors.channel import make
from tests.vectors.channel.build import EXCHANGE, FOLDER, ISSUER, KEY, MODEL, NOW, PURPOSE, STATEMENT, K, R

from anchorhold.attestation import labels
from anchorhold.attestation.binding import Serve, decode_statement, key_id
from anchorhold.attestation.channel.body import Chat, decode_infer
from anchorhold.attestation.channel.client import Channel, ClientExchange, Failed, Finished, Options, TenantKey
from anchorhold.attestation.channel.enclave import EnclaveExchange, OpenKey
from anchorhold.attestation.channel.errors import Truncated
from anchorhold.attestation.channel.header import decode_opening
from anchorhold.attestation.channel.record import RecordsDigest
from anchorhold.attestation.channel.states import Event
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import KeyId
from anchorhold.enclave.serve.tenancy import verified_party

INDEX = json.loads((FOLDER / "index.json").read_text())
VECTORS: list[dict[str, Any]] = INDEX["vectors"]
SPECIFICATION = FOLDER.parents[2] / "docs" / "spec" / "channel.md"


class OneKey:
    """The vectors' channel key, open for ever."""

    def find(self, key_id_: KeyId) -> OpenKey | None:
        return OpenKey(KEY, STATEMENT) if key_id_ == key_id(STATEMENT) else None


class Recorded(ClientExchange):
    """The client's end as it stands after the request of `exchange.json`: encapsulations are not drawn twice alike."""

    def _seal(self, body: bytes, tenant: TenantKey | None) -> tuple[bytes, ...]:
        assert (body.hex(), tenant) == (EXCHANGE["body"], None)
        frames = tuple(bytes.fromhex(one) for one in EXCHANGE["request_frames"])
        opening = decode_opening(frames[0][1:])
        running = RecordsDigest(labels.REQUEST_DIGEST, opening.raw_header, opening.slots[0])
        for one in frames[1:]:
            running.add(one[1:])
        self._digests = (running,)
        self._machine.move(Event.OPENING)
        self._machine.move(Event.REQUEST_FINAL)
        return frames


def channel() -> Channel:
    """As verified: the vectors begin after evidence, and a `Channel` comes from nothing else, so it is put together."""
    made = object.__new__(Channel)
    made.serve = decode_statement(bytes.fromhex(EXCHANGE["statement"]), Serve)
    made.statement, made.key_id = STATEMENT, key_id(STATEMENT)
    return made


def at_the_enclave(frames: Sequence[bytes]) -> str:
    end, received = EnclaveExchange(OneKey(), bytes), None
    for one in frames[:-1]:
        assert end.receive(one) is None or one is frames[-2], "refused, or whole, at the last frame only"
    received = end.receive(frames[-1])
    if received is None:
        return "incomplete"
    issuer = ISSUER.public_key().public_bytes_raw()
    party = verified_party(received, issuer=issuer, model=MODEL, now=NOW, boot_secret=bytes(32), entropy=bytes)
    return "request" if party.tenant is None else "tenant"


def at_the_client(frames: Sequence[bytes]) -> str:
    asked = decode_infer(bytes.fromhex(EXCHANGE["body"]))
    assert isinstance(asked, Chat)
    assert asked.reason == PURPOSE
    drawn = iter((K, R))
    exchange = Recorded([channel()], asked, Options("tiny"), entropy=lambda size: next(drawn)[:size])
    events = [exchange.receive(one) for one in frames]
    exchange.end()
    last = events[-1]
    assert isinstance(last, Finished | Failed)
    return "finished" if isinstance(last, Finished) else "failed"


def read(vector: dict[str, Any]) -> tuple[dict[str, str], list[bytes]]:
    """What the file says of itself, and its frames."""
    lines = (FOLDER / "faults" / f"{vector['name']}.txt").read_text().splitlines()
    about = dict(one.split(": ", 1) for one in lines[:3])
    return about, [bytes.fromhex(one) for one in lines[4:]]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_each_vector_comes_out_as_its_index_says(vector: dict[str, Any]) -> None:
    about, frames = read(vector)
    assert about == {name: vector[name] for name in ("end", "clause", "expect")}
    try:
        outcome = (at_the_enclave if vector["end"] == "enclave" else at_the_client)(frames)
    except Truncated as error:
        outcome = error.code
    except EvidenceError as error:
        outcome = error.code
    assert outcome == vector["expect"]


def test_the_files_are_what_the_generator_makes() -> None:
    made = make.files()
    kept = {f"faults/{path.name}" for path in FOLDER.glob("faults/*")}
    assert kept == {name for name in made if "/" in name}
    differing = [name for name, text in made.items() if FOLDER.joinpath(name).read_text() != text]
    assert differing == [], "run `python -m tests.vectors.channel.make` and look at what changed"


def test_each_name_is_there_once_and_each_clause_is_a_section_with_vectors() -> None:
    names = [vector["name"] for vector in VECTORS]
    assert len(names) == len(set(names)) > 100
    sections = set(re.findall(r"^#+ (\d(?:\.\d)?)\.? ", SPECIFICATION.read_text(), re.MULTILINE))
    clauses = {vector["clause"] for vector in VECTORS}
    assert clauses == set(make.CLAUSES)
    assert clauses <= sections
