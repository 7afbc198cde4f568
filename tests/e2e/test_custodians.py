"""Two authorities of two custodians or of one, the KMS alone, the owner alone: all serve, the verdict says which."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation.configuration import EngineSettings
from anchorhold.sim.deploy import Settings
from anchorhold.sim.stack import Options, Stack, down

from .conftest import ROOT, STALLED_LEASE_MS, Running

pytestmark = pytest.mark.slow
ENGINE = EngineSettings("float32", 2_048, 16, 1)
WAYS = ("two", "same", "kms", "owner")


def brought_up(folder: Path, way: str) -> Running:
    sources = {"kms": ("kms",), "owner": ("owner",)}.get(way, ("kms", "owner"))
    stack = Stack(
        Options(
            state=folder / "s",
            model="tiny",
            settings=Settings(lease_ms=STALLED_LEASE_MS, engine=ENGINE),
            lock=ROOT / "requirements/enclave.lock",
            sources=sources,
            same_custodian=way == "same",
        )
    )
    return Running(stack, stack.up())


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[str, Running]]:
    yield request.param, brought_up(folder, request.param)
    down(folder / "s")


def ask(running: Running) -> subprocess.CompletedProcess[str]:
    trust = str(running.state / "trust.json")
    return running.cli("ask", "--trust", trust, "--max-tokens", "4", "hello")


def findings(verdict: dict[str, Any]) -> dict[str, str]:
    return {one["code"]: one["detail"] for one in verdict["findings"]}


def test_it_serves_renews_obeys_and_the_verdict_names_the_custodians(way: tuple[str, Running]) -> None:
    kind, running = way
    answered = ask(running)
    assert answered.returncode == 0, answered.stderr
    assert ("same custodian" in answered.stderr) is (kind == "same")
    # Either authority that there is, alone, ends it (and the exit code says that the end was seen).
    at = "kms" if kind == "kms" else "owner"
    revoked = running.cli("authority", "revoke", "--stack", str(running.state), "--at", at)
    assert revoked.returncode == 0, revoked.stderr
    assert f"refused ({at})" in revoked.stdout
    exit_code, verdict = running.audit()
    found = findings(verdict)
    assert exit_code == 4, verdict
    owner = "owner by model-owner (asserted: software, key beside it)"
    if kind == "two":
        assert f"kms by cloud (keystore not said), {owner}" in found["P-KEYS"]
    elif kind == "same":
        assert found["S-CUSTODIAN"] == f"same custodian: kms by model-owner (keystore not said), {owner}"
    else:
        assert found["S-CUSTODIAN"].startswith("a single share: ")
    assert ("S-ASSERTED" in found) is (kind == "kms")
    assert "death: refused by " + at in found["P-END"]
