"""Seeds, penalties, probabilities, stop texts, prompts and tools in the engine, each against its own arithmetic."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation.channel.body import Finish, Message, Role, compact_json
from anchorhold.attestation.sealed.strict_json import Json
from anchorhold.client.sdk import AsyncClient
from anchorhold.client.settings import Settings
from anchorhold.enclave.model.engine import EngineRefused, GenerationRequest, TokenChunk
from anchorhold.publish.tiny import make_tiny_model
from anchorhold.sim.link import Link, loopback_trust
from anchorhold.sim.loopback import START, LoopbackEnclave
from anchorhold.sim.pki import SimulatedPki

from .engine_harness import TransformersEngine, Turn, ask, collect, generate, read, serve, torch, transformers

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # torch warns about its own modules
HOT: dict[str, Any] = {"temperature": 1.5, "top_p": 0.95}
Answer = tuple[list[int], str, TokenChunk]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder)
    return folder


def answers(tiny: Path, *requests: GenerationRequest) -> list[Answer]:
    async def all_at_once(engine: TransformersEngine) -> list[Answer]:
        return await asyncio.gather(*(collect(engine.submit(request)) for request in requests))

    return serve(read(tiny), all_at_once)


def scores(tiny: Path, request: GenerationRequest) -> tuple[str, list[Any]]:
    async def one(engine: TransformersEngine) -> tuple[str, list[Any]]:
        text = ""
        told: list[Any] = []
        async for chunk in engine.submit(request):
            text += chunk.text
            told += chunk.scores
        return text, told

    return serve(read(tiny), one)


def logits(tiny: Path, prompt: str) -> Any:
    """The model's own scores after the tokens of `prompt`, from the folder."""
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    ids = transformers.AutoTokenizer.from_pretrained(tiny)(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        return model(ids).logits[0]


# Seeds


def test_a_seed_gives_the_same_answer_again_alone_and_in_company_and_another_seed_another(tiny: Path) -> None:
    alone = answers(tiny, ask("a", most=24, seed=7, **HOT))[0]
    company = [ask(f"x{n}", "other words " * n, 24, **HOT) for n in range(1, 4)]
    again, other, *rest = answers(tiny, ask("b", most=24, seed=7, **HOT), ask("c", most=24, seed=8, **HOT), *company)
    assert again[0] == alone[0]
    assert other[0] != alone[0]
    assert all(ids != alone[0] for ids, _, _ in rest)
    negative = answers(tiny, ask("d", most=24, seed=-7, **HOT), ask("e", most=24, seed=-7, **HOT))
    assert negative[0][0] == negative[1][0] != alone[0]


def test_without_a_seed_two_processes_and_two_requests_do_not_draw_alike(tiny: Path) -> None:
    drawn = {tuple(answers(tiny, ask("a", most=24, **HOT))[0][0]) for _ in range(3)}
    assert len(drawn) == 3


def test_a_seed_draws_from_the_models_own_distribution(tiny: Path) -> None:
    prompt = "hello"
    count = 400
    wanted = (logits(tiny, prompt)[-1] / 1.0).softmax(-1)

    async def many(engine: TransformersEngine) -> list[int]:
        drawn = []
        for start in range(0, count, 8):
            requests = [
                GenerationRequest(str(seed), (), 1, temperature=1.0, prompt=prompt, seed=seed)
                for seed in range(start, start + 8)
            ]
            drawn += [ids[0] for ids, _, _ in await asyncio.gather(*(collect(engine.submit(one)) for one in requests))]
        return drawn

    drawn = serve(read(tiny), many)
    likely = wanted.topk(3)
    for token, probability in zip(likely.indices.tolist(), likely.values.tolist(), strict=True):
        spread = math.sqrt(probability * (1 - probability) / count)
        assert abs(drawn.count(token) / count - probability) < 5 * spread


# Penalties


@pytest.mark.parametrize("penalty", ["frequency_penalty", "presence_penalty"])
def test_penalties_are_what_they_are_called_and_neighbours_do_not_feel_them(tiny: Path, penalty: str) -> None:
    soft: dict[str, Any] = {penalty: 0.0}
    hard: dict[str, Any] = {penalty: 2.0}
    plain, same, less = answers(tiny, ask("a", most=40), ask("b", most=40, **soft), ask("c", most=40, **hard))
    assert plain[0] == same[0] == generate(tiny, [ask("a", most=40)])[0][0]
    assert len(set(less[0])) > len(set(plain[0]))


def test_a_penalty_is_taken_off_exactly_for_tokens_of_the_answer(tiny: Path) -> None:
    prompt = "aaaa"
    request = GenerationRequest("p", (), 12, prompt=prompt, frequency_penalty=0.5, presence_penalty=0.25)
    made = answers(tiny, request)[0][0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    ids = tokenizer(prompt).input_ids
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    expected: list[int] = []
    for _ in range(12):
        with torch.no_grad():
            row = model(torch.tensor([ids + expected])).logits[0, -1]
        for token in set(expected):
            row[token] -= 0.5 * expected.count(token) + 0.25
        expected.append(int(row.argmax()))
    assert made == expected


# Probabilities


def test_probabilities_are_the_models_own_before_any_setting_and_join_to_the_text(tiny: Path) -> None:
    request = GenerationRequest("l", (), 10, prompt="wall", logprobs=5, seed=3, temperature=0.5, top_p=0.5)
    text, told = scores(tiny, request)
    assert b"".join(one.token for one in told).decode() == text
    rows = logits(tiny, "wall" + text).log_softmax(-1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    ids = tokenizer("wall" + text).input_ids
    for at, one in enumerate(told):
        row = rows[3 + at]
        assert abs(one.logprob - float(row[ids[4 + at]])) < 1e-3
        assert [logprob for _, logprob in one.top] == sorted((logprob for _, logprob in one.top), reverse=True)
        top = row.topk(5)
        assert [token for token, _ in one.top] == [tokenizer.decode([i]).encode() for i in top.indices.tolist()]
        assert one.top[0][1] == pytest.approx(float(top.values[0]), abs=1e-3)


def test_greedy_with_probabilities_is_greedy_and_none_are_told_unasked(tiny: Path) -> None:
    plain = answers(tiny, ask("a", most=16))[0]
    text, told = scores(tiny, ask("b", most=16, logprobs=0))
    assert text == plain[1]
    assert len(told) == 16
    assert all(one.top == () for one in told)
    assert scores(tiny, ask("c", most=16))[1] == []
    assert scores(tiny, ask("d", most=16, stop=("\x00",)))[1] == []


# Stop texts


def test_a_stop_text_ends_the_answer_before_it_and_frees_the_place(tiny: Path) -> None:
    plain = answers(tiny, ask("a", most=60))[0][1]
    stop = plain[20:23]
    expected = plain[: plain.index(stop)]

    async def stopped(engine: TransformersEngine) -> tuple[Answer, int]:
        answer = await collect(engine.submit(ask("b", most=400, stop=("\x00never", stop), logprobs=0)))
        return answer, engine.stats().active

    (ids, text, last), active = serve(read(tiny), stopped)
    assert text == expected
    assert last.finish_reason == "stop"
    assert last.completion_tokens == len(ids) < 60
    assert active == 0


def test_a_stop_text_that_never_comes_changes_nothing(tiny: Path) -> None:
    plain, same = answers(tiny, ask("a", most=30), ask("b", most=30, stop=("\x01\x02",)))
    assert same[:2] == plain[:2]
    assert same[2].finish_reason == "length"


# Prompts


def test_a_prompt_is_continued_as_it_stands(tiny: Path) -> None:
    made = answers(tiny, GenerationRequest("p", (), 12, prompt="Once upon"))[0]
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    encoded = transformers.AutoTokenizer.from_pretrained(tiny)("Once upon", return_tensors="pt")
    out = model.generate(**encoded, max_new_tokens=12, do_sample=False)
    assert made[0] == out[0, encoded.input_ids.shape[1] :].tolist()
    assert made[2].prompt_tokens == encoded.input_ids.shape[1]


# Tools

TOOLS: list[Json] = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "b": 1, "a": 2}}}
]
CALLS: list[Json] = [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln"}}}]
TEMPLATE = """{%- if tools %}{{- '<tools>' }}{%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
{{- '</tools>' }}{%- endif %}
{%- for message in messages %}
{%- if message.role == "assistant" and message.tool_calls %}
{%- for tool_call in message.tool_calls %}{%- if tool_call.function is defined %}
{%- set tool_call = tool_call.function %}{%- endif %}
{{- '<call>{"name": "' + tool_call.name + '", "arguments": ' }}
{{- tool_call.arguments | tojson }}{{- '}</call>' }}{%- endfor %}
{%- elif message.role == "tool" %}{{- '<answer>' + message.content + '</answer>' }}
{%- else %}{{- '<' + message.role + '>' + message.content }}{%- endif %}
{%- endfor %}{%- if add_generation_prompt %}{{- '<assistant>' }}{%- endif %}"""


def turns() -> list[Turn]:
    called = Turn("assistant", "", json.dumps(CALLS))
    return [Turn("user", "How is it?"), called, Turn("tool", "rain"), Turn("user", "And now?")]


def test_tools_calls_and_their_answers_reach_the_template_as_transformers_gives_them(tiny: Path) -> None:
    files = read(tiny)
    files["chat_template.jinja"] = bytearray(TEMPLATE.encode())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    messages: list[dict[str, object]] = [
        {"role": one.role, "content": one.content} | ({"tool_calls": CALLS} if one.calls else {}) for one in turns()
    ]
    expected = tokenizer.apply_chat_template(
        messages, tools=TOOLS, chat_template=TEMPLATE, add_generation_prompt=True, tokenize=False
    )
    assert "<tools>" in expected
    assert "Köln" in expected

    async def render(engine: TransformersEngine) -> str:
        return engine._loaded.template.render(turns(), json.dumps(TOOLS))

    assert serve(files, render) == expected


def test_tools_go_from_the_client_to_the_models_own_prompt_whole(tiny: Path) -> None:
    """Both ends of the channel, the real engine: the prompt has exactly the tokens that transformers makes of it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    messages = [Message(Role(one.role), one.content, one.calls and compact_json(CALLS)) for one in turns()]
    plain = [
        {"role": one.role, "content": one.content} | ({"tool_calls": CALLS} if one.calls else {}) for one in turns()
    ]
    expected = tokenizer.apply_chat_template(
        plain, tools=TOOLS, chat_template=TEMPLATE, add_generation_prompt=True, return_dict=False
    )
    files = read(tiny)
    files["chat_template.jinja"] = bytearray(TEMPLATE.encode())

    async def ask_it(engine: TransformersEngine) -> Finish:
        enclave = LoopbackEnclave(SimulatedPki.create(START), engine=engine)  # type: ignore[arg-type]  # any Engine does
        async with AsyncClient(loopback_trust(enclave), gateway=Link(enclave), now=enclave.clock.utc) as client:
            return (await client.ask(messages, Settings(max_tokens=3, tools=compact_json(TOOLS)))).finish

    finish = serve(files, ask_it)
    assert (finish.prompt_tokens, finish.completion_tokens) == (len(expected), 3)


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest("1", [Turn("user", "hi")], 4, tools=json.dumps(TOOLS)),
        GenerationRequest("1", [Turn("user", "hi"), Turn("tool", "rain")], 4),
        GenerationRequest("1", [Turn("user", "hi"), Turn("assistant", "", json.dumps(CALLS))], 4),
    ],
)
def test_a_model_whose_template_takes_no_tools_says_so(tiny: Path, request_: GenerationRequest) -> None:
    assert refused(tiny, request_) == "unsupported"


@pytest.mark.parametrize(
    "request_",
    [
        ask("a", frequency_penalty=2.1),
        ask("a", presence_penalty=float("nan")),
        ask("a", logprobs=21),
        ask("a", stop=("a",) * 5),
        ask("a", stop=("",)),
        ask("a", stop=("x" * 257,)),
        ask("a", prompt="and messages"),
        GenerationRequest("a", (), 4, prompt="x", tools="[]"),
        GenerationRequest("a", (), 4, prompt=""),
    ],
)
def test_settings_out_of_bounds_are_refused(tiny: Path, request_: GenerationRequest) -> None:
    assert refused(tiny, request_) == "bad-request"


def refused(tiny: Path, request: GenerationRequest) -> str:
    async def one(engine: TransformersEngine) -> str:
        with pytest.raises(EngineRefused) as caught:
            await collect(engine.submit(request))
        return caught.value.code

    use: Callable[[TransformersEngine], Awaitable[str]] = one
    return serve(read(tiny), use)
