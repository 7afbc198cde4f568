"""Programs that other people wrote, unmodified, against the whole simulated stack: `openai` through the proxy and in
process, `litellm` and `llm` through the proxy from an environment of their own (`make clients`).

The tiny model says printable nonsense; at temperature 0 it never ends by itself and says the same to the same question,
so what it says is compared with what our own client gets.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from anchorhold.attestation.transcript.kept import KeptReceipt
from anchorhold.client.sdk import Client, Settings
from anchorhold.client.transport import Transport

from .cell import wait_until
from .conftest import ROOT, Running

pytestmark = pytest.mark.slow
OTHERS = ROOT / ".clients/bin"
ANSWER_S = 30.0  # of the proxy on a machine that stalls
MARKER = "a-question-with-a-marker-in-it"
TINY, ENCODER = "tiny-random-llama", "all-minilm-l6-v2"
QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": MARKER}]
FUNCTION: ChatCompletionToolParam = {"type": "function", "function": {"name": "f", "parameters": {}}}
others = pytest.mark.skipif(not (OTHERS / "llm").exists(), reason="no environment of other clients: make clients")


@dataclass(frozen=True, slots=True)
class Proxy:
    """The command as a user runs it."""

    port: int
    stack: Running

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.root}/v1"

    def client(self, **more: object) -> openai.OpenAI:
        settings = {"base_url": self.base_url, "api_key": "none", "max_retries": 0, **more}
        return openai.OpenAI(**settings)  # type: ignore[arg-type]  # a dict of them

    def status(self) -> dict[str, object]:
        said: dict[str, object] = httpx.get(f"{self.root}/anchorhold/status", timeout=ANSWER_S).json()
        return said


@contextmanager
def proxy_of(stack: Running, *more: str) -> Iterator[Proxy]:
    with tempfile.TemporaryDirectory(prefix="ah-") as folder:
        ready = Path(folder) / "ready.json"
        command = [str(Path(sys.executable).parent / "anchorhold"), "proxy", "--listen", "127.0.0.1:0"]
        command += ["--trust", str(stack.state / "trust.json"), "--ready-file", str(ready), *more]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            wait_until("the proxy listens", ready.exists)
            yield Proxy(json.loads(ready.read_text())["port"], stack)
        finally:
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=20)[1]
        assert process.returncode == 0, said
        assert MARKER not in said


@pytest.fixture(scope="module")
def proxy(stack: Running) -> Iterator[Proxy]:
    with proxy_of(stack) as running:
        yield running


@pytest.fixture(scope="module")
def embedder(encoder: Running) -> Iterator[Proxy]:
    with proxy_of(encoder, "--also-as", "text-embedding-3-small") as running:
        yield running


def ours(stack: Running, max_tokens: int) -> str:
    with Client(stack.trust) as client:
        return client.ask(MARKER, Settings(max_tokens=max_tokens)).text


def sequence(stack: Running) -> int:
    """The number of a receipt made now: the enclave counts whole answers and refusals, not what it was left with."""
    with Client(stack.trust) as client:
        return client.ask(MARKER, Settings(max_tokens=1)).receipt.receipt.sequence


# openai, through the proxy and in process


@contextmanager
def through(way: str, proxy: Proxy) -> Iterator[openai.OpenAI]:
    if way == "proxy":
        with proxy.client() as client:
            yield client
    else:
        with httpx.Client(transport=Transport(proxy.stack.state / "trust.json")) as http:
            yield openai.OpenAI(base_url="http://anchorhold/v1", api_key="none", max_retries=0, http_client=http)  # type: ignore[arg-type]  # typed for httpx2, takes httpx


WAYS = pytest.mark.parametrize("way", ["proxy", "in process"])


@WAYS
def test_openai_chats_streams_and_completes(proxy: Proxy, way: str) -> None:
    expected = ours(proxy.stack, 12)
    with through(way, proxy) as client:
        whole = client.chat.completions.create(model=TINY, messages=QUESTION, temperature=0, max_tokens=12)
        assert whole.choices[0].message.content == expected
        assert whole.choices[0].finish_reason == "length"
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 12
        stream = client.chat.completions.create(
            model=TINY, messages=QUESTION, temperature=0, max_tokens=12, stream=True
        )
        chunks = list(stream)
        assert "".join(one.choices[0].delta.content or "" for one in chunks) == expected
        assert chunks[-1].choices[0].finish_reason == "length"
        assert (
            len(client.completions.create(model=TINY, prompt=MARKER, temperature=0, max_tokens=5).choices[0].text) == 5
        )
        assert [one.id for one in client.models.list()] == [TINY]


@WAYS
def test_openai_gets_choices_seeds_stops_and_logprobs(proxy: Proxy, way: str) -> None:
    with through(way, proxy) as client:
        asked = {"model": TINY, "messages": QUESTION, "max_tokens": 8, "temperature": 1.5, "seed": 7}
        one = client.chat.completions.create(**asked, n=2, logprobs=True, top_logprobs=3)  # type: ignore[call-overload]  # a dict of them
        two = client.chat.completions.create(**asked, n=2)  # type: ignore[call-overload]  # as above
        texts = [choice.message.content for choice in one.choices]
        assert texts == [choice.message.content for choice in two.choices]
        assert texts[0] != texts[1]
        scores = one.choices[0].logprobs.content
        assert "".join(score.token for score in scores) == texts[0]
        assert all(len(score.top_logprobs) == 3 and score.logprob <= 0 for score in scores)
        greedy = ours(proxy.stack, 12)
        stop = greedy[5:7]
        cut = client.chat.completions.create(model=TINY, messages=QUESTION, temperature=0, max_tokens=12, stop=[stop])
        assert cut.choices[0].message.content == greedy[: greedy.index(stop)]
        assert cut.choices[0].finish_reason == "stop"


@WAYS
def test_openai_reads_our_errors_in_its_own_form(proxy: Proxy, way: str) -> None:
    with through(way, proxy) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(model="gpt-9", messages=QUESTION)
        assert missing.value.code == "model-not-found"
        with pytest.raises(openai.BadRequestError) as long:
            client.chat.completions.create(model=TINY, messages=QUESTION, max_tokens=8_000)
        assert long.value.code == "too-long", "the enclave's own word, with a receipt"
        with pytest.raises(openai.BadRequestError) as tools:
            client.chat.completions.create(model=TINY, messages=QUESTION, tools=[FUNCTION])
        assert tools.value.code == "unsupported"
        with pytest.raises(openai.BadRequestError) as vectors:
            client.embeddings.create(model=TINY, input="x")
        assert vectors.value.code == "unsupported"


@WAYS
def test_openai_s_timeout_ends_the_request(proxy: Proxy, way: str) -> None:
    with through(way, proxy) as client:
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.05).chat.completions.create(
                model=TINY, messages=QUESTION, temperature=0, max_tokens=1_900
            )
        assert client.chat.completions.create(model=TINY, messages=QUESTION, max_tokens=2).choices


@WAYS
def test_a_stream_that_openai_closes_midway_ends_in_the_enclave(proxy: Proxy, way: str) -> None:
    before = sequence(proxy.stack)
    with through(way, proxy) as client:
        stream = client.chat.completions.create(
            model=TINY, messages=QUESTION, temperature=0, max_tokens=1_000, stream=True
        )
        for _, _chunk in zip(range(3), stream, strict=False):
            pass
        stream.close()
        # As long as the first would have been: were that one still running, it would have ended by now.
        client.chat.completions.create(model=TINY, messages=QUESTION, temperature=0, max_tokens=1_000)
    assert sequence(proxy.stack) == before + 2, "the second, and the one that is counted by"


def test_the_receipt_of_an_answer_is_taken_by_an_auditor(proxy: Proxy, tmp_path: Path) -> None:
    with proxy.client() as client:
        raw = client.chat.completions.with_raw_response.create(model=TINY, messages=QUESTION, max_tokens=2)
    named = raw.headers["anchorhold-receipts"]
    kept = tmp_path / "receipt"
    kept.write_bytes(httpx.get(f"{proxy.root}/anchorhold/receipts/{named}", timeout=ANSWER_S).content)
    KeptReceipt.decode(kept.read_bytes())

    def proved() -> bool:
        about = [one["code"] for one in audit(proxy.stack, kept) if one["subject"].startswith("Receipt")]
        return bool(about) and all(code.startswith("P") for code in about)

    wait_until("the log has its commitment, in a batch of at most a second", proved)


def audit(stack: Running, kept: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = stack.audit("--receipt", str(kept))[1]["findings"]
    return found


def test_the_state_is_shown_and_nothing_of_the_conversation(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.chat.completions.create(model=TINY, messages=QUESTION, max_tokens=2)
    said = proxy.status()
    assert said["state"] == "verified-simulated"
    assert MARKER not in json.dumps(said)


# Other people's programs


def run_other(program: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.upper().endswith("PROXY")}
    return subprocess.run(
        [str(OTHERS / program[0]), *program[1:]],
        env={**clean, "PYTHONPATH": "", "LITELLM_LOCAL_MODEL_COST_MAP": "True", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


LITELLM = """
import json, sys
import litellm

base, vectors, question = sys.argv[1:]
common = dict(api_key="none", num_retries=0)
chat = dict(
    model="openai/tiny-random-llama",
    messages=[{"role": "user", "content": question}],
    temperature=0,
    api_base=base,
    **common,
)
said = {}
found = litellm.embedding(model="openai/all-minilm-l6-v2", input=["one", "two"], api_base=vectors, **common)
said["vectors"] = [one["embedding"] for one in found.data]
whole = litellm.completion(max_tokens=12, **chat)
said["whole"] = whole.choices[0].message.content
said["tokens"] = whole.usage.completion_tokens
pieces = list(litellm.completion(max_tokens=12, stream=True, **chat))
said["stream"] = "".join(one.choices[0].delta.content or "" for one in pieces)
said["reason"] = pieces[-1].choices[0].finish_reason
for name, more in (("error", dict(max_tokens=8000)), ("timeout", dict(max_tokens=1900, timeout=0.05))):
    try:
        litellm.completion(**chat, **more)
    except Exception as error:
        said[name] = [type(error).__name__, str(error)]
midway = litellm.completion(max_tokens=1000, stream=True, **chat)
next(iter(midway))
midway.completion_stream.close()
said["after"] = litellm.completion(max_tokens=1000, **chat).usage.completion_tokens
print(json.dumps(said))
"""


@others
def test_litellm_unmodified(proxy: Proxy, embedder: Proxy) -> None:
    expected = ours(proxy.stack, 12)
    with Client(embedder.stack.trust) as client:
        vectors = [one.vector for one in client.embed(["one", "two"]).vectors]
    before = sequence(proxy.stack)
    done = run_other(["python", "-c", LITELLM, proxy.base_url, embedder.base_url, MARKER])
    assert done.returncode == 0, done.stderr[-2_000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["whole"] == expected
    assert said["stream"] == expected
    assert (said["tokens"], said["reason"], said["after"]) == (12, "length", 1_000)
    assert said["error"][0] == "BadRequestError"
    assert "too-long" in said["error"][1] or "limit" in said["error"][1]
    assert said["timeout"][0] == "Timeout"
    assert furthest(said["vectors"], vectors) < 1e-5
    # Whole, streamed, refused, the last, and ours: neither the one that timed out nor the one that was left.
    assert sequence(proxy.stack) == before + 5


@pytest.fixture
def llm_home(proxy: Proxy, tmp_path: Path) -> Path:
    model = {"model_id": "sealed", "model_name": TINY, "api_base": proxy.base_url}
    lines = [f"{'-' if at == 0 else ' '} {name}: {value}" for at, (name, value) in enumerate(model.items())]
    (tmp_path / "extra-openai-models.yaml").write_text("\n".join(lines) + "\n")
    return tmp_path


@others
def test_llm_unmodified(proxy: Proxy, llm_home: Path) -> None:
    expected = ours(proxy.stack, 12)
    for more in ([], ["--no-stream"]):
        command = ["llm", "-m", "sealed", MARKER, "-o", "max_tokens", "12", "-o", "temperature", "0", *more]
        done = run_other(command, LLM_USER_PATH=str(llm_home))
        assert done.returncode == 0, done.stderr[-2_000:]
        assert done.stdout.rstrip("\n") == expected.rstrip("\n")
    command = ["llm", "-m", "sealed", MARKER, "-o", "max_tokens", "8000"]
    done = run_other(command, LLM_USER_PATH=str(llm_home))
    assert done.returncode == 1
    assert "too-long" in done.stderr


@others
def test_llm_interrupted_midway_takes_its_request_along(proxy: Proxy, llm_home: Path) -> None:
    """Its one way to give up: it has no option for a timeout."""
    before = sequence(proxy.stack)
    command = [str(OTHERS / "llm"), "-m", "sealed", MARKER, "-o", "max_tokens", "1000", "-o", "temperature", "0"]
    environment = {**os.environ, "PYTHONPATH": "", "LLM_USER_PATH": str(llm_home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        assert running.stdout.read(1), "it streams"
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=30) != 0
    ours(proxy.stack, 1_000)  # as long as the one given up would have been
    assert sequence(proxy.stack) == before + 2, "ours, and the one that is counted by"


# Embeddings


def furthest(some: Sequence[Sequence[float]], others_: Sequence[Sequence[float]]) -> float:
    pairs = [pair for one, other in zip(some, others_, strict=True) for pair in zip(one, other, strict=True)]
    return max(abs(a - b) for a, b in pairs)


@WAYS
def test_openai_gets_the_same_vectors_as_our_own_client(embedder: Proxy, way: str) -> None:
    texts = ["The capital of France is Paris.", "Ünïcode, 日本"]
    with Client(embedder.stack.trust) as client:
        expected = [one.vector for one in client.embed(texts).vectors]
    with through(way, embedder) as theirs:
        plain = theirs.embeddings.create(model=ENCODER, input=texts, encoding_format="float")
        packed = theirs.embeddings.create(model=ENCODER, input=texts)
        assert furthest([one.embedding for one in plain.data], expected) < 1e-5
        assert furthest([one.embedding for one in packed.data], expected) < 1e-5
        with pytest.raises(openai.BadRequestError) as refused:
            theirs.chat.completions.create(model=ENCODER, messages=QUESTION)
        assert refused.value.code == "unsupported"


@others
def test_llm_gets_vectors_under_the_only_name_it_knows(embedder: Proxy, tmp_path: Path) -> None:
    with Client(embedder.stack.trust) as client:
        expected = client.embed(["one"]).vectors[0].vector
    command = ["llm", "embed", "-m", "3-small", "-c", "one"]
    home = {"LLM_USER_PATH": str(tmp_path), "OPENAI_BASE_URL": embedder.base_url, "OPENAI_API_KEY": "none"}
    done = run_other(command, **home)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert furthest([json.loads(done.stdout)], [expected]) < 1e-5
