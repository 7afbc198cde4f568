"""The proxy over HTTP, as programs and browsers meet it: who may ask, what is refused, and what its state says."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from tests.client.linking import TEXT, Stalls, make_link
from tests.client.proxying import Proxying, chat, proxying

from anchorhold.attestation.transcript.kept import KeptReceipt
from anchorhold.cli.main import main
from anchorhold.client.errors import Unavailable
from anchorhold.client.openai_api.fields import MAX_BODY
from anchorhold.client.proxy.app import Limits
from anchorhold.client.sdk import Settings
from anchorhold.client.session import AttestAnswer
from anchorhold.sim.link import Link, loopback_trust

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schema/status.schema.json").read_text())
KEY = "0123456789abcdef-key"


@pytest.fixture
def proxy() -> Iterator[Proxying]:
    with proxying(make_link()) as running:
        yield running


@pytest.fixture(scope="module")
def quiet() -> Iterator[Proxying]:
    """One for all tests of what is refused: nothing may be sent through it."""
    with proxying(make_link()) as running:
        yield running
        assert running.link.up == []


def code(answer: httpx.Response) -> str:
    found: str = answer.json()["error"]["code"]
    return found


def status(proxy: Proxying) -> dict[str, object]:
    said = proxy.status()
    jsonschema.validate(said, SCHEMA)
    return said


def until(proxy: Proxying, state: str) -> dict[str, object]:
    """The status once it is in `state`."""
    end = time.monotonic() + 20
    while (said := status(proxy))["state"] != state:
        assert time.monotonic() < end, f"expected {state}, still {said['state']}"
        time.sleep(0.02)
    return said


def test_an_answer_s_receipt_is_fetched_by_the_id_in_its_header(proxy: Proxying) -> None:
    answer = proxy.chat()
    assert answer.json()["choices"][0]["message"]["content"] == TEXT
    named = answer.headers["anchorhold-receipts"]
    kept = KeptReceipt.decode(proxy.http.get(f"/anchorhold/receipts/{named}").content)
    assert kept.tag == proxy.link.enclave.scribe.leaves[0][1]
    assert status(proxy)["receipts"][0]["id"] == named  # type: ignore[index]  # JSON
    assert proxy.http.get("/anchorhold/receipts/00").status_code == 404


def test_the_status_is_of_its_schema_and_says_simulated(proxy: Proxying) -> None:
    said = until(proxy, "verified-simulated")
    assert said["counters"] == {"requests": 0, "answered": 0, "failed": 0, "resealed": 0}
    proxy.chat()
    assert status(proxy)["counters"]["answered"] == 1  # type: ignore[index]  # JSON
    assert "hi" not in {str(one) for one in said.values()}


def test_the_status_says_where_each_key_lies_and_that_it_is_asserted(proxy: Proxying) -> None:
    said: Any = until(proxy, "verified-simulated")
    held = {one["source"]: one["keystore"] for one in said["session"]["leases"]}
    assert held == {"owner": "software, key beside it", "kms": "not said"}
    claims = [one for one in said["asserted"] if one["code"] == "keystore"]
    assert len(claims) == 1
    assert "software, key beside it" in str(claims[0])
    assert "keystore" not in {one["code"] for one in said["proved"]}


def test_the_page_is_there(quiet: Proxying) -> None:
    page = quiet.http.get("/", follow_redirects=True)
    assert page.url.path == "/anchorhold/"
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:80", ""])
def test_another_name_for_this_machine_is_refused(quiet: Proxying, host: str) -> None:
    answer = quiet.http.post("/v1/chat/completions", json=chat(), headers={"host": host})
    assert answer.status_code == 403
    assert code(answer) == "host"
    assert quiet.http.get("/anchorhold/status", headers={"host": host}).status_code == 403
    assert quiet.link.up == []


def test_localhost_is_this_machine(quiet: Proxying) -> None:
    host = {"host": f"localhost:{quiet.port}"}
    assert quiet.http.get("/anchorhold/status", headers=host).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}]
)
def test_another_site_s_page_is_refused(quiet: Proxying, headers: dict[str, str]) -> None:
    for path in ("/v1/models", "/anchorhold/status", "/anchorhold/"):
        answer = quiet.http.get(path, headers=headers)
        assert (answer.status_code, code(answer)) == (403, "origin")
    assert "access-control-allow-origin" not in quiet.http.options("/v1/chat/completions", headers=headers).headers


def test_the_proxy_s_own_page_may_ask(quiet: Proxying) -> None:
    own = {"origin": f"http://127.0.0.1:{quiet.port}", "sec-fetch-site": "same-origin"}
    assert quiet.http.get("/anchorhold/status", headers=own).status_code == 200


def test_a_form_cannot_ask(quiet: Proxying) -> None:
    raw = json.dumps(chat())
    answer = quiet.http.post("/v1/chat/completions", content=raw, headers={"content-type": "text/plain"})
    assert (answer.status_code, code(answer)) == (415, "content-type")
    assert quiet.link.up == []


def test_with_a_key_only_who_has_it_may_ask() -> None:
    with proxying(make_link(), key=KEY) as proxy:
        assert proxy.chat().status_code == 200
        for wrong in ("", "Bearer", f"Bearer {KEY}x", f"Basic {KEY}"):
            answer = proxy.http.post("/v1/chat/completions", json=chat(), headers={"authorization": wrong})
            assert (answer.status_code, code(answer)) == (401, "api-key")
        assert len(proxy.link.enclave.scribe.leaves) == 1


def test_another_model_is_answered_only_under_a_name_the_user_gave_it() -> None:
    with proxying(make_link(), names=("gpt-9",)) as proxy:
        answer = proxy.chat(model="gpt-9")
        assert answer.status_code == 200
        assert answer.json()["model"] == "tiny"
        assert code(proxy.chat(model="gpt-8")) == "model-not-found"
        assert [one["id"] for one in proxy.http.get("/v1/models").json()["data"]] == ["tiny"]
        assert proxy.http.get("/v1/models/gpt-9").json()["id"] == "tiny"


def test_a_caller_that_goes_midway_takes_its_request_with_it() -> None:
    link = make_link()
    link.enclave.engine = engine = Stalls()
    link.enclave.service = link.enclave._service(link.enclave.configuration)  # type: ignore[arg-type]  # set by then
    with proxying(link) as proxy:
        with proxy.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
            pieces = answer.iter_raw()
            next(pieces)
            assert not engine.left.is_set()
        assert engine.left.wait(10)
        engine.first, engine.left = 0, threading.Event()
        raw = json.dumps(chat()).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{proxy.port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", proxy.port)) as waiting:
            waiting.sendall(head.encode() + raw)
            end = time.monotonic() + 10
            while len(engine.seen) < 2:
                assert time.monotonic() < end, "it did not reach the engine"
                time.sleep(0.02)
            assert not engine.left.is_set()
        assert engine.left.wait(10)
        end = time.monotonic() + 10
        while (counted := status(proxy)["counters"]) != {"requests": 2, "answered": 0, "failed": 0, "resealed": 0}:
            assert time.monotonic() < end, counted
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "invalid-json"),
        (b"[]", "invalid-json"),
        (b'{"model":"tiny","model":"tiny"}', "invalid-json"),
        (b'{"model":"tiny","messages":' + b"[" * 500 + b"]" * 500 + b"}", "invalid-json"),
        (b'{"model":"tiny","messages":[{"role":"user","content":"\\ud800"}]}', "invalid-json"),
        (b'{"messages":[]}', "missing-parameter"),
        (b'{"model":"other","messages":[]}', "model-not-found"),
        (b'{"model":"tiny","messages":[]}', "invalid-value"),
    ],
)
def test_what_is_no_request_is_refused_before_anything_is_sent(quiet: Proxying, body: bytes, expected: str) -> None:
    answer = quiet.http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 404)
    assert code(answer) == expected
    assert quiet.link.up == []


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {"parallel_tool_calls": False, "tools": [{"type": "function", "function": {"name": "f"}}]},
            "parallel_tool_calls",
        ),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"store": True}, "store"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"n": 9}, "n"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"seed": 2**63}, "seed"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"something_new": 1}, "something_new"),
    ],
)
def test_a_parameter_that_cannot_be_honoured_is_named_and_not_left_out(
    quiet: Proxying, more: dict[str, object], param: str
) -> None:
    answer = quiet.chat(**more)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert quiet.link.up == []


def test_an_error_quotes_nothing_of_the_prompt(quiet: Proxying) -> None:
    marker = "a-marker-nobody-may-see"
    for body in (chat(messages=marker), chat(messages=[marker]), chat(seed=marker), chat(stop=[marker * 99])):
        answer = quiet.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        assert marker not in answer.text


def test_a_body_over_the_limit_is_refused(quiet: Proxying) -> None:
    answer = quiet.http.post(
        "/v1/chat/completions", content=b" " * (MAX_BODY + 1), headers={"content-type": "application/json"}
    )
    assert (answer.status_code, code(answer)) == (413, "too-large")


def test_more_requests_than_it_answers_at_once_are_told_to_come_again() -> None:
    link = make_link()
    link.enclave.engine = Stalls()
    link.enclave.service = link.enclave._service(link.enclave.configuration)  # type: ignore[arg-type]  # set by then
    with proxying(link, limits=Limits(requests=1)) as proxy:
        with proxy.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
            pieces = answer.iter_raw()
            next(pieces)
            second = proxy.chat()
            assert (second.status_code, code(second)) == (429, "proxy-busy")
            assert second.headers["x-should-retry"] == "true"
        assert proxy.http.get("/anchorhold/status").status_code == 200


def test_a_caller_that_does_not_send_its_body_is_not_waited_for() -> None:
    with (
        proxying(make_link(), limits=Limits(body_s=0.2)) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as slow,
    ):
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{proxy.port}\r\nContent-Type: application/json\r\n"
        slow.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        slow.settimeout(10)
        answer = slow.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_an_enclave_that_is_not_the_pinned_one_is_refused_and_the_state_says_so() -> None:
    link = make_link()
    trust = loopback_trust(link.enclave)
    assert trust.measurements is not None
    other = replace(trust, measurements={**trust.measurements, 0: bytes([1]) * 48})
    with proxying(link, trust=other) as proxy:
        said = until(proxy, "refused")
        assert said["code"] == "measurement"
        assert said["proved"] == []
        for stream in (False, True):
            answer = proxy.chat(stream=stream)
            assert (answer.status_code, code(answer)) == (502, "measurement")
            assert answer.headers["x-should-retry"] == "false"
        assert proxy.http.get("/v1/models").status_code == 502
    assert link.up == []


class Away(Link):
    """A gateway that can go away."""

    away = True

    def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
        if self.away:
            raise Unavailable("nobody there")
        return answer


def test_a_gateway_that_comes_back_is_used_again() -> None:
    link = make_link()
    link.__class__ = Away
    assert isinstance(link, Away)
    with proxying(link) as proxy:
        until(proxy, "gateway-away")
        answer = proxy.chat()
        assert (answer.status_code, code(answer)) == (503, "unavailable")
        assert answer.headers["x-should-retry"] == "true"
        link.away = False
        assert proxy.chat().status_code == 200
        assert status(proxy)["state"] == "verified-simulated"


def test_a_lease_that_has_ended_is_said_and_nothing_more_is_sealed() -> None:
    link = make_link()
    link.__class__ = Away
    assert isinstance(link, Away)
    link.away = False
    with proxying(link) as proxy:
        assert proxy.chat().status_code == 200
        link.enclave.clock.boot += link.enclave.lease_s + 1  # its key is still within its grace
        link.away = True
        answer = proxy.chat()
        assert (answer.status_code, code(answer)) == (503, "lease-ended")
        assert answer.headers["x-should-retry"] == "false"
        sent = len(link.up)
        said = until(proxy, "lease-ended")
        assert said["receipts"][0]["outcome"] == "lease-ended"  # type: ignore[index]  # JSON
        assert said["session"] is None
        assert proxy.chat().status_code == 503
        assert len(link.up) == sent


def test_a_request_of_a_tier_that_is_not_met_is_not_sent(quiet: Proxying) -> None:
    for tier, expected in (("secret", "tier-platform"), ("no-such", "tier-unknown")):
        answer = quiet.http.post("/v1/chat/completions", json=chat(), headers={"anchorhold-tier": tier})
        assert answer.status_code in (400, 502)
        assert code(answer) == expected
        assert answer.headers["x-should-retry"] == "false"


def test_a_tier_of_all_requests_is_not_left_by_naming_another() -> None:
    with proxying(make_link(), base=Settings(tier="internal")) as proxy:
        answer = proxy.http.post("/v1/chat/completions", json=chat(), headers={"anchorhold-tier": "secret"})
        assert (answer.status_code, code(answer)) == (403, "tier")
        assert code(proxy.chat()) == "tier-platform"
    assert proxy.link.up == []


def test_the_status_says_each_hop(proxy: Proxying) -> None:
    hops = until(proxy, "verified-simulated")["hops"]
    assert isinstance(hops, list)
    assert {"client-enclave", "client-gateway"} <= {hop["name"] for hop in hops}


def test_a_cut_answer_is_no_answer_and_the_connection_breaks() -> None:
    link = make_link()

    class Cut(Link):
        def to_client(self, at: int, frame: bytes) -> tuple[bytes, ...]:
            return (frame,) if at < 3 else ()

    link.__class__ = Cut
    with proxying(link) as proxy:
        whole = proxy.chat()
        assert (whole.status_code, code(whole)) == (502, "truncated")
        got: list[bytes] = []
        with proxy.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                got.extend(answer.iter_raw())
        assert b'"code": "truncated"' in b"".join(got)
        assert b"[DONE]" not in b"".join(got)
        assert b'"finish_reason":"stop"' not in b"".join(got)


def test_the_command_refuses_to_listen_beyond_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from anchorhold.client.trust import encode_trust

    pinned = tmp_path / "trust.json"
    pinned.write_bytes(encode_trust(loopback_trust(make_link().enclave)))
    assert main(["proxy", "--trust", str(pinned), "--listen", "0.0.0.0:0"]) == 2
    assert "--dangerous-listen" in capsys.readouterr().err
    assert main(["proxy", "--trust", str(pinned), "--listen", "0.0.0.0:0", "--dangerous-listen"]) == 2
    assert "--api-key-file" in capsys.readouterr().err
    short = tmp_path / "key"
    short.write_text("short")
    assert main(["proxy", "--trust", str(pinned), "--api-key-file", str(short)]) == 2
    assert "characters" in capsys.readouterr().err
