"""The official `openai` package in this process, over our httpx transport: no proxy, and nothing unsealed."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from tests.client.linking import TEXT, Stalls, make_link

from anchorhold.attestation.transcript.kept import KeptReceipt
from anchorhold.client.sdk import AsyncClient
from anchorhold.client.transport import AsyncTransport, Transport
from anchorhold.client.trust import Trust
from anchorhold.sim.link import Link, loopback_trust

URL = "http://anchorhold/v1"
QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "a-marker-nobody-may-see"}]


def over(link: Link, trust: Trust | None = None) -> Transport:
    return Transport(
        trust or loopback_trust(link.enclave), make_client=lambda pinned: AsyncClient(pinned, gateway=link)
    )


@contextmanager
def client_over(transport: Transport, **more: object) -> Iterator[openai.OpenAI]:
    with httpx.Client(transport=transport) as http:
        yield openai.OpenAI(base_url=URL, api_key="none", max_retries=0, http_client=http, **more)  # type: ignore[arg-type]  # typed for httpx2, takes httpx


def test_an_answer_names_the_receipt_that_the_transport_kept() -> None:
    link = make_link()
    transport = over(link)
    with client_over(transport) as client:
        raw = client.chat.completions.with_raw_response.create(model="tiny", messages=QUESTION)
        answer = raw.parse()
        assert answer.choices[0].message.content == TEXT
        assert answer.choices[0].finish_reason == "stop"
        (named,) = answer.to_dict()["anchorhold"]["receipts"]  # type: ignore[index]  # an extension
        assert raw.headers["anchorhold-receipts"] == named
        found = transport.receipts.find(named)
        assert found is not None
        assert KeptReceipt.decode(found.file()).receipt == found.receipt.raw
        assert found.receipt.commitment == link.enclave.scribe.leaves[0][0]


def test_what_the_gateway_carries_is_sealed() -> None:
    link = make_link()
    with client_over(over(link)) as client:
        client.chat.completions.create(model="tiny", messages=QUESTION)
    carried = b"".join([*link.up, *link.down])
    assert len(carried) > 1_000
    assert b"marker" not in carried
    assert b"Paris" not in carried


def test_a_stream_ends_with_its_receipt_and_its_usage() -> None:
    with client_over(over(make_link())) as client:
        stream = client.chat.completions.create(
            model="tiny",
            messages=QUESTION,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == TEXT
    assert [one.choices[0].finish_reason for one in chunks if one.choices][-1] == "stop"
    assert len(chunks[-2].to_dict()["anchorhold"]["receipts"]) == 1  # type: ignore[index]  # an extension
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 10


def test_the_async_client_answers_and_streams() -> None:
    link = make_link()

    async def ask() -> tuple[str | None, str]:
        transport = AsyncTransport(
            loopback_trust(link.enclave), make_client=lambda pinned: AsyncClient(pinned, gateway=link)
        )
        async with httpx.AsyncClient(transport=transport) as http:
            client = openai.AsyncOpenAI(base_url=URL, api_key="none", http_client=http)  # type: ignore[arg-type]  # typed for httpx2
            whole = await client.chat.completions.create(model="tiny", messages=QUESTION)
            stream = await client.chat.completions.create(model="tiny", messages=QUESTION, stream=True)
            pieces = [one.choices[0].delta.content or "" async for one in stream]
            return whole.choices[0].message.content, "".join(pieces)

    assert asyncio.run(ask()) == (TEXT, TEXT)


def test_evidence_that_contradicts_is_an_error_and_nothing_is_sent() -> None:
    link = make_link()
    trust = loopback_trust(link.enclave)
    assert trust.measurements is not None
    other = replace(trust, measurements={**trust.measurements, 0: bytes([1]) * 48})
    with client_over(over(link, other)) as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="tiny", messages=QUESTION)
    assert caught.value.code == "measurement"
    assert caught.value.type == "evidence_error"
    assert link.attests == 1
    assert link.up == []


def test_the_enclave_s_refusal_is_its_own_code() -> None:
    link = make_link()
    link.enclave.engine.refuse = "busy"
    with client_over(over(link)) as client, pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="tiny", messages=QUESTION)
    assert caught.value.code == "busy"


def test_a_cut_stream_raises_and_never_ends_as_a_whole_answer_ends() -> None:
    link = make_link()

    class Cut(Link):
        def to_client(self, at: int, frame: bytes) -> tuple[bytes, ...]:
            return (frame,) if at < 3 else ()

    link.__class__ = Cut
    reasons: list[str | None] = []
    with client_over(over(link)) as client:
        stream = client.chat.completions.create(model="tiny", messages=QUESTION, stream=True)
        with pytest.raises(openai.APIError) as caught:
            reasons.extend(one.choices[0].finish_reason for one in stream)
    assert caught.value.code == "truncated"
    assert reasons
    assert set(reasons) == {None}


def test_a_caller_that_reads_past_the_error_event_meets_a_broken_connection() -> None:
    link = make_link()

    class Cut(Link):
        def to_client(self, at: int, frame: bytes) -> tuple[bytes, ...]:
            return (frame,) if at < 3 else ()

    link.__class__ = Cut
    got: list[bytes] = []
    body = {"model": "tiny", "messages": QUESTION, "stream": True}
    with (
        httpx.Client(transport=over(link)) as http,
        http.stream("POST", f"{URL}/chat/completions", json=body) as answer,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        got.extend(answer.iter_raw())
    assert b'"code": "truncated"' in got[-1]
    assert b"[DONE]" not in b"".join(got)


def test_the_caller_s_timeout_is_kept_and_the_request_is_cancelled() -> None:
    link = make_link()
    link.enclave.engine = engine = Stalls(first=99)
    link.enclave.service = link.enclave._service(link.enclave.configuration)  # type: ignore[arg-type]  # set by then
    with client_over(over(link)) as client:
        # Its session is verified by then: none of the three seconds goes into that.
        assert client.chat.completions.create(model="tiny", messages=QUESTION).choices[0].message.content == TEXT
        engine.first, engine.left = 0, threading.Event()
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="tiny", messages=QUESTION, timeout=3)
    assert engine.left.wait(10)


def test_a_stream_that_is_closed_midway_is_cancelled_in_the_enclave() -> None:
    link = make_link()
    link.enclave.engine = engine = Stalls()
    link.enclave.service = link.enclave._service(link.enclave.configuration)  # type: ignore[arg-type]  # set by then
    with client_over(over(link)) as client:
        stream = client.chat.completions.create(model="tiny", messages=QUESTION, stream=True)
        assert next(iter(stream)).choices[0].delta.content == "The capital"
        assert not engine.left.is_set()
        stream.close()
        assert engine.left.wait(10)


def test_whatever_the_url_s_host_a_request_goes_nowhere_else() -> None:
    link = make_link()
    with httpx.Client(transport=over(link)) as http:
        answer = http.post("https://api.openai.com/v1/chat/completions", json={"model": "tiny", "messages": QUESTION})
        assert answer.json()["choices"][0]["message"]["content"] == TEXT
        assert http.get("https://api.openai.com/").status_code == 404
    assert len(link.enclave.scribe.leaves) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["before the first", "midway"])
def test_an_interrupted_caller_s_request_does_not_go_on(stream: bool) -> None:
    link = make_link()
    stalled, waiting = threading.Event(), threading.Event()
    if not stream:
        waiting.set()
    here = threading.get_ident()

    class Tells(Stalls):
        async def before(self, chunk: int) -> None:
            if chunk >= self.first:
                stalled.set()
            await super().before(chunk)

    link.enclave.engine = engine = Tells(first=int(stream))
    link.enclave.service = link.enclave._service(link.enclave.configuration)  # type: ignore[arg-type]  # set by then

    def interrupt() -> None:
        if stalled.wait(10) and waiting.wait(10):
            signal.pthread_kill(here, signal.SIGINT)

    body = {"model": "tiny", "messages": QUESTION, "stream": stream}
    interrupting = threading.Thread(target=interrupt)
    with httpx.Client(transport=over(link)) as http:
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            _read_all(http, body, waiting)
        interrupting.join()
        assert engine.left.wait(10)


def _read_all(http: httpx.Client, body: dict[str, object], first: threading.Event) -> None:
    with http.stream("POST", f"{URL}/chat/completions", json=body) as answer:
        for _ in answer.iter_raw():
            first.set()
