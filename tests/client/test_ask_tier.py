"""`ask` of a tier, over TLS to a gateway whose certificate the trust file pins."""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from tests.client.identity import Identity
from tests.client.linking import TEXT, make_link
from tests.client.test_ask import Relay

from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.timing import TimeGrade
from anchorhold.attestation.types import Platform
from anchorhold.cli.main import main
from anchorhold.client.tiers import Tier
from anchorhold.client.trust import Trust, encode_trust
from anchorhold.parent.gateway import bind
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.v1.gateway_pb2_grpc import add_GatewayServicer_to_server

OURS = Identity.make()
SIMULATED = Tier(
    "simulated-secret", frozenset({Platform.SIMULATED}), True, 600, 300, True, Padding.BASIC, TimeGrade.NOT_BEFORE, None
)
WITNESSED = replace(SIMULATED, name="witnessed", time_grade=TimeGrade.WITNESSED)


@pytest.fixture(scope="module")
def link() -> Link:
    return make_link()


@pytest.fixture(scope="module")
def port(link: Link) -> Iterator[int]:
    loop, ports = asyncio.new_event_loop(), []

    async def start() -> grpc.aio.Server:
        server = grpc.aio.server()
        add_GatewayServicer_to_server(Relay(link), server)
        ports.append(bind(server, "127.0.0.1:0", (OURS.key, OURS.certificate)))
        await server.start()
        return server

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    yield ports[0]
    asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def trust(link: Link, port: int) -> Trust:
    tiers = {tier.name: tier for tier in (SIMULATED, WITNESSED)}
    return replace(
        loopback_trust(link.enclave), gateway=f"127.0.0.1:{port}", tls=OURS.pin, require_pq=True, tiers=tiers
    )


@pytest.fixture
def pinned(trust: Trust, tmp_path: Path) -> Path:
    path = tmp_path / "trust.json"
    path.write_bytes(encode_trust(trust))
    return path


def test_it_answers_where_all_is_proved_and_says_each_hop(pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "hi", "--trust", str(pinned), "--tier", "simulated-secret", "--hops"]) == 0
    said = capsys.readouterr()
    assert said.out == TEXT + "\n"
    assert "hop client-gateway: X25519MLKEM768, post-quantum; proved; ends at the gateway's operator" in said.err
    assert (
        "hop enclave-kms-kms: RSA-2048 (RSAES-OAEP-SHA-256 envelope, inside TLS), classical (the model key" in said.err
    )


def test_json_has_the_tier_and_the_ledger(pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "hi", "--trust", str(pinned), "--tier", "simulated-secret", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["tier"] == "simulated-secret"
    assert [hop["name"] for hop in said["hops"] if hop["status"] == "proved"] == ["client-gateway", "client-enclave"]


def test_a_tier_that_is_not_met_exits_1_and_sends_nothing(
    link: Link, pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = len(link.up)
    assert main(["ask", "hi", "--trust", str(pinned), "--tier", "witnessed"]) == 1
    assert "tier 'witnessed' is not met: time grade: expected at least T3, got T1" in capsys.readouterr().err
    assert len(link.up) == sent


def test_a_tier_that_is_not_named_exits_2_before_anything_is_asked(
    link: Link, pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attests = link.attests
    assert main(["ask", "hi", "--trust", str(pinned), "--tier", "secret"]) == 2
    assert "expected simulated-secret or witnessed, got 'secret'" in capsys.readouterr().err
    assert link.attests == attests


def test_a_gateway_that_speaks_tls_alone_is_away_for_who_speaks_in_clear(
    trust: Trust, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(encode_trust(replace(trust, tls=None)))
    assert main(["ask", "hi", "--trust", str(path)]) == 2
    assert "is the stack up" in capsys.readouterr().err
