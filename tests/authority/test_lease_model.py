"""The Promela model of the lease: every claim holds in every configuration, each fails when its rule is taken out, and
the model's transitions are the code's (docs/spec/lease-model.md).

spin writes the verifier, a C compiler builds it, and it visits every reachable state.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from anchorhold.enclave.keys.lease import Event, State, next_state
from anchorhold.enclave.phases import Phase, PhaseError, Phases, Step

MODEL = Path(__file__).parents[2] / "docs/spec/lease.pml"
DEPTH = 10_000  # steps of the longest run; those of today's configurations have under 200
MEMORY_MB = 3_000
PATIENCE_S = 900.0  # of one verification on a loaded machine; the largest takes some ten seconds alone
ROW = r":: {name} == (\w+) && (?:what|event) == (\w+) -> {name} = (\w+)"

RENEWALS = ("REQUESTS=3",)
SHORT = ("REQUESTS=2",)
LOG = ("REQUESTS=2", "KMS_REQUESTS=1", "LOG")
CLOCKS = ("REQUESTS=2", "KMS_REQUESTS=1", "TTL=2", "CLOCKS")
RESTART = ("REQUESTS=2", "RESTARTS=1")
BOOTS = ("REQUESTS=2", "KMS_REQUESTS=1", "BOOTS=2", "RESTARTS=1")
HONEST = ("REQUESTS=3", "KMS_REQUESTS=2", "TTL=6", "LOG_TTL=6", "LOG", "RESTARTS=1", "HONEST")
CONFIGURATIONS = {
    "renewals": RENEWALS,
    "log": LOG,
    "clocks": CLOCKS,
    "restart": RESTART,
    "boots": BOOTS,
    "honest": HONEST,
}

# The rule that is taken out, the configuration that needs it, and the claim that fails.
RULES = (
    ("NO_REQUEST_NUMBER", RENEWALS, "OWN_RENEWAL"),
    ("NO_REQUEST_NUMBER", (*RENEWALS, "CLAIM=SILENCE"), "SILENCE"),
    ("NO_CHALLENGE", RESTART, "FRESH_CHALLENGE"),
    ("NO_NUMBER_ORDER", CLOCKS, "GRANTED_ONCE"),
    ("DEADLINE_FROM_ARRIVAL", SHORT, "SILENCE"),
    ("NO_CHECK_BEFORE_TOKEN", SHORT, "SILENCE"),
    ("RENEWS_REVOKED", SHORT, "SILENCE"),
    ("NO_LEASE_SIGNATURE", SHORT, "OWN_RENEWAL"),
    ("NO_LEASE_SIGNATURE", (*SHORT, "CLAIM=SILENCE"), "SILENCE"),
    ("NO_ONE_TIME_KEY", SHORT, "OWN_RENEWAL"),
    ("NO_BOOT_ID", ("REQUESTS=1", "BOOTS=2"), "OWN_RENEWAL"),
    ("ONE_SHARE", SHORT, "BOTH_SHARES"),
    ("NO_CHECK_VALUE", (*SHORT, "CLAIM=BOTH_SHARES"), "BOTH_SHARES"),
    ("NO_LOG_LEASE", LOG, "LOG_LEASE"),
    ("LOG_LEASE_FROM_ARRIVAL", LOG, "LOG_LEASE"),
    ("NO_BARRIER", LOG, "LOGGED_RELEASE"),
    ("NO_CLOCK_DOUBT", CLOCKS, "CLOCK_CUT"),
    ("CHALLENGE_IS_FINAL", (*HONEST, "LOSSES=0"), "NO_DEADLOCK"),
    ("NO_RETRY", HONEST, "NO_DEADLOCK"),
)
# What must be possible, or the claims say nothing.
REACHED = {
    "serving": ("SHOW=1", *SHORT),
    "both renewed twice": ("SHOW=2", *RENEWALS),
    "revoked, served on within the lease, then silent": ("SHOW=3", *SHORT),
    "refused and drained within what was left": ("SHOW=4", *SHORT),
    "renewed by the owner after its restart": ("SHOW=5", *RESTART),
    "the second boot serves": ("SHOW=6", *BOOTS),
    "served, then cut on clock doubt": ("SHOW=7", "REQUESTS=2", "KMS_REQUESTS=1", "TTL=3", "CLOCKS"),
    "renewed in spite of every loss and restart": ("SHOW=8", *HONEST),
    "the log lease over, and an answer under way goes on": ("SHOW=9", "REQUESTS=1", "LOG"),
}


@dataclass(frozen=True, slots=True)
class Search:
    """What the verifier said of one configuration."""

    states: int
    violated: str | None
    """The claim that fails, or `end state` where something is stuck."""


def rows(source: str, table: str, name: str) -> dict[tuple[str, str], str]:
    """The transitions between the marks of one table, each written once."""
    begin, end = f"/* begin table: {table} */", f"/* end table: {table} */"
    (lines,) = re.findall(rf"{re.escape(begin)}(.*?){re.escape(end)}", source, re.DOTALL)
    found = [re.fullmatch(ROW.format(name=name), line.strip()) for line in lines.strip().splitlines()]
    assert all(found), "a line that is no row of the table"
    read = [(row[1], row[2], row[3]) for row in found if row is not None]
    assert len({row[:2] for row in read}) == len(read), "two rows for one step"
    return {(state, event): after for state, event, after in read}


def code_phases() -> dict[tuple[str, str], str]:
    """The phase table by driving the code: every step from every phase that can be reached."""
    known: dict[Phase, tuple[Step, ...]] = {Phases().now: ()}
    table: dict[tuple[str, str], str] = {}
    waiting = list(known)
    while waiting:
        phase = waiting.pop()
        for step in Step:
            machine = Phases()
            for taken in known[phase]:
                machine.take(taken)
            try:
                after = machine.take(step)
            except PhaseError:
                continue
            table[phase.name, step.name] = after.name
            if after not in known:
                known[after] = (*known[phase], step)
                waiting.append(after)
    assert set(known) == set(Phase)
    return table


def test_the_phase_table_of_the_model_is_the_code_s() -> None:
    assert rows(MODEL.read_text(), "phases", "phase") == code_phases()


def test_the_gate_table_of_the_model_is_the_code_s() -> None:
    table = rows(MODEL.read_text(), "gate", "gate")
    # What is in neither ends the lease, in the code by `next_state` and in the model by its `else`.
    model = {(s.name, e.name): table.get((s.name, e.name), "ENDED") for s in State for e in Event}
    assert model == {(state.name, event.name): next_state(state, event).name for state in State for event in Event}
    assert table.keys() <= model.keys(), "no row for a state or an event that the code does not have"


def search(folder: Path, defines: tuple[str, ...], source: str | None = None) -> Search:
    """Verify one configuration exhaustively. Skips where spin or a C compiler is absent."""
    spin, compiler = shutil.which("spin"), shutil.which("cc")
    if spin is None or compiler is None:
        pytest.skip("spin or a C compiler is not installed")
    (folder / "lease.pml").write_text(MODEL.read_text() if source is None else source)
    made = _run([spin, *(f"-D{one}" for one in defines), "-a", "lease.pml"], folder)
    assert "rror" not in made, made
    options = ["-O2", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}"]
    _run([compiler, *options, "-o", "pan", "pan.c"], folder)
    said = _run(["./pan", f"-m{DEPTH}", "-n"], folder)
    assert "too small" not in said, said
    states, errors = re.search(r"(\d+) states, stored", said), re.search(r"errors: (\d+)", said)
    assert states is not None, said
    assert errors is not None, said
    if errors[1] == "0":
        assert "Search not completed" not in said, said
        return Search(int(states[1]), None)
    claim = re.search(r"assertion violated \(+(\w+)", said)
    assert claim is not None or "invalid end state" in said, said
    return Search(int(states[1]), "end state" if claim is None else claim[1])


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_claim_holds_in_every_reachable_state(name: str, tmp_path: Path) -> None:
    found = search(tmp_path, CONFIGURATIONS[name])
    assert found.violated is None
    assert found.states > 100_000, "a model that lost its behaviour"


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "configuration", "claim"), RULES, ids=[f"{rule}-{claim}" for rule, _, claim in RULES])
def test_a_claim_fails_without_its_rule(rule: str, configuration: tuple[str, ...], claim: str, tmp_path: Path) -> None:
    assert rule in MODEL.read_text()
    assert search(tmp_path, (*configuration, rule)).violated == claim


@pytest.mark.slow
@pytest.mark.parametrize("state", REACHED)
def test_a_good_state_is_reached(state: str, tmp_path: Path) -> None:
    assert search(tmp_path, REACHED[state]).violated == "REACHED"


@pytest.mark.slow
def test_a_step_that_the_phase_table_lacks_is_seen(tmp_path: Path) -> None:
    source = MODEL.read_text()
    row = "  :: phase == LOADED && what == RECORDS_INCLUDED -> phase = SERVING\n"
    assert row in source
    assert search(tmp_path, SHORT, source.replace(row, "")).violated == "TABLES"


@pytest.mark.slow
def test_an_honest_parent_that_withholds_for_a_whole_lease_ends_it(tmp_path: Path) -> None:
    # The border of NO_DEADLOCK: what is left of a lease when it is renewed is four ticks of six.
    assert search(tmp_path, (*HONEST, "LOSSES=4")).violated == "NO_DEADLOCK"
