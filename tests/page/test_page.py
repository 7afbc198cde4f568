"""The page says what the status says, in words, for each state; and nothing good of a status it cannot trust."""

from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from .conftest import RECEIPT, Proxy
from .statuses import MINUTE, NOW, STATES, receipt, status

pytestmark = pytest.mark.slow

HEADLINES = {
    "starting": ("Verifying", "Nothing has been proved yet", "not sent until"),
    "verified": ("Verified", "checked the enclave's evidence itself", "sealed to this enclave and sent"),
    "verified-simulated": ("Simulation only", "no hardware stands behind it", "sealed to the simulated enclave"),
    "refused": ("Refused", "does not agree with your trust file", "Nothing is sent"),
    "lease-ended": ("Lease ended", "did not renew it, or revoked it", "Nothing is sent"),
    "gateway-away": ("Gateway away", "says nothing about the enclave", "Nothing is sent"),
}


def open_page(page: Page, proxy: Proxy, shown: object) -> None:
    proxy.status = shown
    page.goto(proxy.url)
    expect(page.locator("#headline")).not_to_have_text("Loading")


@pytest.mark.parametrize("state", STATES)
def test_each_state_has_its_own_words(page: Page, proxy: Proxy, state: str) -> None:
    headline, lead, sends = HEADLINES[state]
    open_page(page, proxy, status(state))
    expect(page.locator("#headline")).to_have_text(headline)
    expect(page.locator("#lead")).to_contain_text(lead)
    expect(page.locator("#sends")).to_contain_text(sends)
    assert page.title() == f"{headline} · ward-seven · Anchorhold proxy"
    expect(page.get_by_role("status")).to_contain_text(headline)


@pytest.mark.parametrize("state", ["refused", "lease-ended", "gateway-away"])
def test_a_state_that_sends_nothing_says_why_with_code_and_next_step(page: Page, proxy: Proxy, state: str) -> None:
    shown = status(state)
    open_page(page, proxy, shown)
    box = page.locator("#problem")
    expect(box).to_contain_text(shown["message"])
    expect(box).to_contain_text(f"Next: {shown['hint']}")
    expect(box).to_contain_text(f"anchorhold explain {shown['code']}")
    expect(page.locator(".group.proved")).to_have_count(0)
    expect(page.locator("#claims")).to_contain_text("Nothing is verified")


@pytest.mark.parametrize("state", ["starting", "verified", "verified-simulated"])
def test_no_problem_is_shown_where_there_is_none(page: Page, proxy: Proxy, state: str) -> None:
    open_page(page, proxy, status(state))
    expect(page.locator("#problem")).to_be_hidden()


@pytest.mark.parametrize("state", ["verified", "verified-simulated"])
def test_what_was_proved_is_kept_apart_from_somebodys_word_and_from_what_was_not(
    page: Page, proxy: Proxy, state: str
) -> None:
    shown = status(state)
    open_page(page, proxy, shown)
    for kind, heading in (("proved", "Proved"), ("asserted", "Asserted"), ("not_proved", "Not proved")):
        group = page.locator(f".group.{kind}")
        expect(group.locator("h3")).to_have_text(f"{heading} {len(shown[kind])}")
        expect(group.locator("li")).to_have_count(len(shown[kind]))
        for number, one in enumerate(shown[kind]):
            expect(group.locator("li").nth(number)).to_contain_text(one["words"])
            expect(group.locator("li").nth(number).locator("code")).to_have_text(one["code"])


def test_every_hop_says_where_it_ends_its_key_exchange_and_its_standing(page: Page, proxy: Proxy) -> None:
    open_page(page, proxy, status("verified"))
    rows = page.locator("#hops > li")
    expect(rows).to_have_count(5)
    for row, quantum, standing in (
        (0, "post-quantum: unknown", "Not checked"),
        (1, "", "Asserted"),
        (2, "post-quantum", "Proved"),
        (3, "not post-quantum", "Asserted"),
    ):
        one = status("verified")["hops"][row]
        for words in (one["between"], one["detail"], one["ends_at"], one["key_exchange"]):
            expect(rows.nth(row)).to_contain_text(words)
        expect(rows.nth(row).locator(".quantum")).to_have_text(quantum)
        expect(rows.nth(row).locator(".tag")).to_have_text(standing)


def test_times_are_told_against_now_and_an_end_that_has_passed_is_said(page: Page, proxy: Proxy) -> None:
    shown = status("verified")
    shown["session"]["leases"][0]["not_after"] = NOW - 3 * MINUTE
    open_page(page, proxy, shown)
    facts = page.locator("#facts")
    expect(facts).to_contain_text("4 minutes ago, 2026-09-21 14:09:20 UTC")
    expect(facts).to_contain_text("ends in 6 minutes")
    expect(facts).to_contain_text("owner, held by Hospital trust: ended 3 minutes ago; verified anew before anything")
    expect(facts).to_contain_text("kms, held by Cloud operator: ends in 14 minutes, by the enclave’s own word")  # noqa: RUF001


def test_exact_values_are_whole_and_zero_registers_are_left_out(page: Page, proxy: Proxy) -> None:
    shown = status("verified")
    open_page(page, proxy, shown)
    page.get_by_text("Exact values").click()
    values = page.locator("#values")
    for value in (shown["deployment"]["model"], shown["session"]["statement"], shown["session"]["measurements"]["16"]):
        expect(values).to_contain_text(value)
    expect(values).not_to_contain_text("0" * 96)


def _without(**changed: Any) -> dict[str, Any]:
    return status("verified") | changed


CONTRADICTIONS: dict[str, Any] = {
    "another version": _without(version=2),
    "no state we know": _without(state="excellent"),
    "a name every object has": _without(state="constructor"),
    "a simulated trust file": _without(simulated=True),
    "a simulated session": _without(session=status("verified")["session"] | {"simulated": True}),
    "a simulated platform": _without(session=status("verified")["session"] | {"platform": "simulated"}),
    "hardware called simulated": status("verified-simulated") | {"session": status("verified")["session"]},
    "no session": _without(session=None),
    "nothing proved": _without(proved=[]),
    "a reason why not": _without(code="measurement-mismatch"),
    "lists that are none": _without(proved="all of it"),
    "refused, with proofs": status("refused") | {"proved": status("verified")["proved"]},
    "nothing at all": {},
    "a failure": RuntimeError("the status fails"),
}


@pytest.mark.parametrize("why", CONTRADICTIONS)
def test_a_status_that_contradicts_itself_shows_nothing_good(page: Page, proxy: Proxy, why: str) -> None:
    page.may_complain = why == "a failure"  # type: ignore[attr-defined]  # chromium reports an answer of 500
    open_page(page, proxy, CONTRADICTIONS[why])
    expect(page.locator("#headline")).to_have_text("Status not understood")
    expect(page.locator("#claims")).to_be_empty()
    expect(page.locator("#receipts > li")).to_have_count(0)
    assert "Verified" not in page.locator("body").inner_text()


def test_a_change_of_state_is_shown_without_a_reload_and_takes_the_proofs_down(page: Page, proxy: Proxy) -> None:
    open_page(page, proxy, status("verified"))
    expect(page.locator(".group.proved")).to_be_visible()
    proxy.status = status("refused")
    expect(page.locator("#headline")).to_have_text("Refused")
    expect(page.locator(".group.proved")).to_have_count(0)
    expect(page.locator("#hops")).to_contain_text("None is known")
    proxy.status = status("verified")
    expect(page.locator("#headline")).to_have_text("Verified")
    expect(page.locator("#problem")).to_be_hidden()


def test_a_page_that_is_looked_at_again_asks_at_once(page: Page, proxy: Proxy) -> None:
    page.clock.install(time=NOW / 1000)
    open_page(page, proxy, status("verified"))
    with page.expect_response("**/status"):
        page.clock.pause_at(NOW / 1000 + 60)  # asks a last time: no timer runs from here on
    proxy.status = status("lease-ended")
    page.evaluate("() => { document.dispatchEvent(new Event('visibilitychange', {bubbles: true})) }")
    expect(page.locator("#headline")).to_have_text("Lease ended")


def test_an_answer_that_a_later_one_overtook_is_not_shown(page: Page, proxy: Proxy) -> None:
    open_page(page, proxy, status("verified"))
    held: list[Route] = []
    page.route("**/status", lambda route: held.append(route) if not held else route.fallback())
    while not held:  # not the next request that is seen: one may be on its way while the route is set
        page.wait_for_timeout(20)
    proxy.status = status("lease-ended")
    page.evaluate("() => { document.dispatchEvent(new Event('visibilitychange', {bubbles: true})) }")
    expect(page.locator("#headline")).to_have_text("Lease ended")
    page.route("**/status", lambda _: None)  # nobody answers from here on: what stands next is of the late answer
    with page.expect_event("requestfinished", lambda one: one == held[0].request):
        held[0].fulfill(json=status("verified"))
    page.wait_for_timeout(500)
    expect(page.locator("#headline")).to_have_text("Lease ended")


def test_a_proxy_that_is_gone_leaves_nothing_shown(page: Page, proxy: Proxy) -> None:
    page.may_complain = True  # type: ignore[attr-defined]  # chromium reports the connection refused
    open_page(page, proxy, status("verified"))
    proxy.stop()
    expect(page.locator("#headline")).to_have_text("No answer from the proxy")
    expect(page.locator("#claims")).to_be_empty()
    expect(page.locator("#asof")).to_have_text("No status now.")


def test_receipts_stand_newest_first_and_an_open_one_stays_open(page: Page, proxy: Proxy) -> None:
    shown = status("verified")
    open_page(page, proxy, shown)
    rows = page.locator("#receipts > li")
    expect(rows.nth(0)).to_contain_text("answered in full")
    expect(rows.nth(1)).to_contain_text("cut at its length limit")
    expect(rows.nth(3)).to_contain_text("refused by the enclave: too-long")
    rows.nth(0).locator("summary").click()
    expect(rows.nth(0)).to_contain_text(shown["receipts"][0]["commitment"])
    rows.nth(0).locator("summary").focus()
    proxy.status = shown | {"receipts": [receipt(0), *shown["receipts"]]}
    expect(rows).to_have_count(5)
    opened = page.locator("#receipts details[open]")
    expect(opened).to_have_count(1)
    expect(opened).to_contain_text(shown["receipts"][0]["commitment"])
    expect(opened.locator("summary")).to_be_focused()


def test_a_receipt_is_saved_byte_for_byte(page: Page, proxy: Proxy) -> None:
    open_page(page, proxy, status("verified"))
    page.locator("#receipts summary").first.click()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save this receipt").first.click()
    assert saved.value.path().read_bytes() == RECEIPT


def test_without_receipts_it_says_so(page: Page, proxy: Proxy) -> None:
    open_page(page, proxy, status("starting"))
    expect(page.locator("#receipts")).to_have_text("None yet. An answer without one is an error, not an answer.")


def test_paper_has_what_the_screen_keeps_closed(page: Page, proxy: Proxy) -> None:
    open_page(page, proxy, status("verified"))
    expect(page.locator("#receipts > li")).to_have_count(4)
    page.pdf()
    expect(page.locator("details:not([open])")).to_have_count(0)
