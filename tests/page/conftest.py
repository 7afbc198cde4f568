"""The page in a real browser: Debian's chromium, headless, on a real server with a port of its own."""

import os
import shutil
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright
from starlette.applications import Starlette
from starlette.routing import Mount

from anchorhold.client.proxy.page import page_app

from .statuses import NOW, Status, status

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox refuses to run for root
RECEIPT = b"\xa1\x61v\x01 a receipt's bytes"
# No test is about how soon. Playwright waits 5 s, and the page takes a proxy that needs 5 s for one that is away: both
# are no more than a stall of the machine.
expect.set_options(timeout=60_000)
PATIENT = "{ const asked = window.fetch; window.fetch = (url, how) => asked(url, {...how, signal: undefined}) }"


class Proxy:
    """Serves the page with whatever `status` is now."""

    def __init__(self) -> None:
        self.status: object = status("verified")
        self._socket = socket.create_server(("127.0.0.1", 0))
        app = Starlette(routes=[Mount("/anchorhold", page_app(self._told, self._receipt))])
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}" if self._socket.fileno() >= 0 else self._origin

    @property
    def url(self) -> str:
        return f"{self.origin}/anchorhold/"

    def stop(self) -> None:
        self._origin = self.origin
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join()
        self._socket.close()

    def _told(self) -> Status:
        if isinstance(self.status, Exception):
            raise self.status
        assert isinstance(self.status, dict)
        return self.status

    def _receipt(self, named: str) -> bytes | None:
        assert isinstance(self.status, dict)
        return RECEIPT if named in {one["id"] for one in self.status["receipts"]} else None


# A browser of one file's tests: while it runs, its thread has an event loop that other tests would trip over.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install -y --no-install-recommends chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    running = Proxy()
    yield running
    running.stop()


@pytest.fixture
def page(chromium: Browser, proxy: Proxy) -> Iterator[Page]:
    """A page that must not have complained, nor asked anybody but its own proxy, which outlives it."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
    context.add_init_script(PATIENT)
    page = context.new_page()
    page.clock.set_fixed_time(NOW / 1000)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    expected = getattr(page, "may_complain", False)
    assert expected or said == []
    assert all(url.startswith(("http://127.0.0.1:", "http://localhost:", "blob:")) for url in asked), asked
