"""`ask` and the sync client over real gRPC, against a gateway that is nothing but a relay to a loopback enclave."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.client.desk import Desk

from anchorhold.attestation.canonical import decode_map
from anchorhold.attestation.transcript.kept import KeptReceipt
from anchorhold.attestation.types import KeyId
from anchorhold.cli.main import main
from anchorhold.client.errors import Hinted, Unavailable
from anchorhold.client.gateway import HINT_METADATA, KEY_IDS_METADATA, GatewayBroke
from anchorhold.client.sdk import Client
from anchorhold.client.trust import Trust, encode_trust
from anchorhold.sim.link import Fleet, Link, loopback_trust
from anchorhold.sim.loopback import LoopbackEnclave, ManualClock, loopback_configuration
from anchorhold.sim.pki import SimulatedPki
from anchorhold.v1.gateway_pb2 import (
    AttestRequest,
    AttestResponse,
    EnclaveHint,
    EnclavesRequest,
    EnclavesResponse,
    Frame,
)
from anchorhold.v1.gateway_pb2_grpc import GatewayServicer, add_GatewayServicer_to_server

TEXT = "The capital of France is Paris."


class Relay(GatewayServicer):  # type: ignore[misc]  # generated without types
    def __init__(self, link: Link) -> None:
        self.link = link

    async def Enclaves(self, request: EnclavesRequest, context: object) -> EnclavesResponse:  # noqa: N802 - gRPC's name
        listed = await self.link.enclaves()
        return EnclavesResponse(enclaves=[EnclaveHint(enclave_id=one.enclave, state=one.state) for one in listed])

    async def Attest(self, request: AttestRequest, context: object) -> AttestResponse:  # noqa: N802 - gRPC's name
        said = await self.link.attest(
            request.nonce, with_configuration=request.with_configuration, enclave=request.enclave
        )
        return AttestResponse(
            document=said.document,
            statement=said.statement,
            owner_lease=said.owner_lease,
            kms_lease=said.kms_lease,
            configuration=said.configuration,
        )

    async def Infer(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[Frame], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[Frame]:
        frames = [message.body async for message in requests]
        named = dict(context.invocation_metadata())[KEY_IDS_METADATA].split(",")
        key_ids = [KeyId(bytes.fromhex(one)) for one in named]
        try:
            async for body in self.link.infer(frames, key_ids=key_ids, alias="tiny", timeout_s=5):
                yield Frame(body=body)
        except GatewayBroke as broke:
            context.set_trailing_metadata(((HINT_METADATA, broke.hint),))
            await context.abort(grpc.StatusCode.UNAVAILABLE, "hint")


def now() -> datetime:
    """`ask` judges by the machine's clock, so what it is shown must be of this minute."""
    return datetime.now(UTC)  # noqa: TID251 - as said


@pytest.fixture
def link(request: pytest.FixtureRequest) -> Link:
    """Its two sources are run by the parties that a test names, by two of their own otherwise."""
    owner_key = Ed25519PrivateKey.generate()
    honest = loopback_configuration(owner_key)
    parties = getattr(request, "param", ("a", "b"))
    sources = tuple(replace(one, custodian=party) for one, party in zip(honest.sources, parties, strict=True))
    made = now()
    enclave = LoopbackEnclave(
        SimulatedPki.create(made), ManualClock(made), replace(honest, sources=sources), owner_key=owner_key
    )
    return Link(enclave)


@pytest.fixture
def trust(link: Link) -> Iterator[Trust]:
    """The enclave behind a running gateway."""
    loop, started, port = asyncio.new_event_loop(), threading.Event(), [0]
    server: list[grpc.aio.Server] = []

    async def start() -> None:
        server.append(grpc.aio.server())
        add_GatewayServicer_to_server(Relay(link), server[0])
        port[0] = server[0].add_insecure_port("127.0.0.1:0")
        await server[0].start()
        started.set()

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(start(), loop)
    assert started.wait(10)
    yield replace(loopback_trust(link.enclave), gateway=f"127.0.0.1:{port[0]}")
    asyncio.run_coroutine_threadsafe(server[0].stop(None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def pinned(trust: Trust, tmp_path: Path) -> Path:
    path = tmp_path / "trust.json"
    path.write_bytes(encode_trust(trust))
    return path


def test_the_sync_client_answers(trust: Trust) -> None:
    with Client(trust) as client:
        answer = client.ask("hi")
        assert answer.text == TEXT
        assert answer.simulated
        assert client.ask("again").receipt.receipt.sequence == 2


def test_ask_streams_and_says_simulated(pinned: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    receipt = tmp_path / "receipt"
    assert main(["ask", "hi", "--trust", str(pinned), "--receipt", str(receipt)]) == 0
    said = capsys.readouterr()
    assert said.out == TEXT + "\n"
    assert "simulated" in said.err
    assert "receipt 1 verified" in said.err
    KeptReceipt.decode(receipt.read_bytes())


@pytest.mark.parametrize("link", [("one party", "one party"), ("a", "b")], indirect=True, ids=["one party", "two"])
def test_ask_says_where_one_party_holds_both_shares(
    link: Link, pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", "hi", "--trust", str(pinned)]) == 0
    assert link.enclave.configuration is not None
    parties = {source.custodian for source in link.enclave.configuration.sources}
    assert ("same custodian" in capsys.readouterr().err) is (len(parties) == 1)
    assert main(["ask", "hi", "--trust", str(pinned), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["custodians"]
    assert {held["custodian"] for held in said} == parties


def test_ask_says_where_each_share_s_key_lies_and_on_whose_word(
    link: Link, pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", "hi", "--trust", str(pinned)]) == 0
    said = capsys.readouterr().err
    assert "share owner by b (asserted: software, key beside it)" in said
    assert "share kms by a (keystore not said)" in said
    assert main(["ask", "hi", "--trust", str(pinned), "--json"]) == 0
    held = {one["source"]: one["keystore"] for one in json.loads(capsys.readouterr().out)["custodians"]}
    assert held == {"owner": "software, key beside it", "kms": "not said"}


def test_ask_json_is_one_object(link: Link, pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "hi", "--trust", str(pinned), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["answer"] == TEXT
    assert said["simulated"] is True
    assert said["receipt"]["commitment"] == link.enclave.scribe.leaves[0][0].hex()


def test_ask_says_to_whom_it_sealed_and_who_answered(
    link: Link, pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = link.enclave
    second = LoopbackEnclave(first.pki, first.clock, first.configuration, owner_key=first.owner_key)
    forged = LoopbackEnclave(SimulatedPki.create(now()), first.clock, first.configuration, owner_key=first.owner_key)
    link.__class__, link.__dict__ = Fleet, Fleet([forged, first, second]).__dict__
    assert main(["ask", "hi", "--trust", str(pinned), "--enclaves", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["boot"] for one in said["sealed_to"]] == [first.boot_id.hex(), second.boot_id.hex()]
    assert said["answered_by"] == said["sealed_to"][0]
    assert said["receipt"]["statement"] == said["answered_by"]["statement"]
    assert [one["enclave"] for one in said["refused"]] == ["e0"]
    assert main(["ask", "hi", "--trust", str(pinned), "--enclaves", "2"]) == 0
    told = capsys.readouterr().err
    assert f"sealed to 2 enclaves, answered by boot {first.boot_id.hex()[:16]}" in told
    assert "enclave 'e0' was sealed nothing" in told


def test_ask_of_a_refusing_enclave_exits_1(link: Link, pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link.enclave.engine.refuse = "busy"
    assert main(["ask", "hi", "--trust", str(pinned)]) == 1
    assert "busy" in capsys.readouterr().err


def test_ask_of_more_than_a_request_holds_exits_2(link: Link, pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "x" * 300_000, "--trust", str(pinned)]) == 2
    assert "too large" in capsys.readouterr().err
    assert link.up == []


def test_ask_marks_cut_text_as_provisional_and_exits_1(
    trust: Trust, link: Link, pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Cut(Link):
        def to_client(self, at: int, frame: bytes) -> tuple[bytes, ...]:
            return (frame,) if at < 3 else ()

    link.__class__ = Cut
    assert main(["ask", "hi", "--trust", str(pinned)]) == 1
    said = capsys.readouterr()
    assert TEXT.startswith(said.out.rstrip("\n"))
    assert "provisional" in said.err
    assert "final record" in said.err


def test_a_hint_travels_as_a_hint(trust: Trust, link: Link) -> None:
    class Hints(Link):
        def to_client(self, at: int, frame: bytes) -> tuple[bytes, ...]:
            raise GatewayBroke("as I please", "draining")

    link.__class__ = Hints
    with Client(trust) as client, pytest.raises(Hinted) as caught:
        client.ask("hi")
    assert caught.value.code == "draining"
    assert link.attests == 2


def test_nobody_there_is_unavailable(trust: Trust, pinned: Path) -> None:
    with Client(replace(trust, gateway="127.0.0.1:1")) as client, pytest.raises(Unavailable):
        client.ask("hi")
    assert main(["ask", "hi", "--trust", str(pinned), "--gateway", "127.0.0.1:1"]) == 2


def test_a_kept_receipt_holds_nothing_of_the_conversation(pinned: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt"
    assert main(["ask", "a-marker-in-the-question", "--trust", str(pinned), "--receipt", str(receipt)]) == 0
    raw = receipt.read_bytes()
    assert b"marker" not in raw
    assert b"Paris" not in raw
    fields: dict[str, type | tuple[type, ...]] = {"v": int, "receipt": bytes, "salt": bytes, "tag": bytes}
    assert decode_map(raw, "kept receipt", limit=8192, fields=fields)["v"] == 1


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "desk", now())


@pytest.fixture
def released(trust: Trust, desk: Desk, tmp_path: Path) -> Path:
    """A trust file that names the desk's signers; their list is out."""
    path = tmp_path / "released.json"
    path.write_bytes(encode_trust(desk.trust(trust)))
    return path


def test_ask_says_which_release_answered(
    link: Link, desk: Desk, released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.release(desk.statement("1.0", link.enclave.measurements))
    assert main(["ask", "hi", "--trust", str(released)]) == 0
    assert "release 1.0, accepted" in capsys.readouterr().err
    assert main(["ask", "hi", "--trust", str(released), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["release"] == "1.0"


def test_ask_of_a_revoked_release_sends_nothing_and_says_so(
    link: Link, desk: Desk, released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    current = desk.statement("1.0", link.enclave.measurements)
    desk.revoke(desk.release(current), current)
    assert main(["ask", "hi", "--trust", str(released)]) == 1
    said = capsys.readouterr().err
    assert "release-revoked" in said
    assert "anchorhold explain release-revoked" in said
    assert not link.up


def test_ask_takes_the_list_from_where_it_is_told(
    link: Link, desk: Desk, released: Path, pinned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.release(desk.statement("1.0", link.enclave.measurements))
    elsewhere = desk.list.rename(tmp_path / "elsewhere")
    assert main(["ask", "hi", "--trust", str(released)]) == 2
    assert "--releases" in capsys.readouterr().err
    assert main(["ask", "hi", "--trust", str(released), "--releases", str(elsewhere)]) == 0
    assert main(["ask", "hi", "--trust", str(pinned), "--releases", str(elsewhere)]) == 2
