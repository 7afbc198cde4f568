"""The hop ledger says what was negotiated, by whom, and on whose word; and require_pq refuses what it does not hold."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
import jsonschema
import pytest
from tests.client.identity import NAME, Identity

from anchorhold.client.errors import Unavailable
from anchorhold.client.hops import HopNotPostQuantum, HopStatus
from anchorhold.client.sdk import AsyncClient, Settings
from anchorhold.client.tls import (
    GatewayTls,
    TlsPin,
)
from anchorhold.client.tls_gateway import TlsGateway
from anchorhold.parent.config import ConfigError, parse_config
from anchorhold.parent.gateway import bind
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import KMS, START, LoopbackEnclave, ManualClock, loopback_configuration
from anchorhold.sim.pki import SimulatedPki

T = TypeVar("T")
STATUS = json.loads((Path(__file__).parents[2] / "docs/schema/status.schema.json").read_text())
HOP = {"$defs": STATUS["$defs"], **STATUS["$defs"]["hop"]}
PKI = SimulatedPki.create(START)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 30))


OURS = Identity.make()


async def nothing(_request: bytes, _context: object) -> bytes:
    return b""


def service() -> grpc.GenericRpcHandler:
    """A gateway that answers, and has nothing to say."""
    return grpc.method_handlers_generic_handler(
        "anchorhold.v1.Gateway", {"Enclaves": grpc.unary_unary_rpc_method_handler(nothing)}
    )


@contextlib.asynccontextmanager
async def parent(identity: Identity | None) -> AsyncIterator[str]:
    """A server bound as the parent binds its own."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service(),))
    port = bind(server, "127.0.0.1:0", None if identity is None else (identity.key, identity.certificate))
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def classical(folder: Path, seen: list[bytes]) -> AsyncIterator[str]:
    """A TLS that knows no post-quantum key exchange, before a parent in clear."""
    async with parent(None) as address:
        host, _, port = address.partition(":")

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far, far_out = await asyncio.open_connection(host, int(port))

            async def up() -> None:
                while data := await reader.read(65_536):
                    seen.append(data)
                    far_out.write(data)
                far_out.close()

            rising = asyncio.create_task(up())
            with contextlib.suppress(OSError):
                while data := await far.read(65_536):
                    writer.write(data)
            rising.cancel()
            writer.close()

        server = await asyncio.start_server(carry, "127.0.0.1", 0, ssl=OURS.context(folder))
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()


@contextlib.asynccontextmanager
async def over_tls(address: str, pin: TlsPin = OURS.pin, *, require_pq: bool = False) -> AsyncIterator[TlsGateway]:
    gateway = TlsGateway(address, pin, require_pq=require_pq)
    try:
        yield gateway
    finally:
        await gateway.close()


@pytest.mark.parametrize("require_pq", [False, True])
def test_tls_to_a_parent_is_post_quantum_and_the_client_sees_so(require_pq: bool) -> None:
    async def go() -> tuple[GatewayTls, GatewayTls]:
        async with parent(OURS) as address, over_tls(address, require_pq=require_pq) as gateway:
            before = gateway.tls
            await gateway.enclaves()
            return before, gateway.tls

    before, after = run(go())
    assert before == GatewayTls(encrypted=True, server=NAME, group=None)
    assert after == GatewayTls(encrypted=True, server=NAME, group="X25519MLKEM768")


def test_a_classical_gateway_is_seen_as_what_it_is(tmp_path: Path) -> None:
    async def go() -> GatewayTls:
        async with classical(tmp_path, []) as address, over_tls(address) as gateway:
            await gateway.enclaves()
            return gateway.tls

    assert run(go()).group == "X25519"


def test_where_all_must_be_post_quantum_a_classical_gateway_is_told_nothing(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def go() -> HopNotPostQuantum:
        async with classical(tmp_path, seen) as address, over_tls(address, require_pq=True) as gateway:
            with pytest.raises(HopNotPostQuantum) as refusal:
                await gateway.enclaves()
            return refusal.value

    error = run(go())
    assert (error.code, error.hop, error.key_exchange) == ("hop-not-pq", "client-gateway", "X25519")
    assert seen == []


class Moves(TlsGateway):
    """The address that was a parent's is another's."""

    def move(self, address: str) -> None:
        self._tunnel._address = address


def test_a_gateway_that_comes_back_is_spoken_to_again() -> None:
    async def go() -> GatewayTls:
        async with parent(OURS) as other:
            async with parent(OURS) as address:
                gateway = Moves(address, OURS.pin, require_pq=True)
                await gateway.enclaves()
            gateway.move(other)
            try:
                await gateway.enclaves()
                return gateway.tls
            finally:
                await gateway.close()

    assert run(go()).group == "X25519MLKEM768"


def test_a_gateway_that_was_post_quantum_may_not_become_classical(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def go() -> None:
        async with classical(tmp_path, seen) as other:
            async with parent(OURS) as address:
                gateway = Moves(address, OURS.pin, require_pq=False)
                await gateway.enclaves()
            gateway.move(other)
            try:
                with pytest.raises(HopNotPostQuantum):
                    await gateway.enclaves()
            finally:
                await gateway.close()

    run(go())
    assert seen == []


@pytest.mark.parametrize("identity", [Identity.make(), Identity.make("other.example")])
def test_a_certificate_that_is_not_pinned_is_refused(identity: Identity) -> None:
    async def go() -> None:
        async with parent(identity) as address, over_tls(address) as gateway:
            with pytest.raises(Unavailable):
                await gateway.enclaves()

    run(go())


def test_a_pinned_certificate_of_another_name_is_refused() -> None:
    other = Identity.make("other.example")

    async def go() -> None:
        async with parent(other) as address, over_tls(address, other.pin) as gateway:
            with pytest.raises(Unavailable):
                await gateway.enclaves()

    run(go())


def test_a_gateway_in_clear_is_not_spoken_to_where_tls_is_pinned() -> None:
    async def go() -> None:
        async with parent(None) as address, over_tls(address) as gateway:
            with pytest.raises(Unavailable):
                await gateway.enclaves()

    run(go())


# --- the ledger ---


class Over(Link):
    def __init__(self, enclave: LoopbackEnclave, tls: GatewayTls | None) -> None:
        super().__init__(enclave)
        if tls is not None:
            self.tls = tls


PQ = GatewayTls(encrypted=True, server=NAME, group="X25519MLKEM768")


def enclave(kinds: Sequence[str] = ("kms", "owner")) -> LoopbackEnclave:
    made = LoopbackEnclave(PKI, ManualClock(START))
    assert made.configuration is not None
    kept = tuple(one for one in made.configuration.sources if one.kind in kinds)
    configuration = loopback_configuration(made.owner_key, sources=kept)
    return LoopbackEnclave(PKI, made.clock, configuration, owner_key=made.owner_key)


def rows(tls: GatewayTls | None, kinds: Sequence[str] = ("kms", "owner")) -> dict[str, dict[str, object]]:
    link = Over(enclave(kinds), tls)

    async def go() -> dict[str, dict[str, object]]:
        async with AsyncClient(loopback_trust(link.enclave), gateway=link, now=link.enclave.clock.utc) as client:
            hops = client.hops(await client.verify())
        return {hop.name: {**hop.as_json(), "holds": hop.holds} for hop in hops}

    return run(go())


def test_the_ledger_has_a_row_for_each_hop_in_the_form_that_is_published() -> None:
    found = rows(PQ)
    assert list(found) == [
        "client-gateway",
        "gateway-enclave",
        "client-enclave",
        "enclave-kms-kms",
        "enclave-owner-owner",
        "enclave-log",
    ]
    for row in found.values():
        assert row.pop("holds") is True
        jsonschema.validate(row, HOP)


def test_what_is_proved_is_what_the_client_saw_or_verified() -> None:
    found = rows(PQ)
    proved = {name for name, row in found.items() if row["status"] == HopStatus.PROVED.value}
    assert proved == {"client-gateway", "client-enclave"}
    assert found["client-enclave"]["key_exchange"] == "MLKEM768-X25519/HKDF-SHA256/AES-256-GCM"


@pytest.mark.parametrize(
    ("tls", "exchange", "pq", "status"),
    [
        (None, "unknown", None, "not-checked"),
        (GatewayTls(encrypted=False), "none", False, "proved"),
        (replace(PQ, group=None), "unknown", None, "not-checked"),
        (replace(PQ, group="X25519"), "X25519", False, "proved"),
        (PQ, "X25519MLKEM768", True, "proved"),
    ],
)
def test_the_hop_to_the_gateway(tls: GatewayTls | None, exchange: str, pq: bool | None, status: str) -> None:
    row = rows(tls)["client-gateway"]
    assert (row["key_exchange"], row["post_quantum"], row["status"]) == (exchange, pq, status)
    assert row["holds"] is (pq is True)


def test_a_kms_s_classical_envelope_counts_only_beside_an_owner_s_share() -> None:
    split, alone = rows(PQ)["enclave-kms-kms"], rows(PQ, ["kms"])["enclave-kms-kms"]
    assert split["post_quantum"] is alone["post_quantum"] is False
    assert (split["holds"], alone["holds"]) == (True, False)
    assert "the model key needs the share of 'owner' too" in str(split["detail"])
    assert "counts all the same" not in str(alone["detail"])


def ask(tls: GatewayTls | None, kinds: Sequence[str] = ("kms", "owner"), *, require_pq: bool = True) -> Link:
    link = Over(enclave(kinds), tls)

    async def go() -> None:
        trust = replace(loopback_trust(link.enclave), require_pq=require_pq)
        async with AsyncClient(trust, gateway=link, now=link.enclave.clock.utc) as client:
            try:
                await client.ask("hi", Settings())
            except HopNotPostQuantum:
                assert link.up == [], "nothing of the request has left"
                raise

    run(go())
    return link


def test_require_pq_is_met_by_a_split_release_behind_post_quantum_tls() -> None:
    assert ask(PQ).up


@pytest.mark.parametrize(
    ("tls", "kinds", "hop"),
    [
        (None, ["kms", "owner"], "client-gateway"),
        (GatewayTls(encrypted=False), ["kms", "owner"], "client-gateway"),
        (replace(PQ, group="X25519"), ["kms", "owner"], "client-gateway"),
        (PQ, ["kms"], f"enclave-kms-{KMS}"),
    ],
)
def test_require_pq_names_the_hop_that_is_not(tls: GatewayTls | None, kinds: list[str], hop: str) -> None:
    with pytest.raises(HopNotPostQuantum) as refusal:
        ask(tls, kinds)
    assert refusal.value.hop == hop
    assert ask(tls, kinds, require_pq=False).up, "it is this demand alone that refuses"


# --- the parent's configuration ---

PARENT: dict[str, object] = {
    "listen": "127.0.0.1:0",
    "window": "/w",
    "configuration": "c",
    "credentials": "k",
    "sealed": "s",
    "log": "http://127.0.0.1:1",
    "egress": {},
    "enclave": {"command": ["nitro-cli"], "eif": "e", "args": [], "start": False},
}


def test_a_parent_is_given_certificate_and_key_by_path(tmp_path: Path) -> None:
    assert parse_config(PARENT).tls is None
    (tmp_path / "c.pem").write_bytes(OURS.certificate)
    (tmp_path / "k.pem").write_bytes(OURS.key)
    told = parse_config({**PARENT, "tls": {"certificate": str(tmp_path / "c.pem"), "key": str(tmp_path / "k.pem")}}).tls
    assert told is not None
    assert told.read() == (OURS.key, OURS.certificate)


@pytest.mark.parametrize("tls", [None, "c.pem", {}, {"certificate": "c"}, {"certificate": "c", "key": "k", "more": 1}])
def test_a_parent_s_tls_is_whole_or_refused(tls: object) -> None:
    with pytest.raises(ConfigError):
        parse_config({**PARENT, "tls": tls})


def test_a_parent_without_its_certificate_does_not_go_on_in_clear() -> None:
    told = parse_config({**PARENT, "tls": {"certificate": "/nowhere/c.pem", "key": "/nowhere/k.pem"}}).tls
    assert told is not None
    with pytest.raises(ConfigError, match="nowhere"):
        told.read()
