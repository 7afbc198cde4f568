"""Adapters as models of their own: a name asks for exactly its adapter, and the answer says that name."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from tests.client.adapting import ADAPTER, OTHER, TEXT, AdaptingLink
from tests.client.proxying import Proxying, chat, proxying
from tests.client.test_proxy import code

from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.types import ModelDigest
from anchorhold.client.errors import LeaseEnded
from anchorhold.client.proxy.keeper import Keeper, State
from anchorhold.client.sdk import AsyncClient, Settings
from anchorhold.sim.link import loopback_trust

NAMES = {"support": ADAPTER, "legal/eu": OTHER}


def make_link() -> AdaptingLink:
    return AdaptingLink(datetime.now(UTC))  # noqa: TID251 - the client judges by the machine's clock


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxying]:
    link = make_link()
    with proxying(link, names=("gpt-9",), adapters=NAMES, tenant=link.tenant(ADAPTER, OTHER)) as running:
        yield running


@pytest.fixture
def link(proxy: Proxying) -> AdaptingLink:
    assert isinstance(proxy.link, AdaptingLink)
    proxy.link.asked.clear()
    return proxy.link


def test_the_list_has_each_name_and_says_its_adapter(proxy: Proxying) -> None:
    listed = proxy.http.get("/v1/models").json()["data"]
    assert {one["id"]: one["anchorhold"].get("adapter") for one in listed} == {
        "tiny": None,
        "support": ADAPTER.hex(),
        "legal/eu": OTHER.hex(),
    }
    assert proxy.http.get("/v1/models/legal/eu").json() == listed[2]
    assert proxy.http.get("/v1/models/gpt-9").json() == listed[0]
    assert proxy.http.get("/v1/models/legal").status_code == 404


@pytest.mark.parametrize(
    ("named", "adapter", "said"),
    [("tiny", None, "tiny"), ("gpt-9", None, "tiny"), ("support", ADAPTER, "support"), ("legal/eu", OTHER, "legal/eu")],
    ids=["alias", "also as", "one", "other"],
)
def test_a_name_asks_for_its_adapter_on_every_route(
    proxy: Proxying, link: AdaptingLink, named: str, adapter: bytes | None, said: str
) -> None:
    bodies: dict[str, dict[str, object]] = {
        "/v1/chat/completions": chat(model=named),
        "/v1/completions": {"model": named, "prompt": "Once"},
        "/v1/responses": {"model": named, "input": "hi"},
    }
    for path, body in bodies.items():
        answer = proxy.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == said
        streamed = proxy.http.post(path, json=body | {"stream": True}).text
        events = [json.loads(one[6:]) for one in streamed.splitlines() if one.startswith("data: {")]
        models = {one.get("model") or one.get("response", {}).get("model") for one in events} - {None}
        assert models == {said}
    assert link.adapters == [adapter] * 6


def test_every_choice_is_made_with_it(proxy: Proxying, link: AdaptingLink) -> None:
    answer = proxy.chat(model="support", n=3).json()
    assert [one["message"]["content"] for one in answer["choices"]] == [TEXT] * 3
    assert link.adapters == [ADAPTER] * 3
    plain = proxy.chat().json()["system_fingerprint"]
    assert answer["system_fingerprint"] == f"{plain}_{ADAPTER.hex()[:16]}"


@pytest.mark.parametrize("named", ["suppor", "Support", ADAPTER.hex(), "legal"])
def test_a_name_that_is_none_is_refused_and_not_answered_by_another(
    proxy: Proxying, link: AdaptingLink, named: str
) -> None:
    answer = proxy.chat(model=named)
    assert (answer.status_code, code(answer)) == (404, "model-not-found")
    assert link.asked == []


def test_embeddings_under_an_adapter_s_name_are_refused(proxy: Proxying, link: AdaptingLink) -> None:
    answer = proxy.http.post("/v1/embeddings", json={"model": "support", "input": "hi"})
    assert (answer.status_code, code(answer)) == (400, "unsupported-parameter")
    assert answer.json()["error"]["param"] == "model"
    assert link.asked == []


def test_an_adapter_of_all_requests_answers_under_the_alias() -> None:
    """As a transport is told it, which has no names."""
    link = make_link()
    with proxying(link, base=Settings(adapter=ADAPTER.hex()), tenant=link.tenant(ADAPTER)) as proxy:
        assert proxy.chat().json()["model"] == "tiny"
        assert link.adapters == [ADAPTER]
        assert proxy.http.post("/v1/embeddings", json={"model": "tiny", "input": "hi"}).status_code == 400


def test_what_the_credential_does_not_list_is_forbidden_and_not_sent() -> None:
    link = make_link()
    with proxying(link, adapters=NAMES, tenant=link.tenant(OTHER)) as proxy:
        answer = proxy.chat(model="support")
        assert (answer.status_code, code(answer)) == (403, "adapter-not-granted")
        assert link.up == []
        assert proxy.chat(model="legal/eu").status_code == 200


def test_the_enclave_s_refusal_of_an_adapter_and_a_false_receipt_are_told_apart() -> None:
    link = make_link()
    with proxying(link, adapters=NAMES, tenant=link.tenant(ADAPTER)) as proxy:
        link.refuses = Code.ADAPTER
        answer = proxy.chat(model="support")
        assert (answer.status_code, code(answer), answer.headers["x-should-retry"]) == (403, "adapter", "false")
        link.refuses, link.says = None, lambda _: None
        answer = proxy.chat(model="support")
        assert (answer.status_code, code(answer)) == (502, "receipt")


@pytest.mark.parametrize("adapter", [ADAPTER, None], ids=["of an adapter", "of the model"])
def test_a_lease_that_may_be_the_adapter_s_alone_is_a_doubt_and_not_the_end(adapter: ModelDigest | None) -> None:
    link = make_link()

    async def work() -> State:
        trust, clock = loopback_trust(link.enclave), link.enclave.clock
        client = AsyncClient(trust, gateway=link, tenant=link.tenant(ADAPTER), now=clock.utc)
        keeper = Keeper(client, trust, clock.utc)
        await keeper.ready()
        link.refuses = Code.LEASE_ENDED
        with pytest.raises(LeaseEnded) as caught:
            await client.ask("hi", Settings(adapter=adapter))
        keeper.note(caught.value)
        state = keeper.standing.state
        before = link.attests
        await keeper.ready()
        assert link.attests == before + 1, "the evidence says whose lease it was"
        return state

    assert asyncio.run(work()) is (State.LEASE_ENDED if adapter is None else State.VERIFIED_SIMULATED)
