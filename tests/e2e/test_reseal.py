"""A revoked model is sealed anew in an enclave: no plaintext anywhere else, and a new deployment serves from it.

Looked at: every byte on every socket of the resealing's parent (a relay records it), that parent's memory once all has
gone through it, and every file. The same control as for serving: what is planted in each of them is found.
"""

import json
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from anchorhold.attestation.sealed.manifest import decode_manifest
from anchorhold.attestation.transcript.bodies import Close, Reseal
from anchorhold.cli.deaths import unverified_entries
from anchorhold.cli.reseals import resealed_facts, sign_folder
from anchorhold.publish.signing import load_root
from anchorhold.sim.deploy import Face, KmsDesk, Settings
from anchorhold.sim.processes import StackError
from anchorhold.sim.reseal import Resealing, adopt, reseal
from anchorhold.sim.stack import Options, Stack, down
from anchorhold.wire.messages import Port

from .conftest import ROOT, STALLED_LEASE_MS, TINY, Running, cli
from .random_model import model_markers, random_model
from .recording import Recording
from .scan import Hit, Marker, Scanner
from .test_custodians import ask
from .test_markers import plants

pytestmark = pytest.mark.slow
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the memory of other processes")
PORTS = (Port.HEARTBEAT, Port.BOOT, Port.EGRESS, Port.BLOBS, Port.RECORDS)
PATIENCE_S = 90.0


@dataclass
class Done:
    """What came of it, and what was seen on the way."""

    state: Path
    out: Path
    options: Options
    recording: Recording
    markers: list[Marker]
    facts: dict[str, Any] = field(default_factory=dict)
    parent: list[Hit] | None = None
    """Markers in the parent's memory; None where nobody could look."""
    planted: set[tuple[str, str]] = field(default_factory=set)
    found: set[tuple[str, str]] = field(default_factory=set)

    def key(self, of: str, source: str) -> str:
        """The `old` or the `new` key of a source."""
        return str(self.facts[of][source])


def rewired(recording: Recording, config: dict[str, Any]) -> dict[str, Any]:
    outer = Path(config["window"])
    inner = outer.with_name("q")
    recording.unix("window", outer, inner)
    for port in PORTS:
        recording.unix(f"port-{port.value}", Path(f"{inner}_{port.value}"), Path(f"{outer}_{port.value}"))
    egress = {name: recording.tcp(f"egress-{name}", target) for name, target in config["egress"].items()}
    log = f"http://{recording.tcp('log', config['log'].removeprefix('http://'))}"
    return config | {"egress": egress, "log": log, "enclave": config["enclave"] | {"args": ["--window", str(inner)]}}


def look(done: Done, pid: int) -> None:
    """The parent's memory for the model; then a control of new markers that it holds, as a request without an end."""
    if os.geteuid() != 0:
        return
    done.parent = Scanner(done.markers).memory("parent", pid)
    controls = [Marker("control weights", secrets.token_bytes(192), halves=True)]
    content, done.planted = plants(controls)
    scanner = Scanner(controls)
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(done.state / f"window/r_{Port.BOOT.value}"))
        stream.sendall((len(content) + 2).to_bytes(4, "big") + b"\x01" + content)
        until = time.monotonic() + PATIENCE_S
        while done.found != done.planted and time.monotonic() < until:
            done.found = {(hit.marker, hit.form) for hit in scanner.memory("parent", pid)}


@pytest.fixture(scope="module")
def done() -> Iterator[Done]:
    folder = Path(tempfile.mkdtemp(prefix="ah-"))
    recording = Recording(folder / "recording")
    try:
        model = random_model(folder / "plain")
        options = Options(
            state=folder / "s",
            model=str(model),
            cache=ROOT / ".cache",
            settings=Settings(lease_ms=STALLED_LEASE_MS, engine=TINY),
            lock=ROOT / "requirements/enclave.lock",
        )
        Stack(options).up()
        made = Done(folder / "s", folder / "out", options, recording, model_markers(model))
        assert cli("authority", "revoke", "--stack", str(made.state), "--reason", "incident").returncode == 0
        reseal(
            Resealing(
                made.state,
                made.out,
                "incident",
                rewire=lambda config: rewired(recording, config),
                ended=lambda pid: look(made, pid),
            )
        )
        root = load_root(made.state / "signer")
        state = made.state
        sign_folder(made.out, state / "model", root, state / "signer", state / "log", state / "trust")
        made.facts = resealed_facts(state, made.out)
        yield made
    finally:
        down(folder / "s")
        recording.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_the_new_model_has_nothing_of_the_old_but_its_identity(done: Done) -> None:
    old = decode_manifest((done.state / "model/signed/manifest").read_bytes())
    new = decode_manifest((done.out / "signed/manifest").read_bytes())
    assert (new.digest, new.descriptor) == (old.digest, old.descriptor)
    assert [one.order for one in new.shares] == [one.order for one in old.shares]
    for what in ("salt", "commitment"):
        assert getattr(new, what) != getattr(old, what)
    for what in ("key", "blob", "check"):
        assert not {getattr(one, what) for one in new.shares} & {getattr(one, what) for one in old.shares}
    assert not {one.digest for one in new.bodies} & {one.digest for one in old.bodies}
    checked = cli("model", "verify", str(done.out), "--root", str(done.state / "signer/signer.root.pem"))
    assert checked.returncode == 0, checked.stderr


def test_no_marker_crosses_the_parent_or_lies_in_a_file(done: Done) -> None:
    scanner = Scanner(done.markers)
    assert scanner.tree(done.recording.folder) == []
    recorded = scanner.scanned
    assert recorded == sum(done.recording.bytes.values())
    for folder in (done.state, done.out):
        assert scanner.tree(folder) == []
    # All of the model went both ways through what was scanned.
    sealed = sum(path.stat().st_size for path in done.out.glob("*.sealed"))
    for way in ("up", "down"):
        assert done.recording.bytes[f"port-{Port.BLOBS.value}.{way}"] > sealed


def test_what_is_planted_beside_it_is_found(done: Done, tmp_path: Path) -> None:
    content, expected = plants(done.markers)
    (tmp_path / "planted").write_bytes(content)
    assert {(hit.marker, hit.form) for hit in Scanner(done.markers).tree(tmp_path)} == expected


@needs_root
def test_no_marker_is_in_the_parent_s_memory_where_a_planted_one_is_found(done: Done) -> None:
    assert done.parent == []
    assert done.planted
    assert done.found == done.planted


def test_the_transcript_shows_the_resealing_and_the_auditor_agrees(done: Done) -> None:
    bodies = [entry.body for entry in unverified_entries(done.state / "log")]
    (said,) = [one for one in bodies if isinstance(one, Reseal)]
    assert said.manifest.hex() == done.facts["manifest"]
    assert said.keys == (done.key("new", "kms"), done.key("new", "owner"))
    closed = next(one for one in bodies if isinstance(one, Close))
    assert closed.reason == "resealed"
    sealed = sum(path.stat().st_size for path in done.out.glob("*.sealed"))
    assert closed.egress["sealed"] == sealed + (done.out / "signed/manifest").stat().st_size
    trust = str(done.state / "trust")
    audited = cli("audit", "verify", str(done.state / "log"), "--trust", trust, "--json")
    verdict = json.loads(audited.stdout)
    assert audited.returncode == 4, verdict
    assert any("sealed anew" in one["detail"] for one in verdict["findings"])


def test_a_new_deployment_serves_from_it_and_the_old_blobs_open_nothing(done: Done) -> None:
    """Last: it takes the stack down and up. The old KMS key is enabled again, so that it is the owner who refuses."""
    stack = ["--stack", str(done.state), "--reason", "incident"]
    for order in (
        ["retire", "--key", done.key("old", "owner"), "--lose-model", done.facts["model"]],
        ["reinstate", "--at", "owner"],
    ):
        ordered = cli("authority", order[0], *stack, *order[1:])
        assert ordered.returncode == 0, ordered.stderr
    down(done.state)
    before = adopt(done.state, done.out)
    record = Stack(done.options).up()
    answered = ask(Running(Stack(done.options), record))
    assert answered.returncode == 0, answered.stderr
    KmsDesk(Face(record["kms"]["url"], done.state / "kms")).enable(done.key("old", "kms"))  # type: ignore[index]
    down(done.state)
    (done.state / "model").rename(done.state / "model-new")
    before.rename(done.state / "model")
    with pytest.raises(StackError) as refused:
        Stack(done.options).up()
    assert "'owner': blob" in str(refused.value.hint)
