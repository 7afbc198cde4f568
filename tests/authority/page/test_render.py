"""What the page says in each state, and that nobody's words become markup."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from anchorhold.authority.page.app import HEADERS, page_app
from anchorhold.authority.page.render import render
from anchorhold.authority.page.snapshot import ApprovalRow, DenialRow, KeyRow, LeaseRow, Snapshot

NOW = 1_790_000_000_000
HOST = "127.0.0.1:9999"
GOOD = Snapshot(
    title="owner by model-owner",
    now=NOW,
    facts=(("anchor class", "simulated"), ("keystore", "software, key beside it")),
    armed=True,
    latched=False,
    keys=(KeyRow("owner-simulated-1", "wrapping key", "in use"),),
    leases=(LeaseRow("tiny", "d1" * 48, NOW + 5_000, None), LeaseRow("old", "d2" * 48, NOW - 1, NOW - 60_000)),
    approvals=(ApprovalRow("policy", "a policy change", 1, 2, NOW + 60_000),),
    denials=(DenialRow(NOW - 1_000, "enclave:a0", "owner:Lease", "d1d1", "guard-hours", "outside the hours"),),
)


def test_a_serving_face_shows_its_keys_leases_approvals_and_denials_with_their_rule() -> None:
    page = render([GOOD])
    for words in (
        "owner by model-owner", "Armed: uses are decided by its policy", "software, key beside it", "owner-simulated-1",
        "granted on renewal", "REVOKED 2026-09-21 14:12:20 UTC", "silent", "1 of 2", "<code>guard-hours</code>",
        "outside the hours",
    ):  # fmt: skip
        assert words in page or words in page.replace('<time datetime="2026-09-21T14:12:20+00:00">', "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"killed": "incident-7"}, "Killed: every use is refused until a quorum re-arms it (incident-7)"),
        ({"latched": True}, "Latched: its journal could not be written"),
        ({"armed": None}, "Unknown: whether it serves could not be read"),
        ({"latched": None}, "Unknown: whether it serves could not be read"),
        ({"troubles": ("status: unreachable",)}, "Not shown: status: unreachable"),
    ],
)
def test_no_other_state_reads_as_serving(change: dict[str, object], words: str) -> None:
    page = render([replace(GOOD, **change)])  # type: ignore[arg-type]  # the cases name the fields
    assert words in page
    assert ("Armed:" in page) == ("troubles" in change)


def test_what_was_not_read_is_not_shown_as_nothing() -> None:
    page = render([Snapshot(title="kms", troubles=("guard/denials: unreachable",))])
    assert "Not shown: guard/denials: unreachable" in page
    assert "Armed" not in page


def test_words_of_others_are_text() -> None:
    evil = "<script>alert(1)</script>\x1b[2J\"'&"
    page = render([replace(GOOD, title=evil, denials=(DenialRow(NOW, evil, evil, evil, evil, evil),))])
    assert "<script" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;" in page


def test_long_words_are_cut_and_a_time_out_of_range_is_a_number() -> None:
    page = render([replace(GOOD, leases=(LeaseRow("m" * 500, "d" * 96, 2**60, None),))])
    assert f">{'m' * 96}…<" in page
    assert page.count("m" * 97) == page.count(f'title="{"m" * 500}"') * (500 // 97)
    assert f"{2**60} ms" in page


def got(host: str, path: str = "/", **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(page_app([lambda: GOOD], [HOST]))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as http:
            return await http.get(path, headers=headers)

    return asyncio.run(ask())


def test_the_page_is_for_its_own_address_and_no_other_site() -> None:
    assert got(HOST).status_code == 200
    assert got(HOST, "/page.css").status_code == 200
    assert got("evil.example").status_code == 403
    assert got("evil.example", "/page.css").status_code == 403
    assert got(HOST, **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert {name.lower() for name in HEADERS} <= {name.lower() for name in got(HOST).headers}


def test_nothing_but_reading_is_there() -> None:
    async def ask() -> list[int]:
        transport = httpx.ASGITransport(page_app([lambda: GOOD], [HOST]))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as http:
            methods = ("POST", "PUT", "DELETE", "PATCH")
            return [(await http.request(method, "/")).status_code for method in methods]

    assert asyncio.run(ask()) == [405] * 4
    assert "<form" not in render([GOOD])
