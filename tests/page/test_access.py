"""Anybody can read the page: by keyboard, at any width, light and dark; and nothing that it shows can take it over."""

import urllib.request
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it brings no types
from playwright.sync_api import Browser, Page, expect

from .conftest import Proxy
from .statuses import STATES, claim, hop, status
from .test_page import open_page

pytestmark = pytest.mark.slow

MARKUP = "</code><img src=x onerror=alert(1)><script>document.title='taken'</script><b>bold</b>"


def open_all(page: Page) -> None:
    for closed in page.locator("summary").all():
        closed.click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing(page: Page, proxy: Proxy, state: str, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    open_page(page, proxy, status(state))
    open_all(page)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_when_the_status_is_not_understood(page: Page, proxy: Proxy, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    open_page(page, proxy, {})
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_axe_would_have_found_something(page: Page, proxy: Proxy) -> None:
    open_page(page, proxy, status("verified"))
    page.locator("#lead").evaluate("node => node.style.setProperty('color', '#d0d0d0')")
    assert "color-contrast" in Axe().run(page).generate_report()


def test_dark_is_dark_and_light_is_light(page: Page, proxy: Proxy) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        open_page(page, proxy, status("verified"))
        colour = page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor")
        brightness[scheme] = sum(int(part) for part in colour[4:-1].split(","))
    assert brightness["dark"] < 150
    assert brightness["light"] > 600


def test_everything_is_reached_and_worked_by_keyboard_alone(page: Page, proxy: Proxy) -> None:
    open_page(page, proxy, status("verified"))
    expect(page.locator("#receipts > li")).to_have_count(4)
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        reached.append(focused.inner_text().splitlines()[0])
        assert focused.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
        assert focused.evaluate("node => node.getBoundingClientRect().top >= 0"), reached
    assert reached[:3] == ["Skip to what was proved", "Copy", "Exact values, for comparing"]
    assert reached[3:] == ["Chat", "Chat", "Embeddings", "Chat"]
    page.keyboard.press("Enter")
    expect(page.locator("#receipts > li").nth(3).locator("details")).to_have_attribute("open", "")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Save this receipt").last).to_be_focused()


def test_the_skip_link_leads_to_what_was_proved(page: Page, proxy: Proxy) -> None:
    open_page(page, proxy, status("verified"))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#found")).to_be_focused()


def test_the_address_for_clients_is_copied(page: Page, proxy: Proxy) -> None:
    open_page(page, proxy, status("verified"))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copy")).to_have_text("Copied")
    assert page.evaluate("() => navigator.clipboard.readText()") == f"{proxy.origin}/v1"


@pytest.mark.parametrize("width", [320, 768, 1440, 2560])
@pytest.mark.parametrize("state", ["verified", "refused"])
def test_nothing_is_cut_off_or_runs_out_of_the_page(page: Page, proxy: Proxy, width: int, state: str) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    shown = status(state)
    shown["deployment"]["name"] = "a-deployment-whose-name-has-no-place-to-break-" * 4
    open_page(page, proxy, shown)
    open_all(page)
    wide = page.evaluate("""() => [...document.body.querySelectorAll("*")].filter((node) => {
        const box = node.getBoundingClientRect();
        return box.width > 0 && (box.right > innerWidth + 0.5 || box.left < -0.5) && !node.closest(".skip, .shapes");
    }).map((node) => node.outerHTML.slice(0, 80))""")
    assert wide == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_markup_in_anything_that_is_shown_stays_text(page: Page, proxy: Proxy) -> None:
    shown = status("verified")
    shown["deployment"] |= {"name": MARKUP, "alias": MARKUP, "gateway": MARKUP}
    shown["session"]["release"] = MARKUP
    shown["session"]["leases"][0]["custodian"] = MARKUP
    shown["proved"] = [claim(MARKUP, MARKUP)]
    shown["hops"] = [hop(MARKUP, MARKUP, MARKUP, MARKUP, None, MARKUP, MARKUP)]
    for field in ("task", "outcome", "purpose", "tag"):
        shown["receipts"][0][field] = MARKUP
    open_page(page, proxy, shown)
    open_all(page)
    for box, times in (("#facts", 5), ("#claims", 3), ("#hops", 4), ("#receipts > li:first-child", 4)):
        assert page.locator(box).inner_text().count(MARKUP) == times, box
    expect(page.locator("img, b, body script")).to_have_count(0)
    assert "taken" not in page.title().split(" · ")
    expect(page.locator("#hops .tag")).to_have_text("Not checked")


@pytest.mark.parametrize("state", ["refused", "lease-ended", "gateway-away"])
def test_markup_in_the_words_of_the_other_side_stays_text(page: Page, proxy: Proxy, state: str) -> None:
    open_page(page, proxy, status(state) | {"message": MARKUP, "hint": MARKUP, "code": MARKUP})
    assert page.locator("#problem").inner_text().count(MARKUP) == 4
    expect(page.locator("img, b, body script")).to_have_count(0)


def test_the_policy_stops_what_would_be_put_into_the_page(page: Page, proxy: Proxy) -> None:
    page.may_complain = True  # type: ignore[attr-defined]  # chromium reports each of these
    open_page(page, proxy, status("verified"))
    for attempt in (
        "() => document.body.insertAdjacentHTML('beforeend', '<i>in</i>')",
        "() => { document.body.innerHTML = '<i>in</i>' }",
        "() => { const s = document.createElement('script'); s.text = 'window.taken = 1'; document.body.append(s) }",
        "() => { const s = document.createElement('script'); s.src = 'https://example.com/a.js' }",
    ):
        blocked = page.evaluate(
            f"""() => {{ try {{ ({attempt})(); return "" }} catch (error) {{ return error.name }} }}"""
        )
        assert blocked == "TypeError", attempt
    stopped = page.evaluate("""() => new Promise((done) => {
        document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
        const image = document.createElement("img");
        image.src = "http://127.0.0.1:9/x.png";
        document.body.append(image);
    })""")
    assert stopped == "img-src"
    assert page.evaluate("() => fetch('http://127.0.0.1:9/').catch((error) => error.name)") == "TypeError"
    assert page.evaluate("() => window.taken") is None


@pytest.mark.parametrize(
    "path", ["", "page.css", "page.js", "render.js", "words.js", "icon.svg", "status", "receipts/00"]
)
def test_every_answer_has_the_headers_that_keep_other_pages_out(proxy: Proxy, path: str) -> None:
    try:
        answer = urllib.request.urlopen(proxy.url + path, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Access-Control-Allow-Origin"] is None


def test_another_sites_page_can_neither_frame_nor_read_it(page: Page, proxy: Proxy) -> None:
    page.may_complain = True  # type: ignore[attr-defined]  # chromium reports both
    other = proxy.origin.replace("127.0.0.1", "localhost")
    page.route(f"{other}/other", lambda route: route.fulfill(body="<title>other</title>", content_type="text/html"))
    page.goto(f"{other}/other")
    url = proxy.url
    assert page.evaluate("url => fetch(url).then(() => 'read', (error) => error.name)", f"{url}status") == "TypeError"
    page.evaluate(
        """url => new Promise((done) => {
            const frame = document.createElement("iframe");
            frame.onload = done;
            frame.src = url;
            document.body.append(frame);
        })""",
        url,
    )
    assert all(frame.locator("#headline").count() == 0 for frame in page.frames)


def test_without_scripts_it_says_where_the_facts_are(chromium: Browser, proxy: Proxy) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(proxy.url)
    expect(page.locator("noscript p")).to_contain_text("The same facts, as JSON")
    expect(page.locator("#headline")).to_have_text("Loading")
    context.close()
