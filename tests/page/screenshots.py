"""Takes the pictures in docs/screenshots/ anew: `python -m tests.page.screenshots`, where there is a chromium."""

from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, expect, sync_playwright
from tests.page.conftest import ARGUMENTS, CHROMIUM, Proxy
from tests.page.statuses import NOW, status

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
Scheme = Literal["light", "dark"]
WIDE, NARROW = 960, 320
PICTURES: tuple[tuple[str, str, Scheme, int, str], ...] = (
    ("verified-wide-light", "verified", "light", WIDE, "page"),
    ("simulated-wide-dark", "verified-simulated", "dark", WIDE, "header"),
    ("hops-wide-dark", "verified", "dark", WIDE, "section:has(#hops)"),
    ("refused-narrow-light", "refused", "light", NARROW, "header"),
    ("lease-ended-narrow-dark", "lease-ended", "dark", NARROW, "header"),
    ("gateway-away-narrow-light", "gateway-away", "light", NARROW, "header"),
)


def take(browser: Browser, proxy: Proxy, picture: tuple[str, str, Scheme, int, str]) -> None:
    name, state, scheme, width, part = picture
    proxy.status = status(state)
    context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    page = context.new_page()
    page.clock.set_fixed_time(NOW / 1000)
    page.goto(proxy.url)
    expect(page.locator("#headline")).not_to_have_text("Loading")
    if part == "page":
        page.screenshot(path=FOLDER / f"{name}.png")  # its first screen; all of it is ten times the bytes
    else:
        page.locator(part).first.screenshot(path=FOLDER / f"{name}.png")
    context.close()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    proxy = Proxy()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for picture in PICTURES:
            take(browser, proxy, picture)
        browser.close()
    proxy.stop()


if __name__ == "__main__":
    main()
