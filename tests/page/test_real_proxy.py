"""The page of a real proxy before a loopback enclave: what it verified, what it refused, and the receipt it kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it brings no types
from jsonschema import Draft202012Validator
from playwright.sync_api import Page, expect
from tests.client.linking import make_link
from tests.client.proxying import Proxying, proxying

from anchorhold.attestation.transcript.kept import KeptReceipt
from anchorhold.client.errors import Unavailable
from anchorhold.client.session import AttestAnswer
from anchorhold.sim.link import Link, loopback_trust

pytestmark = pytest.mark.slow
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schema" / "status.schema.json").read_text())


def shown(page: Page, proxy: Proxying) -> None:
    page.goto(f"http://127.0.0.1:{proxy.port}/")
    assert page.url.endswith("/anchorhold/")


def test_a_real_answer_s_receipt_is_shown_and_saved(page: Page) -> None:
    page.clock.resume()
    with proxying(make_link()) as proxy:
        shown(page, proxy)
        expect(page.locator("#headline")).to_have_text("Simulation only")
        answer = proxy.chat()
        named = answer.headers["anchorhold-receipts"]
        row = page.locator(f'#receipts > li[data-id="{named}"]')
        expect(row).to_contain_text("Chat")
        Draft202012Validator(SCHEMA).validate(proxy.status())
        for summary in page.locator("summary").all():
            summary.click()
        with page.expect_download() as saved:
            row.get_by_role("link", name="Save this receipt").click()
        kept = KeptReceipt.decode(saved.value.path().read_bytes())
        assert kept.tag == proxy.link.enclave.scribe.leaves[0][1]
        expect(row).to_contain_text(kept.tag.hex())
        expect(page.locator(".group.not_proved")).to_contain_text("a toy root stands in for hardware")
        expect(page.locator("#hops")).to_contain_text("this client and the enclave")
        assert Axe().run(page).violations_count == 0


def test_an_enclave_that_is_not_the_pinned_one_is_refused_on_the_page(page: Page) -> None:
    link = make_link()
    trust = loopback_trust(link.enclave)
    assert trust.measurements is not None
    with proxying(link, trust=replace(trust, measurements={**trust.measurements, 0: bytes([1]) * 48})) as proxy:
        shown(page, proxy)
        expect(page.locator("#headline")).to_have_text("Refused")
        expect(page.locator("#problem")).to_contain_text(
            "Code measurement, explained by anchorhold explain measurement"
        )
        expect(page.locator(".group.proved")).to_have_count(0)
    assert link.up == []


class Away(Link):
    """Nobody answers."""

    def evidence(self, answer: AttestAnswer, nonce: bytes) -> AttestAnswer:
        raise Unavailable("nobody there")


def test_a_gateway_that_is_away_is_not_called_a_refusal(page: Page) -> None:
    link = make_link()
    link.__class__ = Away
    with proxying(link) as proxy:
        shown(page, proxy)
        expect(page.locator("#headline")).to_have_text("Gateway away")
        expect(page.locator("#problem")).to_contain_text("unavailable")
