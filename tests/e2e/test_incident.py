"""An incident from its opening to its report, on a running stack: by the commands alone, and cut off in the middle."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anchorhold.sim.deploy import Settings
from anchorhold.sim.reseal import adopt
from anchorhold.sim.stack import down

from .conftest import STALLED_LEASE_MS, TINY, Running, bring_up
from .test_custodians import ask

pytestmark = pytest.mark.slow
ID = "INC-7"
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="ah-"))
    try:
        yield bring_up(folder, Settings(lease_ms=STALLED_LEASE_MS, engine=TINY))
    finally:
        down(folder / "s")
        shutil.rmtree(folder, ignore_errors=True)


def incident(running: Running, step: str, *more: str) -> tuple[int, dict[str, Any], str]:
    named = () if step == "open" else (ID,)
    stack = ("--stack", str(running.state), "--json")
    done = running.cli("authority", "incident", step, *named, *stack, *more, timeout=240.0)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def test_a_rotation_makes_another_sealed_model_and_interrupts_nobody(running: Running) -> None:
    """No incident yet: new keys for their own sake, while the model serves."""
    out = running.state.parent / "rotated"
    made = running.cli("model", "reseal", "--stack", str(running.state), "--out", str(out), "--json", timeout=240.0)
    assert made.returncode == 0, made.stderr
    assert not set(json.loads(made.stdout)["old"].values()) & set(json.loads(made.stdout)["new"].values())
    time.sleep(
        STALLED_LEASE_MS / 1000
    )  # every lease given during the resealing is over: those in force were renewed after it
    answered = ask(running)
    assert answered.returncode == 0, answered.stderr
    again = running.cli("model", "reseal", "--stack", str(running.state), "--out", str(out))
    assert again.returncode == 2
    assert "is there already" in again.stderr


def test_nothing_is_done_about_an_incident_that_nobody_opened(running: Running) -> None:
    code, _, said = incident(running, "contain")
    assert code == 2
    assert "was not opened" in said


def test_it_is_opened_and_a_report_before_containment_says_that_silence_is_not_proved(running: Running) -> None:
    code, opened, said = incident(running, "open", "--id", ID, "--reason", "laptop stolen")
    assert code == 0, said
    assert (opened["incident"], opened["kms"]) == (ID, "done")
    out = running.state / "early"
    code, told, said = incident(running, "report", "--out", str(out))
    assert code == 1, said
    assert told["silent"] is False
    assert "no revocation stands" in (out / "report.md").read_text()


def test_nothing_is_sealed_anew_before_silence(running: Running) -> None:
    code, _, said = incident(running, "reencrypt", "--out", str(running.state.parent / "resealed"))
    assert code == 1
    assert "silence was not proved" in said


def test_containment_is_not_silence_until_the_last_lease_has_ended(running: Running) -> None:
    code, early, said = incident(running, "contain", "--no-wait")
    assert code == 1, said
    assert not early["silent"]
    assert {one["authority"] for one in early["authorities"]} == {"owner", "kms"}
    assert all(one["revoked_seq"] is not None and not one["renewed_seqs"] for one in early["authorities"])
    code, late, said = incident(running, "contain")
    assert code == 0, said
    assert late["silent"]
    assert any(one["proved"] for one in late["authorities"]), "one suffices, and is waited for"
    # The other's last grant may have come up to a third of a lease later.
    until = time.monotonic() + PATIENCE_S
    while not all(one["proved"] for one in late["authorities"]) and time.monotonic() < until:
        code, late, said = incident(running, "contain")
        assert code == 0, said
    for one in late["authorities"]:
        assert one["proved"], one["why"]
        assert one["asked_at"] >= one["last_lease_end"]
        assert one["revoked_seq"] > one["last_grant_seq"]


def test_sealing_anew_goes_on_where_it_was_killed_and_ends_the_old_keys(running: Running) -> None:
    out = running.state.parent / "resealed"
    command = ["authority", "incident", "reencrypt", ID, "--stack", str(running.state), "--out", str(out), "--json"]
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "anchorhold"), *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    keys = out.with_name(f"..{out.name}.unsigned.work") / "keys.json"
    until = time.monotonic() + PATIENCE_S
    while not keys.exists() or len(json.loads(keys.read_text() or "{}")) < 2:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = json.loads(keys.read_text())
    code, done, said = incident(running, "reencrypt", "--out", str(out))
    assert code == 0, said
    assert done["new"] == made, "the keys of the run that was killed are used, not others made"
    assert done["ended"] == {"end_owner": "retired", "end_kms": "done"}
    checked = running.cli("model", "verify", str(out), "--root", str(running.state / "signer/signer.root.pem"))
    assert checked.returncode == 0, checked.stderr
    # Once more finds all of it done.
    code, again, said = incident(running, "reencrypt", "--out", str(out))
    assert code == 0, said
    assert (again["manifest"], again["new"]) == (done["manifest"], done["new"])


def test_the_report_lists_every_use_in_both_journals_and_proves_silence(running: Running) -> None:
    out = running.state / "report"
    code, told, said = incident(running, "report", "--out", str(out))
    assert code == 0, said
    assert told["silent"] is True
    report = json.loads((out / "report.json").read_text())
    assert [one["step"] for one in report["steps"]][:2] == ["open", "report"]
    assert {"contain", "silent", "reencrypt"} <= {one["step"] for one in report["steps"]}
    journal = running.cli("authority", "journal", "--stack", str(running.state), "--json")
    entries = [json.loads(line) for line in journal.stdout.splitlines()]
    wanted = {one["seq"] for one in entries if one["type"] in ("release", "deny", "share", "reseal-share")}
    uses = report["uses"]
    assert {one["seq"] for one in uses if one["authority"] == "owner"} == wanted
    served = [one for one in uses if one["operation"] == "Decrypt" and one["purpose_class"] == "serve"]
    resealed = [one for one in uses if one["operation"] == "Decrypt" and one["purpose_class"] == "reseal"]
    assert served
    assert any(one["allowed"] for one in resealed)
    # The transcript says which boot each request was of, and the same boots stand in the owner's journal.
    boots = {one["boot"] for one in uses if one["authority"] == "owner" and one["operation"] == "release key"}
    assert {one["boot"] for one in [*served, *resealed] if one["allowed"]} == boots
    assert {one["authority"] for one in report["heads"]} == {"owner", "kms"}
    assert report["heads"][0]["entries"] == len(entries) - 1, "the step `report` itself came after"


def test_a_reinstatement_at_the_owner_ends_its_proof_and_leaves_that_of_the_kms(running: Running) -> None:
    """The report says so from then on. One authority's silence is enough: an enclave needs a lease from each."""
    stack = ("--stack", str(running.state), "--reason", "mistake")
    assert running.cli("authority", "reinstate", "--at", "owner", *stack).returncode == 0
    code, told, said = incident(running, "report", "--out", str(running.state / "after"))
    assert (code, told["silent"]) == (0, True), said
    text = (running.state / "after/report.md").read_text()
    assert "owner: not proved: no revocation stands" in text, said


def test_keys_that_the_stack_has_taken_over_are_not_ended(running: Running) -> None:
    """Once the sealed model is adopted its keys are the stack's own: `reencrypt` again would end what serves."""
    out = running.state.parent / "resealed"
    down(running.state)
    adopt(running.state, out)
    again = Running(running.stack, running.stack.up())
    code, _, said = incident(again, "reencrypt", "--out", str(out))
    assert code == 1
    assert "nothing was ended" in said
    answered = ask(again)
    assert answered.returncode == 0, answered.stderr
