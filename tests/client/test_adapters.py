"""A request with an adapter: what is sealed names it, the receipt must too, and what cannot be is refused unsent."""

import asyncio
from collections.abc import Callable

import pytest
from tests.client.adapting import ADAPTER, OTHER, TEXT, Adapter, AdaptingLink

from anchorhold.attestation.channel.body import Message, Role
from anchorhold.attestation.channel.client import TenantKey
from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.types import ModelDigest
from anchorhold.client.conversation import Conversation, Prompt
from anchorhold.client.errors import AdapterNotGranted, Refused, RequestInvalid
from anchorhold.client.sdk import Answer, AsyncClient, Settings
from anchorhold.sim.link import loopback_trust
from anchorhold.sim.loopback import START


@pytest.fixture
def link() -> AdaptingLink:
    return AdaptingLink(START)


def client(link: AdaptingLink, tenant: TenantKey | None) -> AsyncClient:
    return AsyncClient(loopback_trust(link.enclave), gateway=link, tenant=tenant, now=link.enclave.clock.utc)


def ask(
    link: AdaptingLink,
    adapter: str | bytes | None,
    *,
    tenant: TenantKey | None = None,
    conversation: Conversation = "hi",
) -> Answer:
    asking = client(link, tenant or link.tenant(ADAPTER, OTHER))
    return asyncio.run(asking.ask(conversation, Settings(adapter=adapter)))


@pytest.mark.parametrize("named", [ADAPTER, ADAPTER.hex(), ADAPTER.hex().upper()], ids=["bytes", "hex", "upper"])
@pytest.mark.parametrize(
    "conversation", ["hi", Prompt("Once"), [Message(Role.USER, "hi")]], ids=["question", "prompt", "messages"]
)
def test_the_adapter_asked_for_is_sealed_and_is_in_the_receipt(
    link: AdaptingLink, named: str | bytes, conversation: Conversation
) -> None:
    answer = ask(link, named, conversation=conversation)
    assert answer.text == TEXT
    assert link.adapters == [ADAPTER]
    assert link.asked[0].sealed.credential is not None
    assert answer.receipt.receipt.adapter == ADAPTER


def test_each_request_names_its_own_and_none_is_none(link: AdaptingLink) -> None:
    async def run() -> list[Answer]:
        asking = client(link, link.tenant(ADAPTER, OTHER))
        return [await asking.ask("hi", Settings(adapter=one)) for one in (OTHER, None, ADAPTER)]

    answers = asyncio.run(run())
    assert link.adapters == [OTHER, None, ADAPTER]
    assert [one.receipt.receipt.adapter for one in answers] == [OTHER, None, ADAPTER]


@pytest.mark.parametrize(
    ("asked", "says"),
    [(ADAPTER, lambda _: OTHER), (ADAPTER, lambda _: None), (None, lambda _: ADAPTER)],
    ids=["another", "none for one", "one for none"],
)
@pytest.mark.parametrize("refuses", [None, Code.ADAPTER], ids=["answered", "refused"])
def test_a_receipt_about_another_adapter_is_refused(
    link: AdaptingLink, asked: Adapter, says: Callable[[Adapter], Adapter], refuses: Code | None
) -> None:
    link.says, link.refuses = says, refuses
    with pytest.raises(Mismatch) as caught:
        ask(link, asked)
    assert (caught.value.what, caught.value.code) == ("receipt: adapter", "receipt")
    assert (caught.value.expected, caught.value.actual) == (asked, says(asked))


def test_the_enclave_s_word_on_an_adapter_is_a_refusal_with_its_receipt(link: AdaptingLink) -> None:
    link.refuses = Code.ADAPTER
    with pytest.raises(Refused) as caught:
        ask(link, ADAPTER)
    assert caught.value.code == "adapter"
    assert caught.value.receipt.receipt.adapter == ADAPTER


def test_without_a_credential_nothing_is_sent_and_nobody_is_asked(link: AdaptingLink) -> None:
    with pytest.raises(AdapterNotGranted):
        asyncio.run(client(link, None).ask("hi", Settings(adapter=ADAPTER)))
    assert (link.attests, link.up) == (0, [])


@pytest.mark.parametrize("listed", [(), (OTHER,)], ids=["none", "another"])
def test_an_adapter_that_the_credential_does_not_list_is_not_asked_for(
    link: AdaptingLink, listed: tuple[ModelDigest, ...]
) -> None:
    tenant = link.tenant(*listed)
    with pytest.raises(AdapterNotGranted) as caught:
        ask(link, ADAPTER, tenant=tenant)
    assert ADAPTER.hex() in str(caught.value)
    assert link.up == []
    ask(link, None, tenant=tenant)
    assert link.adapters == [None], "without an adapter it is good"


@pytest.mark.parametrize("named", ["", "ad", "zz" * 48, b"", bytes(47), bytes(49), ADAPTER.hex() + "00"])
def test_what_is_no_digest_is_the_caller_s_mistake(link: AdaptingLink, named: str | bytes) -> None:
    with pytest.raises(RequestInvalid, match="96 hex digits or 48 bytes"):
        ask(link, named)
    assert link.up == []


def test_texts_to_embed_take_no_adapter(link: AdaptingLink) -> None:
    with pytest.raises(RequestInvalid, match="adapter"):
        asyncio.run(client(link, link.tenant(ADAPTER)).embed(["a"], Settings(adapter=ADAPTER)))
    assert link.up == []
