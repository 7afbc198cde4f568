"""The authority's page in a real browser: every state is readable, light and dark, wide and narrow."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it brings no types
from playwright.sync_api import Browser, Page, expect
from tests.authority.page.test_render import GOOD

from anchorhold.authority.listening import listen
from anchorhold.authority.page.app import page_app
from anchorhold.authority.page.snapshot import Snapshot
from anchorhold.sim.owner_face import owner_face

pytestmark = pytest.mark.slow
STATES = {
    "serving": GOOD,
    "killed": replace(GOOD, killed="incident-7", armed=False),
    "latched": replace(GOOD, latched=True),
    "away": Snapshot(title="kms face at https://kms.internal", troubles=("guard/show: unreachable: nobody listens",)),
}


class Running:
    """The page of whatever `shown` is, on a port of its own."""

    def __init__(self) -> None:
        self.shown: list[Snapshot] = [GOOD]
        self._listener = listen("127.0.0.1", 0)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        app = page_app([lambda: self.shown[0]], [self.host])
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._listener.close()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.stop()


def opened(browser: Browser, running: Running, scheme: str, width: int) -> Page:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]  # one of the two words
        java_script_enabled=True,
    )
    page = context.new_page()
    page.goto(f"http://{running.host}/")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing(chromium: Browser, running: Running, state: str, scheme: str) -> None:
    running.shown = [STATES[state]]
    for width in (1200, 340):
        page = opened(chromium, running, scheme, width)
        result = Axe().run(page)
        assert result.violations_count == 0, result.generate_report()
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, "the page itself does not scroll sideways; wide tables do, in their own place"
        page.context.close()


def test_words_of_others_stay_words_and_nothing_else_is_asked(chromium: Browser, running: Running) -> None:
    running.shown = [replace(GOOD, title="<img src=x onerror=alert(1)><script>alert(2)</script>")]
    context = chromium.new_context()
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(f"http://{running.host}/")
    expect(page.locator("h2")).to_contain_text("<script>alert(2)</script>")
    assert said == []
    assert all(url.startswith(f"http://{running.host}/") for url in asked)
    context.close()


def test_the_keyboard_reaches_the_tables_and_skips_to_the_authorities(chromium: Browser, running: Running) -> None:
    page = opened(chromium, running, "light", 1200)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the authorities"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Keys"
    page.context.close()


def test_the_command_serves_it_over_a_real_authority(chromium: Browser, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    with owner_face(tmp_path) as authority:
        authority.register()
        tls, token = authority.state_dir / "tls" / "ca.pem", authority.state_dir / "admin.token"
        url = f"https://127.0.0.1:{authority.served.port}"
        command = [sys.executable, "-m", "anchorhold.cli.main", "authority", "page", "--listen", "127.0.0.1:0"]
        command += ["--ready-file", str(ready), "--face", "owner", url, str(tls), str(token)]
        process = subprocess.Popen(command)
        try:
            while not ready.exists():
                assert process.poll() is None
                time.sleep(0.05)
            context = chromium.new_context()
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{json.loads(ready.read_text())['port']}/")
            expect(page.locator(".state")).to_contain_text("Armed")
            expect(page.locator("body")).to_contain_text("tiny")
            context.close()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
