"""`anchorhold authority revoke` while answers stream: either authority, three seeds each (DESIGN 5).

A seed draws the lease's length and the token at which the order is given. Each case has a stack of its own; two run at
a time. Measured twice: by the enclave's death record, which the command prints, and by when the clients had each token.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation.configuration import EngineSettings
from anchorhold.attestation.transcript.bodies import Body, Death, KeyDeny, KeyRelease
from anchorhold.cli.deaths import unverified_entries
from anchorhold.client.errors import LeaseEnded
from anchorhold.publish.tiny import make_tiny_model
from anchorhold.sim.deploy import Settings
from anchorhold.sim.stack import down, enclave_pids

from .cell import whole_lines
from .conftest import Running, bring_up, cli
from .streams import CliStream, SdkStream

pytestmark = pytest.mark.slow

AUTHORITIES = ("owner", "kms")
SEEDS = (1, 2, 3)
CONTEXT = 8_448  # of the model; its own 2,048 tokens are over before a lease is
MAX_TOKENS = 8_192
ENGINE = EngineSettings("float32", 2 * CONTEXT, 4, 1)
PATIENCE_S = 90.0
AT_ONCE = 2
EXIT_REFUSED, EXIT_DIED = 4, 3  # of the enclave


@dataclass(frozen=True, slots=True)
class Plan:
    """One case, drawn from its seed."""

    authority: str
    seed: int
    lease_ms: int
    after_tokens: int

    @classmethod
    def draw(cls, authority: str, seed: int) -> "Plan":
        drawn = hashlib.sha256(f"{authority} {seed}".encode()).digest()
        # Long enough to be renewed on a machine that stalls; over before the answers are.
        lease_ms, after = int.from_bytes(drawn[:4], "big"), int.from_bytes(drawn[4:8], "big")
        return cls(authority, seed, 5_000 + lease_ms % 2_000, 1 + after % 1_000)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one case left behind; everything is measured, nothing judged."""

    plan: Plan
    revoke_code: int
    said: dict[str, Any]
    asked: CliStream
    sdk: SdkStream
    receipt_kept: bool
    late_code: int
    late_said: str
    pids_left: list[int]
    exits: list[int]
    restart_console: str
    bodies: tuple[tuple[Body, ...], ...]
    """Of each boot, in order."""
    audit_code: int
    audit: dict[str, Any]


def wait_until(what: str, done: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < until, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.02)


def long_model(folder: Path) -> Path:
    """The tiny model with room for a long answer."""
    make_tiny_model(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    return folder


def exits(state: Path) -> list[int]:
    """Exit codes of the enclaves that ended, by the hypervisor's log."""
    lines = whole_lines(state / "hypervisor/hypervisor.log")
    return [event["exit"] for line in lines if (event := json.loads(line))["event"] == "enclave-ended"]


def run_enclave(state: Path) -> str:
    """The next start, as the parent starts one; its console once it has ended."""
    before, consoles = len(exits(state)), set(state.glob("hypervisor/enclaves/*/console.log"))
    start = json.loads((state / "parent.json").read_text())["enclave"]
    command = [*start["command"], "run-enclave", "--eif-path", start["eif"], *start["args"]]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    wait_until("the end of the next start", lambda: len(exits(state)) > before)
    (console,) = set(state.glob("hypervisor/enclaves/*/console.log")) - consoles
    return console.read_text()


def by_boot(transcript: Path) -> tuple[tuple[Body, ...], ...]:
    boots: dict[bytes, list[Body]] = {}
    for entry in unverified_entries(transcript):
        boots.setdefault(bytes(entry.boot), []).append(entry.body)
    return tuple(tuple(bodies) for bodies in boots.values())


def revoke(running: Running, authority: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command a person types; seen from `folder` the stack is the one of `sim up`, so it need not be named."""
    (folder / ".cache").mkdir()
    (folder / ".cache/sim").symlink_to(running.state)
    model = str(running.record["model_id"])
    command = [str(Path(sys.executable).parent / "anchorhold"), "authority", "revoke", "--model", model]
    return subprocess.run(
        [*command, "--at", authority, "--json"], capture_output=True, text=True, timeout=60, cwd=folder, check=False
    )


def run_case(plan: Plan, folder: Path) -> Outcome:
    settings = Settings(lease_ms=plan.lease_ms, engine=ENGINE)
    running = bring_up(folder, settings, model=str(long_model(folder / "long")))
    trust, receipt = running.state / "trust.json", folder / "receipt"
    asked = CliStream(trust, "Tell me everything.", MAX_TOKENS, receipt)
    sdk = SdkStream(running.trust, "And again.", MAX_TOKENS)
    asked.start()
    sdk.start()
    wait_until("tokens", lambda: min(asked.arrivals.tokens, sdk.arrivals.tokens) >= plan.after_tokens)
    ordered = revoke(running, plan.authority, folder)
    asked.join(PATIENCE_S)
    sdk.join(PATIENCE_S)
    wait_until("the enclave's end", lambda: len(exits(running.state)) == 1)
    late = cli("ask", "--trust", str(trust), "Still there?")
    pids_left = enclave_pids(running.state)
    console = run_enclave(running.state)
    audit_code, audit = running.audit()
    return Outcome(
        plan=plan,
        revoke_code=ordered.returncode,
        said=json.loads(ordered.stdout),
        asked=asked,
        sdk=sdk,
        receipt_kept=receipt.exists(),
        late_code=late.returncode,
        late_said=late.stderr,
        pids_left=pids_left,
        exits=exits(running.state),
        restart_console=console,
        bodies=by_boot(running.state / "log"),
        audit_code=audit_code,
        audit=audit,
    )


def in_a_folder(plan: Plan) -> Outcome:
    folder = Path(tempfile.mkdtemp(prefix="ah-"))
    try:
        return run_case(plan, folder)
    finally:
        down(folder / "s")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, int], Outcome]:
    plans = [Plan.draw(authority, seed) for authority in AUTHORITIES for seed in SEEDS]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {(done.plan.authority, done.plan.seed): done for done in pool.map(in_a_folder, plans)}


@pytest.fixture(
    params=[(authority, seed) for authority in AUTHORITIES for seed in SEEDS], ids=lambda p: f"{p[0]}-{p[1]}"
)
def outcome(request: pytest.FixtureRequest, outcomes: dict[tuple[str, int], Outcome]) -> Outcome:
    return outcomes[request.param]


def test_the_last_token_comes_within_the_lease_plus_one_token(outcome: Outcome) -> None:
    said, lease_ms = outcome.said, outcome.plan.lease_ms
    (enclave,) = said["enclaves"]
    assert (outcome.revoke_code, said["lease_ttl_ms"], enclave["lease_ttl_ms"]) == (0, lease_ms, lease_ms)
    after = enclave["last_token_ms"] - said["revoked_ms"]
    sys.stdout.write(f"\n{outcome.plan}: last {after} ms, wiped {enclave['wiped_ms'] - said['revoked_ms']} ms after\n")
    # The enclave's own word: its lease was asked for before the order, so it cannot outlast it at all.
    assert 0 < after <= lease_ms
    for arrivals in (outcome.asked.arrivals, outcome.sdk.arrivals):
        late = arrivals.last_ms - said["revoked_ms"]
        gap_ms = arrivals.longest_gap_ms
        sys.stdout.write(
            f"  {arrivals.tokens} tokens, the last came {late:.0f} ms after, longest gap {gap_ms:.0f} ms\n"
        )
        assert arrivals.first_ms < said["revoked_ms"], "the order came while the answer streamed"
        assert late <= lease_ms + gap_ms


def test_every_client_gets_a_typed_error_and_none_a_receipt(outcome: Outcome) -> None:
    assert outcome.sdk.finished is None
    assert isinstance(outcome.sdk.error, LeaseEnded)
    assert 0 < outcome.sdk.arrivals.tokens < MAX_TOKENS
    assert outcome.asked.code == 1
    assert "error: the enclave says its lease has ended" in outcome.asked.said
    assert "provisional: no receipt came" in outcome.asked.said
    assert "verified" not in outcome.asked.said
    assert not outcome.receipt_kept


def test_the_enclave_wipes_and_is_gone_and_a_late_question_is_not_answered(outcome: Outcome) -> None:
    (enclave,) = outcome.said["enclaves"]
    assert enclave["last_token_ms"] <= enclave["wiped_ms"]
    assert (outcome.pids_left, outcome.exits[0]) == ([], EXIT_DIED)
    assert outcome.late_code == 2
    assert "anchorhold: error: " in outcome.late_said


def test_the_next_start_is_refused_by_the_source_that_revoked(outcome: Outcome) -> None:
    authority = outcome.plan.authority
    assert outcome.exits == [EXIT_DIED, EXIT_REFUSED]
    assert "Refused in LOGGED" in outcome.restart_console
    assert authority in outcome.restart_console
    _, second = outcome.bodies
    (deny,) = [body for body in second if isinstance(body, KeyDeny)]
    assert (deny.source, deny.ask) == (authority, "key")
    assert authority not in {body.source for body in second if isinstance(body, KeyRelease)}


def test_the_transcript_says_why(outcome: Outcome) -> None:
    authority = outcome.plan.authority
    (death,) = [body for body in outcome.bodies[0] if isinstance(body, Death)]
    assert (death.reason, death.source) == ("refused", authority)
    assert (outcome.audit_code, outcome.audit["exit_code"]) == (4, 4)
    ends = [finding for finding in outcome.audit["findings"] if finding["code"] == "P-END"]
    assert ends[0]["subject"] == "Boot 1"
    assert ends[0]["detail"].startswith(f"death: refused by {authority}, last token at {death.last_token_ms} ms")
    assert not [finding for finding in outcome.audit["findings"] if finding["status"] == "FAIL"]
