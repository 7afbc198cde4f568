"""One changed byte of measured code, and a full start is refused by each key source on its own (the issue, DESIGN 9).

Each custodian's policy names the original measurements. A deployment asks its sources in the configuration's order, so
for the owner to be asked first there is a second configuration, registered with both.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import anchorhold
from anchorhold.attestation.configuration import (
    configuration_digest,
    decode_configuration,
    encode_configuration,
    pcr16,
)
from anchorhold.attestation.sealed.descriptor import encode_descriptor
from anchorhold.attestation.sealed.manifest import decode_manifest
from anchorhold.attestation.transcript.bodies import Death, KeyDeny, KeyLease, KeyRelease
from anchorhold.attestation.types import ConfigDigest, Platform
from anchorhold.authority.journal import JournalEntry
from anchorhold.client.errors import Unavailable
from anchorhold.client.trust import Trust
from anchorhold.publish.image import build_image, read_trees
from anchorhold.sim.deploy import Face, KmsDesk, OwnerDesk

from .cell import SOURCES, Base, Cells, ask
from .conftest import ROOT, SHORT_LEASE_MS

pytestmark = pytest.mark.slow
CHANGED = ("anchorhold/attestation/canonical.py", "anchorhold/enclave/keys/envelope.py")
CODE = {"kms": "AccessDeniedException", "owner": "evidence"}


@dataclass(frozen=True)
class Deployed:
    """A configuration that asks `first` first, and what a client of it pins."""

    first: str
    path: Path
    trust: Trust


def _register(base: Base, measurements: dict[int, bytes]) -> None:
    record = json.loads((base.state / "stack.json").read_text())
    kms = KmsDesk(Face(record["kms"]["url"], base.state / "kms"))
    kms.release_to(record["kms"]["key_arn"], measurements)
    owner = OwnerDesk(Face(record["owner"]["url"], base.state / "owner"))
    sealed = decode_manifest((base.state / "model/signed/manifest").read_bytes())
    owner.register(encode_descriptor(sealed.descriptor), base.trust.alias, measurements, SHORT_LEASE_MS)


@pytest.fixture(params=SOURCES)
def deployed(request: pytest.FixtureRequest, base: Base, cells: Cells) -> Iterator[Deployed]:
    """Both custodians release to the original image under a configuration that asks this source first."""
    whole = decode_configuration((base.state / "deployment.cbor").read_bytes())
    sources = sorted(whole.sources, key=lambda source: source.name != request.param)
    raw = encode_configuration(replace(whole, sources=tuple(sources)))
    path = cells.folder / "deployment.cbor"
    path.write_bytes(raw)
    original = base.measurements
    measurements = original | {16: pcr16(configuration_digest(raw))}
    trust = replace(base.trust, configuration=ConfigDigest(configuration_digest(raw)))
    _register(base, measurements)
    try:
        yield Deployed(request.param, path, trust)
    finally:
        _register(base, original)


def _image(folder: Path, changed: str) -> Path:
    """The image of today's trees with one bit of one letter in one comment changed: the code runs as before."""
    trees = read_trees(Path(anchorhold.__file__).parent)
    source = bytearray(trees[changed])
    at = source.index(b'"""') + len(b'"""')
    assert chr(source[at]).isalpha()
    source[at] ^= 0x20
    assert sum(old != new for old, new in zip(trees[changed], source, strict=True)) == 1
    path = folder / "changed.eif"
    lock = (ROOT / "requirements/enclave.lock").read_bytes()
    path.write_bytes(build_image({**trees, changed: bytes(source)}, lock, Platform.SIMULATED))
    return path


@pytest.mark.parametrize("deployed", ["owner"], indirect=True)  # every other test here is the control of `kms`
def test_the_image_the_policies_name_is_released_to_whoever_is_asked_first(cells: Cells, deployed: Deployed) -> None:
    """The control: what follows is refused for the byte alone."""
    cell = cells.start(configuration=deployed.path).serving()
    assert ask(replace(deployed.trust, gateway=cell.trust.gateway)).text
    assert next(body.source for body in cell.bodies() if isinstance(body, KeyLease)) == deployed.first


@pytest.mark.parametrize("changed", CHANGED)
def test_a_start_with_one_flipped_byte_is_refused_and_the_journal_shows_both_measurements(
    base: Base, cells: Cells, deployed: Deployed, changed: str
) -> None:
    journals = {name: len(base.journal(name)) for name in SOURCES}
    cell = cells.start(configuration=deployed.path, eif=_image(cells.folder, changed))
    # 1. The start ends, and says where and by whom it was refused.
    assert cell.ended() == 4
    assert f"Refused in LOGGED: source '{deployed.first}': {CODE[deployed.first]}" in cell.console()
    with pytest.raises(Unavailable):
        ask(cell.trust)
    # 2. So does the transcript; nothing was released.
    bodies = cell.bodies()
    denied = [body for body in bodies if isinstance(body, KeyDeny)]
    assert [(body.source, body.code) for body in denied] == [(deployed.first, CODE[deployed.first])]
    assert not any(isinstance(body, KeyRelease | KeyLease) for body in bodies)
    assert isinstance(bodies[-1], Death)
    assert (bodies[-1].reason, bodies[-1].source) == ("refused", deployed.first)
    # 3. The custodian's own journal has the measurement it expected and the one it was shown.
    expected, actual = base.measurements[0], cell.image_measurement
    assert expected != actual
    entries = base.journal(deployed.first)[journals[deployed.first] :]
    shown = _kms_shows if deployed.first == "kms" else _owner_shows
    assert [shown(entry) for entry in entries] == [(expected.hex(), actual.hex())]
    # 4. The other was not asked: the refusal is this source's own.
    other = next(name for name in SOURCES if name != deployed.first)
    assert len(base.journal(other)) == journals[other]


def _kms_shows(entry: JournalEntry) -> tuple[str, str]:
    event = json.loads(str(entry.body["event"]))
    assert (event["eventName"], event["errorCode"]) == ("Decrypt", "AccessDenied")
    unmet = {one["conditionKey"].rpartition(":")[2]: one for one in event["anchorholdUnmetConditions"]}
    assert event["additionalEventData"]["recipient"]["attestationDocumentEnclaveImageDigest"] == unmet["PCR0"]["actual"]
    return unmet["PCR0"]["expected"][0], unmet["PCR0"]["actual"]


def _owner_shows(entry: JournalEntry) -> tuple[str, str]:
    assert (entry.type, entry.body["code"]) == ("deny", "evidence")
    what, _, sides = str(entry.body["detail"]).partition(" differs: expected ")
    assert what == "measurement: measurement 0 (image)"
    expected, _, actual = sides.partition(", got ")
    return expected, actual
