"""A whole stack whose gateway speaks TLS: every hop as the ledger says, and a tier that it proves to meet."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.client.identity import Identity

from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.types import Platform
from anchorhold.client.admission import TierRefused
from anchorhold.client.errors import Unavailable
from anchorhold.client.sdk import Client, Settings
from anchorhold.client.tiers import STANDARD
from anchorhold.client.trust import Trust, encode_trust
from anchorhold.sim.deploy import Settings as Deployed
from anchorhold.sim.pki import REGION
from anchorhold.sim.stack import Options, Stack, down

from .conftest import ROOT, TINY, Running

pytestmark = pytest.mark.slow
OURS = Identity.make()
REGIONS = frozenset({REGION, "eu-central-1"})  # the enclave's, by its certificates; the KMS's, by its key
SECRET = replace(STANDARD["secret"], platforms=frozenset({Platform.SIMULATED}), padding=Padding.BASIC, regions=REGIONS)
"""The standard tier but for the platform, of a region; without the waiting of `strict`."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Running]:
    path = Path(tempfile.mkdtemp(prefix="ah-"))
    files = {"certificate": path / "gateway.pem", "key": path / "gateway.key"}
    files["certificate"].write_bytes(OURS.certificate)
    files["key"].write_bytes(OURS.key)

    def over_tls(config: dict[str, Any]) -> dict[str, Any]:
        return {**config, "tls": {name: str(file) for name, file in files.items()}}

    lock = ROOT / "requirements/enclave.lock"
    options = Options(state=path / "s", model="tiny", settings=Deployed(engine=TINY), lock=lock, rewire=over_tls)
    try:
        running = Stack(options)
        yield Running(running, running.up())
    finally:
        down(path / "s")
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def trust(stack: Running) -> Trust:
    return replace(stack.trust, tls=OURS.pin, require_pq=True, tiers={"secret": SECRET})


def test_a_secret_is_answered_where_every_hop_holds(stack: Running, trust: Trust, tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(encode_trust(trust))
    done = stack.cli("ask", "hello", "--trust", str(path), "--max-tokens", "4", "--tier", "secret", "--json")
    assert done.returncode == 0, done.stderr
    hops = {hop["name"]: hop for hop in json.loads(done.stdout)["hops"]}
    assert hops["client-gateway"]["key_exchange"] == "X25519MLKEM768"
    assert {name for name, hop in hops.items() if hop["status"] == "proved"} == {"client-gateway", "client-enclave"}
    assert {name for name, hop in hops.items() if hop["post_quantum"] is False} == {"enclave-kms-kms"}


def test_a_secret_of_another_region_is_not_sent(trust: Trust) -> None:
    elsewhere = replace(trust, tiers={"secret": replace(SECRET, regions=frozenset({"eu-central-1"}))})
    with Client(elsewhere) as client, pytest.raises(TierRefused) as refusal:
        client.ask("hello", Settings(max_tokens=4, tier="secret"))
    assert [(one.code, one.actual) for one in refusal.value.unmet] == [("tier-region", REGION)]


def test_nobody_else_s_certificate_will_do(trust: Trust) -> None:
    with Client(replace(trust, tls=Identity.make().pin)) as client, pytest.raises(Unavailable):
        client.verify()
