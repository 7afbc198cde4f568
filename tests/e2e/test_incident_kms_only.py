"""An incident where the KMS alone holds the key: no owner signs its steps, its journal alone proves silence."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorhold.sim.deploy import Settings
from anchorhold.sim.reseal import adopt
from anchorhold.sim.stack import Options, Stack, down

from .conftest import ROOT, STALLED_LEASE_MS, TINY, Running
from .test_custodians import ask
from .test_incident import ID, incident

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="ah-"))
    try:
        settings, lock = Settings(lease_ms=STALLED_LEASE_MS, engine=TINY), ROOT / "requirements/enclave.lock"
        stack = Stack(Options(state=folder / "s", model="tiny", settings=settings, lock=lock, sources=("kms",)))
        yield Running(stack, stack.up())
    finally:
        down(folder / "s")
        shutil.rmtree(folder, ignore_errors=True)


def test_it_is_opened_in_a_file_of_the_operator_s_and_in_the_key_s_tag(running: Running) -> None:
    code, opened, said = incident(running, "open", "--id", ID, "--reason", "laptop stolen")
    assert code == 0, said
    assert (opened["file"], opened["line"], opened["kms"]) == (str(running.state / f"incidents/{ID}.jsonl"), 1, "done")
    out = running.state / "early"
    code, told, said = incident(running, "report", "--out", str(out))
    assert (code, told["silent"]) == (1, False), said
    assert "no revocation stands" in (out / "report.md").read_text()


def test_containment_is_proved_by_the_kms_s_journal_once_the_last_lease_has_ended(running: Running) -> None:
    assert ask(running).returncode == 0
    code, early, said = incident(running, "contain", "--no-wait")
    assert (code, early["silent"]) == (1, False), said
    (kms,) = early["authorities"]
    assert "ms away" in kms["why"], "the key is disabled, and what serves has its lease still"
    code, _, said = incident(running, "reencrypt", "--out", str(running.state.parent / "resealed"))
    assert code == 1
    assert "silence was not proved" in said
    code, late, said = incident(running, "contain")
    assert (code, late["silent"]) == (0, True), said
    (kms,) = late["authorities"]
    assert kms["authority"] == "kms"
    assert kms["last_grant_seq"] < kms["revoked_seq"]
    assert kms["asked_at"] >= kms["last_lease_end"] > kms["revoked_at"]
    assert ask(running).returncode != 0


def test_the_report_has_every_use_at_the_kms_the_deaths_and_says_what_is_only_asserted(running: Running) -> None:
    out = running.state / "report"
    code, told, said = incident(running, "report", "--out", str(out))
    assert (code, told["silent"]) == (0, True), said
    report = json.loads((out / "report.json").read_text())
    assert [one["step"] for one in report["steps"]] == ["open", "report", "contain", "contain", "silent"]
    assert report["asserted"] == f"{ID}.jsonl"
    assert {one["authority"] for one in [*report["uses"], *report["heads"]]} == {"kms"}
    served = [one for one in report["uses"] if (one["operation"], one["purpose_class"]) == ("Decrypt", "serve")]
    assert any(one["allowed"] for one in served)
    assert any(not one["allowed"] for one in served), "the enclave asked again after the DisableKey"
    assert {"DisableKey", "TagResource"} <= {one["operation"] for one in report["uses"]}
    (end,) = report["ends"]
    assert end["how"].startswith("death: ")
    assert {one["boot"] for one in served if one["allowed"]} == {end["boot"]}
    text = (out / "report.md").read_text()
    assert "Asserted by the operator" in text
    assert "the owner's journal: no owner authority is named" in text


def test_it_is_sealed_anew_under_a_new_key_and_serves_from_it(running: Running) -> None:
    out = running.state.parent / "resealed"
    code, done, said = incident(running, "reencrypt", "--out", str(out))
    assert code == 0, said
    assert done["ended"] == {"end_kms": "done"}
    assert done["old"]["kms"] != done["new"]["kms"]
    down(running.state)
    adopt(running.state, out)
    again = Running(running.stack, running.stack.up())
    answered = ask(again)
    assert answered.returncode == 0, answered.stderr
    # The incident is about the key of before: what serves now keeps its own.
    code, told, said = incident(again, "report", "--out", str(running.state / "after"))
    assert (code, told["silent"]) == (0, True), said
    assert done["new"]["kms"] not in (running.state / "after/report.md").read_text()
    assert ask(again).returncode == 0
