"""What is asked reaches the engine whole, and what the engine says reaches the client in the form asked for."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from anchorhold.attestation.channel.body import Message, Role
from anchorhold.attestation.channel.client import Delta
from anchorhold.attestation.channel.pieces import Candidate, TokenLogprob
from anchorhold.client.conversation import Prompt
from anchorhold.client.errors import LeaseEnded, RequestInvalid
from anchorhold.client.sdk import AsyncClient
from anchorhold.client.settings import Settings
from anchorhold.enclave.model.engine import EngineChunk, EngineRequest, GenerationRequest, TokenChunk, TokenScore
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import START, LoopbackEnclave, ManualClock, ScriptedEngine
from anchorhold.sim.pki import SimulatedPki

from .test_exchange import TimePasses, refusal

PKI = SimulatedPki.create(START)


@pytest.fixture
def enclave() -> LoopbackEnclave:
    return LoopbackEnclave(PKI)


def test_vectors_come_one_record_each_under_one_receipt(enclave: LoopbackEnclave) -> None:
    client = AsyncClient(loopback_trust(enclave), gateway=Link(enclave), now=enclave.clock.utc)
    answer = asyncio.run(client.embed(["one", "three"], Settings(partition=b"p")))
    assert [one.vector for one in answer.vectors] == [(3.0, 0.0), (5.0, 1.0)]
    assert (answer.finish.prompt_tokens, answer.finish.completion_tokens) == (2, 0)
    assert answer.receipt.receipt.records == 3
    asked = enclave.engine.embedded[0]
    assert tuple(asked.inputs) == ("one", "three")
    assert len(asked.namespace) == 32


def test_no_vector_leaves_after_the_lease() -> None:
    clock = ManualClock()
    enclave = LoopbackEnclave(PKI, clock=clock, engine=TimePasses(clock, 0.9), lease_s=2.0)
    client = AsyncClient(loopback_trust(enclave), gateway=Link(enclave), now=clock.utc)
    with pytest.raises(LeaseEnded) as ended:
        asyncio.run(client.embed(["a", "b", "c"]))
    assert ended.value.receipt is not None
    assert ended.value.receipt.receipt.records == 3, "two vectors and the error"


class Telling(ScriptedEngine):
    """Tells of its tokens, in one chunk more text and tokens than a record holds."""

    WIDE = TokenScore(b"w" * 600, -0.5, tuple((b"x" * 512, -float(at)) for at in range(20)))

    async def submit(self, request: EngineRequest) -> AsyncIterator[EngineChunk]:
        assert isinstance(request, GenerationRequest)
        self.seen.append(request)
        yield TokenChunk("one", (1,), None, 3, 1, (TokenScore(b"one", -0.25, ((b"one", -0.25),)),))
        yield TokenChunk("", (2,), None, 3, 2)
        yield TokenChunk("\u00e4" * 9_000, (3,) * 12, "stop", 3, 14, (self.WIDE,) * 12)


def test_tokens_and_their_probabilities_come_with_the_text_in_as_many_records_as_it_takes() -> None:
    enclave = LoopbackEnclave(PKI, engine=Telling())
    client = AsyncClient(loopback_trust(enclave), gateway=Link(enclave), now=enclave.clock.utc)

    async def stream() -> list[Delta]:
        return [one async for one in client.stream("hi", Settings(logprobs=20)) if isinstance(one, Delta)]

    deltas = asyncio.run(stream())
    assert deltas[0] == Delta("one", (TokenLogprob(b"one", -250_000, (Candidate(b"one", -250_000),)),))
    assert "".join(one.text for one in deltas) == "one" + "\u00e4" * 9_000
    tokens = [token for one in deltas[1:] for token in one.logprobs]
    assert len(tokens) == 12
    assert {len(token.token) for token in tokens} == {512}, "cut, and said so in the specification"
    assert [token.top[3].logprob_micro for token in tokens] == [-3_000_000] * 12
    assert len([one for one in deltas if one.logprobs]) > 2


def test_every_setting_reaches_the_engine_as_it_was_asked(enclave: LoopbackEnclave) -> None:
    settings = Settings(
        max_tokens=5, temperature_milli=700, top_p_milli=900, seed=-3, stop=("a", "b"), logprobs=4,
        frequency_penalty_milli=250, presence_penalty_milli=-500, tools='[{"a":1}]',
    )  # fmt: skip
    client = AsyncClient(loopback_trust(enclave), gateway=Link(enclave), now=enclave.clock.utc)

    async def both() -> None:
        await client.ask((Message(Role.ASSISTANT, "x", '[{"b":2}]'),), settings)
        await client.ask(Prompt("once"), replace(settings, tools=None))
        with pytest.raises(RequestInvalid, match="tools"):
            await client.ask(Prompt("once"), settings)

    asyncio.run(both())
    chat, complete = enclave.engine.seen
    same = ("max_tokens", "temperature", "top_p", "seed", "stop", "logprobs", "frequency_penalty", "presence_penalty")
    for one in (chat, complete):
        assert [getattr(one, name) for name in same] == [5, 0.7, 0.9, -3, ("a", "b"), 4, 0.25, -0.5]
    assert (chat.messages[0].calls, chat.tools, chat.prompt) == ('[{"b":2}]', '[{"a":1}]', None)
    assert (tuple(complete.messages), complete.tools, complete.prompt) == ((), None, "once")


def test_what_an_engine_cannot_do_is_said_under_the_response_key(enclave: LoopbackEnclave) -> None:
    enclave.engine.refuse = "unsupported"
    assert refusal(enclave, Settings(tools='[{"a":1}]')).code == "unsupported"
