"""Sealing a simulated stack's model anew, in an enclave of its own beside the running stack (docs/spec/lifecycle.md 3).

Every step may have been taken before by a run that was cut off: keys that were made are used again, and what an enclave
left half done is thrown away, which without its manifest opens for nobody.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anchorhold.attestation.configuration import (
    RESEAL_CLASS,
    Configuration,
    NewKey,
    configuration_digest,
    decode_configuration,
    encode_configuration,
    pcr16,
)
from anchorhold.attestation.purpose import RESEAL
from anchorhold.sim.deploy import Face, KmsDesk, OwnerDesk
from anchorhold.sim.observed import console_tail
from anchorhold.sim.processes import Recorded, StackError, save, start, stop, wait_ready

PATIENCE_S = 600.0  # of simulation: a model of some GiB on a loaded machine
POLL_S = 0.1
ORDER_MS = 3_600_000  # life of the owner's order
KEYS_FILE, BEFORE_FILE, CONFIGURATION_FILE, BODIES = "keys.json", "before.json", "reseal.cbor", "model"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Resealing:
    """What `model reseal` was asked for. `out` appears when the enclave has ended well; it is not signed yet."""

    state: Path
    out: Path
    reason: str
    say: Say = lambda _text: None
    rewire: Callable[[dict[str, Any]], dict[str, Any]] = field(default=lambda config: config)
    """The parent is nobody we trust: its configuration may be changed here."""
    ended: Callable[[int], None] = lambda _pid: None
    """Told the parent's pid once its enclave has ended well, before the parent does."""


@dataclass(frozen=True, slots=True)
class Resealed:
    """The unsigned result, and which keys took the place of which."""

    folder: Path
    old: dict[str, str]
    new: dict[str, str]


def reseal(asked: Resealing) -> Resealed:
    """Raises StackError. 1. New keys. 2. The configuration, whose register 16 names the one enclave that may.

    3. Leave of both custodians. 4. Parent and enclave. 5. The leave is taken back.
    """
    state = asked.state.resolve()
    work = asked.out.with_name(f".{asked.out.name}.work")
    if asked.out.exists():
        raise StackError(f"{asked.out} is there already: a sealed model is never written over")
    work.mkdir(parents=True, exist_ok=True)
    desks = _Desks(state)
    # 1. and 2.
    asked.say("new keys")
    running = decode_configuration((state / "deployment.cbor").read_bytes())
    old = {one.name: one.key for one in running.sources}
    new = new_keys(work / KEYS_FILE, running, kms=desks.kms, owner=desks.owner, reason=asked.reason)
    raw = reseal_configuration(running, new)
    (work / CONFIGURATION_FILE).write_bytes(raw)
    measurements = desks.measurements | {16: pcr16(configuration_digest(raw))}
    _trust(state, raw)
    # 3.
    asked.say("leave of the custodians, for that enclave alone")
    before = _enabled(work / BEFORE_FILE, desks, running)
    desks.allow(running, new, measurements, before, asked.reason)
    try:
        # 4.
        asked.say("parent and enclave")
        _run(asked, state, work)
    finally:
        # 5.
        desks.forbid(running, new, before, asked.reason)
    (work / BODIES).rename(asked.out)
    shutil.rmtree(work)
    return Resealed(asked.out, old, new)


def reseal_configuration(running: Configuration, new: Mapping[str, str]) -> bytes:
    """The running one's, for an enclave that seals under the keys `new` and serves nobody, by an adapter either."""
    keys = tuple(NewKey(one.name, new[one.name]) for one in running.sources)
    return encode_configuration(
        replace(running, purpose_class=RESEAL_CLASS, purposes=(RESEAL,), reseal=keys, adapters=0)
    )


class _Desks:
    """The authorities of a running stack, as their administrators use them."""

    def __init__(self, state: Path) -> None:
        try:
            self.record: dict[str, Any] = json.loads((state / "stack.json").read_text())
        except (OSError, ValueError) as error:
            raise StackError(f"no stack in {state}") from error
        self.kms = KmsDesk(Face(self.record["kms"]["url"], state / "kms")) if "kms" in self.record else None
        self.owner = OwnerDesk(Face(self.record["owner"]["url"], state / "owner")) if "owner" in self.record else None
        self.measurements = {int(index): bytes.fromhex(value) for index, value in self.record["measurements"].items()}

    def allow(
        self,
        running: Configuration,
        new: dict[str, str],
        measurements: dict[int, bytes],
        before: dict[str, bool],
        reason: str,
    ) -> None:
        """What serves goes on serving, where its key was enabled before."""
        for source in running.sources:
            if self.kms is not None and source.kind == "kms":
                serving = [self.measurements] if before[source.key] else []
                self.kms.reseal_under(new[source.name], measurements)
                self.kms.release_to(source.key, measurements, *serving)
                self.kms.enable(source.key)
            elif self.owner is not None:
                # The order's one clock reading.
                now = int(datetime.now(UTC).timestamp() * 1000)  # noqa: TID251
                self.owner.order_reseal(running.model, measurements, now + ORDER_MS, reason)

    def forbid(self, running: Configuration, new: dict[str, str], before: dict[str, bool], reason: str) -> None:
        """As it was, and nobody draws shares under the new keys."""
        for source in running.sources:
            if self.kms is not None and source.kind == "kms":
                if before[source.key]:
                    self.kms.release_to(source.key, self.measurements)
                else:
                    self.kms.disable(source.key)
                self.kms.release_to(new[source.name])
            elif self.owner is not None:
                self.owner.end_reseal(running.model, reason)


def new_keys(
    path: Path, running: Configuration, *, kms: KmsDesk | None, owner: OwnerDesk | None, reason: str
) -> dict[str, str]:
    """By source. What a run before made is in `path`; the owner's is asked for again, for it may be in force no more:
    the enclave would refuse another's share.
    """
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    for source in running.sources:
        if source.kind != "kms":
            assert owner is not None
            known[source.name] = owner.newer_key(source.key, reason)
        elif source.name not in known:
            assert kms is not None
            known[source.name] = kms.create_key()
        save(path, dict(known))
    return known


def _enabled(path: Path, desks: _Desks, running: Configuration) -> dict[str, bool]:
    """Which KMS keys were enabled before the first run of this resealing touched them."""
    if not path.exists():
        kms = [source.key for source in running.sources if source.kind == "kms"]
        save(path, {key: desks.kms is not None and desks.kms.enabled(key) for key in kms})
    known: dict[str, bool] = json.loads(path.read_text())
    return known


def _trust(state: Path, configuration: bytes) -> None:
    """The auditor of this log may meet this deployment too."""
    digest = configuration_digest(configuration).hex()
    trust = json.loads((state / "trust.json").read_text())
    kept = max((state / "trust").glob("*.json"), key=lambda path: path.stat().st_mtime)
    releases = json.loads(kept.read_text())["releases"]
    remembered = {**trust, "gateway": "127.0.0.1:0", "configuration": digest, "releases": releases}
    (state / "trust" / f"{digest[:16]}.json").write_text(json.dumps(remembered, indent=2, sort_keys=True) + "\n")


def _run(asked: Resealing, state: Path, work: Path) -> None:
    shutil.rmtree(work / BODIES, ignore_errors=True)
    (work / BODIES).mkdir()
    window = state / "window/r"
    ready = state / "ready/reseal.json"
    ready.unlink(missing_ok=True)
    config: dict[str, Any] = json.loads((state / "parent.json").read_text())
    one = config.pop("enclaves")[0] if "enclaves" in config else config
    config |= {
        "ready_file": str(ready),
        "configuration": str(work / CONFIGURATION_FILE),
        "window": str(window),
        "enclave": one["enclave"] | {"args": ["--window", str(window)]},
        "resealed": str(work / BODIES),
    }
    save(work / "parent.json", asked.rewire(config))
    known = _ended(state)
    with _parent(state, work, ready) as parent:
        deadline = time.monotonic() + PATIENCE_S
        while not (ended := {name: code for name, code in _ended(state).items() if name not in known}):
            if not parent.alive():
                raise StackError("the parent ended before its enclave did")
            if time.monotonic() > deadline:
                raise StackError(f"the model was not sealed anew within {PATIENCE_S:.0f} s")
            time.sleep(POLL_S)
        if any(code != 0 for code in ended.values()):
            raise StackError("the enclave ended before the model was sealed anew", hint=console_tail(state))
        asked.ended(parent.pid)


@contextmanager
def _parent(state: Path, work: Path, ready: Path) -> Iterator[Recorded]:
    process = start("reseal", ["-m", "anchorhold.parent", "--config", str(work / "parent.json")], state / "logs")
    try:
        wait_ready(process, ready.exists, state / "logs")
        yield process
    finally:
        stop([process])


def _ended(state: Path) -> dict[str, int | str]:
    """Exit code or signal of every enclave that has ended, by the hypervisor's log."""
    lines = (state / "hypervisor/hypervisor.log").read_text().splitlines()
    events = [json.loads(line) for line in lines if line.endswith("}")]
    return {one["enclave"]: one.get("exit", one.get("signal", "")) for one in events if one["event"] == "enclave-ended"}


def adopt(state: Path, folder: Path) -> Path:
    """A stack that is down serves from `folder` at its next start; where the model of before lies now."""
    before, beside = state / "model-before", state / "model.new"
    if before.exists():
        raise StackError(f"{before} is there already", hint="the model before the last adoption: move it away first")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(folder, beside)
    (state / "model").rename(before)
    beside.rename(state / "model")
    return before
