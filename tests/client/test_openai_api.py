"""OpenAI's parameters arrive at the engine as they were meant, and what it says comes back in OpenAI's form."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.client.linking import TEXT, make_link
from tests.client.proxying import Proxying, proxying

from anchorhold.attestation.channel.body import Role
from anchorhold.client.openai_api.calls import CallReader
from anchorhold.enclave.model.engine import GenerationRequest
from anchorhold.sim.link import Link
from anchorhold.sim.loopback import ScriptedEngine

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Łódź"}}\n</tool_call>'
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxying]:
    with proxying(make_link()) as running:
        yield running


def nested(depth: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(depth):
        value = {"items": value}
    return value


def engine(proxy: Proxying) -> ScriptedEngine:
    return proxy.link.enclave.engine


def asked(proxy: Proxying, **more: object) -> GenerationRequest:
    answer = proxy.chat(**more)
    assert answer.status_code == 200, answer.text
    return engine(proxy).seen[-1]


def test_what_is_not_said_is_openai_s_default(proxy: Proxying) -> None:
    seen = asked(proxy)
    assert (seen.temperature, seen.top_p, seen.seed, seen.stop, seen.logprobs) == (1.0, 1.0, None, (), None)
    assert (seen.frequency_penalty, seen.presence_penalty, seen.tools) == (0.0, 0.0, None)


def test_every_sampling_parameter_arrives(proxy: Proxying) -> None:
    seen = asked(
        proxy,
        temperature=0.25,
        top_p=0.9,
        seed=-5,
        stop=["a", "b"],
        max_completion_tokens=33,
        frequency_penalty=-0.5,
        presence_penalty=1.5,
    )
    assert (seen.temperature, seen.top_p, seen.seed, seen.stop) == (0.25, 0.9, -5, ("a", "b"))
    assert (seen.max_tokens, seen.frequency_penalty, seen.presence_penalty) == (33, -0.5, 1.5)
    assert asked(proxy, stop="one").stop == ("one",)
    assert asked(proxy, temperature=0).temperature == 0
    assert asked(proxy, top_p=0).top_p == 0.001


def test_each_choice_is_a_request_of_its_own_seed(proxy: Proxying) -> None:
    before = len(engine(proxy).seen)
    answer = proxy.chat(n=3, seed=2**63 - 1)
    assert [one["index"] for one in answer.json()["choices"]] == [0, 1, 2]
    assert len(answer.headers["anchorhold-receipts"].split(",")) == 3
    assert {one.seed for one in engine(proxy).seen[before:]} == {2**63 - 1, -(2**63), -(2**63) + 1}
    assert answer.json()["usage"] == {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}


def test_messages_of_every_role_arrive(proxy: Proxying) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "x"}'}}
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
    ]
    seen = asked(proxy, messages=messages, tools=[TOOL])
    assert [(one.role, one.content) for one in seen.messages] == [
        (Role.SYSTEM, "be brief"),
        (Role.USER, "ab"),
        (Role.ASSISTANT, ""),
        (Role.TOOL, "rain"),
    ]
    assert seen.messages[2].calls is not None
    assert json.loads(seen.messages[2].calls)[0]["function"] == {"name": "weather", "arguments": {"city": "x"}}
    assert seen.tools is not None
    assert json.loads(seen.tools) == [TOOL]
    assert asked(proxy, tools=[TOOL], tool_choice="none").tools is None


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
        {"role": "user", "content": None},
        {"role": "user", "content": 5},
        {"role": "nobody", "content": "x"},
        {"role": "user", "content": "x", "name": "anna"},
        {"role": "user", "content": "x", "tool_calls": []},
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function"}]},
        {"content": "x"},
    ],
)
def test_a_message_that_cannot_be_said_so_is_refused(proxy: Proxying, message: dict[str, object]) -> None:
    before = len(proxy.link.up)
    assert proxy.chat(messages=[message]).status_code == 400
    assert len(proxy.link.up) == before


def test_a_prompt_is_continued_as_it_stands(proxy: Proxying) -> None:
    for prompt in ("once", ["once"]):
        answer = proxy.http.post("/v1/completions", json={"model": "tiny", "prompt": prompt})
        assert answer.json()["choices"][0]["text"] == TEXT
        seen = engine(proxy).seen[-1]
        assert (seen.prompt, seen.messages, seen.max_tokens) == ("once", (), 16)
    for wrong in (["a", "b"], [1, 2], "", None):
        answer = proxy.http.post("/v1/completions", json={"model": "tiny", "prompt": wrong})
        assert answer.status_code == 400


def test_vectors_come_as_floats_and_as_base64(proxy: Proxying) -> None:
    body = {"model": "tiny", "input": ["abc", "d"]}
    plain = proxy.http.post("/v1/embeddings", json=body).json()
    assert [one["embedding"] for one in plain["data"]] == [[3.0, 0.0], [1.0, 1.0]]
    packed = proxy.http.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()
    assert packed["data"][0]["embedding"] == "AABAQAAAAAA="
    assert proxy.http.post("/v1/embeddings", json={**body, "dimensions": 2}).status_code == 200
    refused: list[dict[str, object]] = [
        {"dimensions": 3},
        {"input": [[1, 2]]},
        {"input": []},
        {"input": [""]},
        {"encoding_format": "hex"},
    ]
    for wrong in refused:
        assert proxy.http.post("/v1/embeddings", json={**body, **wrong}).status_code == 400


@pytest.fixture
def calling() -> Iterator[Proxying]:
    link = make_link()
    # In pieces that cut the mark.
    link.enclave.engine.script = ("Let me look. <to", "ol_ca", "ll>" + CALL.removeprefix("<tool_call>"), "\n")
    with proxying(link) as running:
        yield running


def test_a_call_in_the_model_s_text_is_a_tool_call(calling: Proxying) -> None:
    (choice,) = calling.chat(tools=[TOOL]).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me look. "
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Łódź"}


def test_a_streamed_call_is_told_whole_and_its_marks_are_not_shown(calling: Proxying) -> None:
    raw = calling.chat(tools=[TOOL], stream=True).text
    chunks = [json.loads(line.removeprefix("data: ")) for line in raw.split("\n\n") if line.startswith("data: {")]
    deltas = [one["choices"][0]["delta"] for one in chunks]
    assert "".join(one.get("content", "") for one in deltas) == "Let me look. "
    assert [one["tool_calls"][0]["function"]["name"] for one in deltas if "tool_calls" in one] == ["weather"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_without_tools_offered_the_same_text_is_text(calling: Proxying) -> None:
    (choice,) = calling.chat().json()["choices"]
    assert choice["finish_reason"] == "stop"
    assert CALL in choice["message"]["content"]


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "<tool_call>{}</tool_call>",
        '<tool_call>{"name": 1, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "x"}</tool_call>',
        '<tool_call>{"name": "f"}</tool_call> and more',
        '<tool_call>{"name": "f"}',
        "<tool_call>" + "[" * 100_000 + "</tool_call>",
        "a < b <tool",
    ],
)
def test_what_is_not_quite_a_call_stays_text(text: str) -> None:
    reader = CallReader("call_")
    shown = "".join(reader.feed(one) for one in text[:50]) + reader.feed(text[50:])
    rest, calls = reader.end()
    assert calls == ()
    assert shown + rest == text


def test_a_response_is_completed_with_its_receipt_and_streams_the_same(proxy: Proxying) -> None:
    with openai.OpenAI(base_url=proxy.base_url, api_key="none", max_retries=0) as client:
        whole = client.responses.create(model="tiny", input="hi", instructions="be brief", max_output_tokens=9)
        seen = engine(proxy).seen[-1]
        assert [(one.role, one.content) for one in seen.messages] == [(Role.SYSTEM, "be brief"), (Role.USER, "hi")]
        assert (seen.max_tokens, seen.temperature) == (9, 1.0)
        assert (whole.output_text, whole.status) == (TEXT, "completed")
        assert whole.usage is not None
        assert whole.usage.total_tokens == 10
        assert len(whole.to_dict()["anchorhold"]["receipts"]) == 1  # type: ignore[index]  # an extension
        content = [{"type": "input_text", "text": "hi"}]
        asked = [{"role": "user", "content": content}, {"role": "assistant", "content": "x"}]
        events: list[Any] = list(client.responses.create(model="tiny", input=asked, stream=True))  # type: ignore[arg-type]  # plain dicts
    assert [one.type for one in events][:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert "".join(one.delta for one in events if one.type == "response.output_text.delta") == TEXT
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == TEXT
    assert [one.sequence_number for one in events] == list(range(len(events)))


@pytest.mark.parametrize(
    "more",
    [
        {"store": True},
        {"previous_response_id": "resp_1"},
        {"tools": [{"type": "web_search"}]},
        {"text": {"format": {"type": "json_schema"}}},
        {"input": [{"type": "item_reference", "id": "x"}]},
        {"input": ""},
        {"reasoning": {"effort": "high"}},
    ],
)
def test_what_a_response_cannot_have_is_refused(proxy: Proxying, more: dict[str, object]) -> None:
    before = len(proxy.link.up)
    answer = proxy.http.post("/v1/responses", json={"model": "tiny", "input": "hi", **more})
    assert answer.status_code == 400
    assert len(proxy.link.up) == before


def test_a_cut_response_is_never_completed() -> None:
    link = make_link()

    class Cut(Link):
        def to_client(self, at: int, frame: bytes) -> tuple[bytes, ...]:
            return (frame,) if at < 3 else ()

    link.__class__ = Cut
    kinds: list[Any] = []
    with proxying(link) as proxy, openai.OpenAI(base_url=proxy.base_url, api_key="none", max_retries=0) as client:
        stream: Iterator[Any] = client.responses.create(model="tiny", input="hi", stream=True)
        with pytest.raises(openai.APIError) as caught:
            kinds.extend(one.type for one in stream)
    assert caught.value.code == "truncated"
    assert "response.output_text.delta" in kinds
    assert "response.completed" not in kinds


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"messages": [{"role": "user", "content": "x" * 300_000}]}, 413),
        ({"tools": [{**TOOL, "function": {"name": "weather", "description": "x" * 70_000}}]}, 413),
        ({"tools": [{"type": "function", "function": {"name": "weather", "parameters": nested(34)}}]}, 400),
    ],
    ids=["a long message", "long tools", "deep tools"],
)
def test_a_request_that_no_enclave_takes_is_its_caller_s_mistake_and_no_doubt(
    proxy: Proxying, more: dict[str, object], status: int
) -> None:
    assert proxy.chat().status_code == 200
    attests, sent = proxy.link.attests, len(proxy.link.up)
    answer = proxy.chat(**more)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (status, "request-invalid", "invalid_request_error")
    assert proxy.status()["state"] == "verified-simulated"
    assert len(proxy.link.up) == sent
    assert proxy.chat().status_code == 200
    assert proxy.link.attests == attests
