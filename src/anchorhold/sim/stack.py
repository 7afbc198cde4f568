"""The simulated stack: every process of DESIGN 9, brought up in order, recorded, and brought down again.

Hypervisor, two authorities with separate state, log, parent; the parent has the hypervisor start the enclave. What an
earlier run left in the state folder (roots, keys, sealed model, log) is used again.
"""

import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anchorhold
from anchorhold.attestation.anchors import anchor_from_pem
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.measure.pcr import measure
from anchorhold.attestation.sealed.descriptor import encode_descriptor
from anchorhold.attestation.sealed.manifest import decode_manifest
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.authority.kms import setup as kms_setup
from anchorhold.authority.owner import setup as owner_setup
from anchorhold.publish.errors import PublishError
from anchorhold.publish.image import build_image, read_trees
from anchorhold.publish.providers import KmsShares, OwnerShares, ShareProvider
from anchorhold.publish.release_log import http_append
from anchorhold.publish.seal import SealRequest, seal
from anchorhold.publish.signing import create_signer, load_root, load_signer
from anchorhold.sim.cell import ADAPTERS, ENCLAVES, Wiring, parent_config, wait_serving, windows
from anchorhold.sim.deploy import (
    AUTHORITIES_STEP,
    KMS_SOURCE,
    POLICY_STEP,
    REGION,
    Deployment,
    Face,
    KmsDesk,
    KmsHalf,
    OwnerDesk,
    OwnerHalf,
    Parts,
    Settings,
    deployment,
    trust_file,
    under_keys_of,
)
from anchorhold.sim.observed import ask_shutdown, enclave_pids, phase_of, running
from anchorhold.sim.plaintext import MODELS, plaintext
from anchorhold.sim.processes import Recorded, StackError, as_json, held_signals, save, start, stop, wait_ready
from anchorhold.sim.release_desk import ReleaseDesk

__all__ = ["MODELS", "Options", "Stack", "down", "enclave_pids", "phase_of", "running"]

OWNER_NAME, OWNER_CUSTODIAN, KMS_CUSTODIAN = "owner", "model-owner", "cloud"
MAX_WINDOW = 90  # characters of the window's path; sun_path holds 107 and the ports are appended
POLL_SECONDS = 0.1
STEPS = 7

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]
Step = Callable[[str], None]


def own_lock() -> Path:
    """The measured lock of the checkout this code runs from."""
    return Path(anchorhold.__file__).resolve().parents[2] / "requirements/enclave.lock"


@dataclass(frozen=True, slots=True)
class Options:
    """What `sim up` was asked for."""

    state: Path
    model: str = "smollm2"
    cache: Path = Path(".cache")
    settings: Settings = field(default_factory=Settings)
    lock: Path = field(default_factory=own_lock)
    sources: tuple[str, ...] = ("kms", "owner")
    """Who holds a share: both, or one alone, which is then the whole key's custodian."""
    same_custodian: bool = False
    """One party runs both authorities: the verdict says so."""
    enclaves: int = 1
    """How many of one image and one configuration; each is a boot of its own."""
    step: Step = lambda _title: None
    """Told the title of each step as it begins, and an empty one when the last is done."""
    say: Say = lambda _text: None
    progress: Progress = lambda _what, _done, _total: None
    rewire: Callable[[dict[str, Any]], dict[str, Any]] = lambda config: config
    """The parent is nobody we trust: its configuration may be changed here, say to put a relay before its sockets."""

    @property
    def kms_custodian(self) -> str:
        """Who runs the KMS."""
        return OWNER_CUSTODIAN if self.same_custodian else KMS_CUSTODIAN


class Stack:
    """One state folder. `up` and `down` are the two ends; between them the processes run on their own."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.state = options.state.resolve()
        self.logs = self.state / "logs"
        self._processes: list[Recorded] = []
        self._steps = 0

    # Up

    def up(self) -> dict[str, object]:
        """Everything, until the enclave is SERVING; the record that is in `stack.json` too. Raises StackError."""
        if running(self.state):
            raise StackError(f"a stack is running in {self.state}", hint=f"anchorhold sim down --state {self.state}")
        self._check()
        for folder in (self.state, *(self.state / one for one in ("logs", "ready", "window", ADAPTERS))):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return self._up()
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """End what this object has started; once more does nothing."""
        with held_signals():
            stop(list(reversed(self._processes)))

    def _check(self) -> None:
        """What can be known to be wrong before anything is started. Raises StackError."""
        model, lock = self.options.model, self.options.lock
        if not ENCLAVES[0] <= self.options.enclaves <= ENCLAVES[1]:
            raise StackError(f"enclaves: expected {ENCLAVES[0]} to {ENCLAVES[1]}, got {self.options.enclaves}")
        if model not in MODELS and not Path(model).is_dir():
            raise StackError(f"model: expected {', '.join(MODELS)} or a folder, got {model!r}")
        if not lock.is_file():
            raise StackError(
                f"no measured lock at {lock}", hint="run from a checkout: it has requirements/enclave.lock"
            )
        if len(str(self.window)) > MAX_WINDOW:
            hint = f"a --state whose full path has at most {MAX_WINDOW - len('/window/w')} characters"
            raise StackError(f"state folder: its path is too long for a Unix socket: {self.window}", hint=hint)

    def _up(self) -> dict[str, object]:
        with self._step("hypervisor"):
            root = self._hypervisor()
        with self._step(AUTHORITIES_STEP[self.options.sources]):
            kms, owner = self._authorities(root)
        with self._step("log"):
            log_url, log_origin, log_key = self._log()
        with self._step(f"model {self.options.model}"):
            half = None if kms is None else KmsHalf(kms, self._kms_key(kms), self.options.kms_custodian)
            self._seal(half, owner)
            sealed = decode_manifest((self.state / "model/signed/manifest").read_bytes())
            half, owner = under_keys_of(sealed, half, owner)
        with self._step("image, measured before it starts; its release signed by two of two, and logged"):
            image = self._image()
            desk = self._release(image, Vkey.parse(log_key), log_url)
        parts = Parts(
            model=sealed.digest,
            model_id=sealed.descriptor.model_id,
            signer=load_root(self.state / "signer"),
            kms=half,
            owner=owner,
            log_origin=log_origin,
            log_key=log_key,
        )
        deployed = deployment(parts, self.options.settings, image)
        (self.state / "deployment.cbor").write_bytes(deployed.configuration)
        with self._step(POLICY_STEP[self.options.sources]):
            self._policies(parts, encode_descriptor(sealed.descriptor), deployed)
        pinned = desk.pin(str(desk.list))
        name, pem = f"sim:{self.state.name}", root.read_text()
        trust = trust_file(parts, deployed, name=name, root_pem=pem, releases=pinned)
        self._remember(trust, desk)
        with self._step("parent and enclave"):
            gateway = self._parent(parts, log_url)
        (self.state / "trust.json").write_text(json.dumps({**trust, "gateway": gateway}, indent=2) + "\n")
        return self._record(parts, deployed, desk, gateway)

    def _release(self, image: dict[int, bytes], log: Vkey, log_url: str) -> ReleaseDesk:
        """Owner and operator accept this image: the statement and the list that clients ask."""
        now = Milliseconds(int(datetime.now(UTC).timestamp() * 1000))  # noqa: TID251 - as below
        try:
            desk = ReleaseDesk(self.state)
            desk.publish(image, log, http_append(log_url), now)
        except (EvidenceError, PublishError) as error:
            raise StackError(f"release: {error}") from error
        return desk

    def _remember(self, trust: dict[str, object], desk: ReleaseDesk) -> None:
        """Every deployment that may write to this log, for its auditor, with the list of its day: both change."""
        folder = self.state / "trust"
        folder.mkdir(mode=0o700, exist_ok=True)
        listed = desk.list.read_bytes()
        kept = f"{hashlib.sha256(listed).hexdigest()[:16]}.releases"
        (folder / kept).write_bytes(listed)
        remembered = {**trust, "releases": desk.pin(kept).as_json()}
        raw = json.dumps(remembered, indent=2, sort_keys=True) + "\n"
        (folder / f"{hashlib.sha256(raw.encode()).hexdigest()[:16]}.json").write_text(raw)

    def _hypervisor(self) -> Path:
        state, control = self.state / "hypervisor", self.control
        control.unlink(missing_ok=True)
        self._start(
            "hypervisor",
            ["-m", "anchorhold.sim.hypervisor", "--state", str(state), "--control", str(control)],
            lambda: control.exists() and (state / "root.pem").exists(),
        )
        return state / "root.pem"

    def _policies(self, parts: Parts, descriptor: bytes, deployed: Deployment) -> None:
        if parts.kms is not None:
            KmsDesk(parts.kms.face).release_to(parts.kms.key, deployed.measurements)
        if (owner := parts.owner) is not None:
            desk, lease_ms = OwnerDesk(owner.face), self.options.settings.lease_ms
            desk.register(descriptor, parts.model_id, deployed.measurements, lease_ms, key=owner.key)

    def _authorities(self, root: Path) -> tuple[Face | None, OwnerHalf | None]:
        anchor = anchor_from_pem("simulated", root.read_bytes())
        # The command's one clock reading.
        now = Milliseconds(int(datetime.now(UTC).timestamp() * 1000))  # noqa: TID251
        kms_state, owner_state = self.state / "kms", self.state / "owner"
        if "kms" in self.options.sources and not kms_state.exists():
            kms_setup.init(kms_state, "simulated", [anchor], now=now, region=REGION)
        if "owner" in self.options.sources and not owner_state.exists():
            owner_setup.init(owner_state, "simulated", [anchor], OWNER_NAME, OWNER_CUSTODIAN, now=now)
        faces = {
            kind: Face(f"https://localhost:{self._authority(state)}", state)
            for kind, state in (("kms", kms_state), ("owner", owner_state))
            if kind in self.options.sources
        }
        owner = faces.get("owner")
        return faces.get("kms"), None if owner is None else OwnerHalf.of(owner)

    def _authority(self, state: Path) -> int:
        serve = ["-m", "anchorhold.cli.main", "authority", "serve", "--state", str(state)]
        return self._serve(state.name, [*serve, "--listen", "127.0.0.1:0"])

    def _log(self) -> tuple[str, str, str]:
        state = self.state / "log"
        if not state.exists():
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

            from anchorhold.log.store import init_state

            origin = f"sim.anchorhold.example/{secrets.token_hex(4)}"
            vkey = str(init_state(state, origin, Ed25519PrivateKey.generate()))
            (self.state / "log.json").write_text(json.dumps({"origin": origin, "key": vkey}))
        known = json.loads((self.state / "log.json").read_text())
        port = self._serve("log", ["-m", "anchorhold.log", "--state", str(state), "--listen", "127.0.0.1:0"])
        return f"http://127.0.0.1:{port}", known["origin"], known["key"]

    def _kms_key(self, kms: Face) -> str:
        path = self.state / "kms-key.arn"
        if not path.exists():
            path.write_text(KmsDesk(kms).create_key())
        return path.read_text()

    def _seal(self, kms: KmsHalf | None, owner: OwnerHalf | None) -> None:
        out = self.state / "model"
        if out.exists():
            self._check_sources(out)
            self.options.say("sealed earlier: used again")
            return
        if not (self.state / "signer").exists():
            create_signer(self.state / "signer", "simulated", datetime.now(UTC))  # noqa: TID251 - as above
        folder, model_id = plaintext(self.options.model, self.state, self.options.cache, self.options.progress)
        providers: list[ShareProvider] = []
        if kms is not None:
            providers.append(KmsShares(KMS_SOURCE, kms.key, KmsDesk(kms.face).client("publisher")))
        if owner is not None:
            face = owner.face
            providers.append(OwnerShares(OWNER_NAME, face.url, token=OwnerDesk(face).token, ca=face.ca))
        request = SealRequest(folder, out, model_id, "1")
        seal(request, providers, load_signer(self.state / "signer"), self.options.progress)

    def _check_sources(self, out: Path) -> None:
        sealed = decode_manifest((out / "signed/manifest").read_bytes())
        kinds = {share.kind.value for share in sealed.shares}
        if kinds != set(self.options.sources):
            wanted, found = " and ".join(self.options.sources), " and ".join(sorted(kinds))
            raise StackError(f"the model in {out} is sealed for {found}, not for {wanted}", hint="another --state")

    def _image(self) -> dict[int, bytes]:
        trees = read_trees(Path(anchorhold.__file__).parent)
        eif = build_image(trees, self.options.lock.read_bytes(), Platform.SIMULATED)
        (self.state / "image.eif").write_bytes(eif)
        return measure(eif)

    def _parent(self, parts: Parts, log_url: str) -> str:
        shutil.rmtree(self.window.parent)
        self.window.parent.mkdir(mode=0o700)
        credentials = self.state / "enclave-credentials.json"
        credentials.touch(mode=0o600)
        kms = parts.kms  # without one nobody asks for them, and the parent has a file to name
        credentials.write_text("{}" if kms is None else KmsDesk(kms.face).enclave_credentials())
        egress = {} if kms is None else {KMS_SOURCE: kms.face.address}
        egress |= {} if parts.owner is None else {parts.owner.identity.name: parts.owner.face.address}
        wiring = Wiring(
            state=self.state,
            ready_file=self._ready("parent"),
            credentials=credentials,
            control=self.control,
            log=log_url,
            egress=egress,
        )
        save(self.state / "parent.json", self.options.rewire(parent_config(wiring, self.options.enclaves)))
        port = self._serve(
            "parent", ["-m", "anchorhold.parent", "--config", str(self.state / "parent.json")], announced=True
        )
        wait_serving(self.state, windows(self.state, self.options.enclaves), self._processes[-1].alive)
        return f"127.0.0.1:{port}"

    def _record(self, parts: Parts, deployed: Deployment, desk: ReleaseDesk, gateway: str) -> dict[str, object]:
        record: dict[str, object] = {
            "version": 1,
            "platform": "simulated",
            "processes": as_json(self._processes),
            "gateway": gateway,
            "trust": str(self.state / "trust.json"),
            "trusts": str(self.state / "trust"),
            "releases": str(desk.list),
            "measurements": {str(index): value.hex() for index, value in sorted(deployed.measurements.items())},
            "transcript": str(self.state / "log"),
            "window": str(self.window),
            "windows": [str(window) for window in windows(self.state, self.options.enclaves)],
            "model": parts.model.hex(),
            "model_id": parts.model_id,
            "manifest": str(self.state / "model/signed/manifest"),
            "signer": str(self.state / "signer"),
        }
        if (kms := parts.kms) is not None:
            record["kms"] = {
                "url": kms.face.url,
                "ca": str(kms.face.ca),
                "credentials": str(kms.face.state / "credentials-admin.json"),
                "publisher": str(kms.face.state / "credentials-publisher.json"),
                "token_file": str(kms.face.state / "admin.token"),
                "key_arn": kms.key,
                "region": REGION,
            }
        if (owner := parts.owner) is not None:
            record["owner"] = {
                "url": owner.face.url,
                "ca": str(owner.face.ca),
                "token_file": str(owner.face.state / "admin.token"),
            }
        save(self.state / "stack.json", record)
        return record

    # Small things

    @property
    def control(self) -> Path:
        return self.state / "hv.sock"

    @property
    def window(self) -> Path:
        return windows(self.state, 1)[0]

    def _ready(self, name: str) -> Path:
        return self.state / "ready" / f"{name}.json"

    def _serve(self, name: str, arguments: list[str], *, announced: bool = False) -> int:
        ready = self._ready(name)
        ready.unlink(missing_ok=True)
        given = arguments if announced else [*arguments, "--ready-file", str(ready)]
        self._start(name, given, ready.exists)
        return int(json.loads(ready.read_text())["port"])

    def _start(self, name: str, arguments: list[str], ready: Callable[[], bool]) -> None:
        with held_signals():
            process = start(name, arguments, self.logs)
            self._processes.append(process)
            save(self.state / "stack.json", {"version": 1, "processes": as_json(self._processes)})
        wait_ready(process, ready, self.logs)

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        self._steps += 1
        self.options.step(f"[{self._steps}/{STEPS}] {what}")
        yield
        if self._steps == STEPS:
            self.options.step("")


def down(state: Path) -> list[str]:
    """Ask each enclave to close, then end the recorded processes, youngest first; their names."""
    alive = running(state)
    for window in windows(state):
        ask_shutdown(window)
    deadline = time.monotonic() + 10.0
    while enclave_pids(state) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return stop(list(reversed(alive)))
