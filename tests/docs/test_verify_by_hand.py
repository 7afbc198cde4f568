"""docs/verify.md does what it says: its scripts and commands are taken from the page and run, without our code.

On the published document they print what the page shows; on every other real document they come to the verdict its
index gives; on documents with a fault they stop.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anchorhold.attestation.configuration import pcr16
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.labels import CONFIGURATION
from anchorhold.attestation.measure.eif import Architecture, write_eif
from anchorhold.attestation.measure.pcr import measure
from anchorhold.attestation.types import ConfigDigest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/verify.md").read_text()
G1 = ROOT / "attestation/roots/aws_nitro_g1.pem"
REAL = ROOT / "../shared/vectors/nitro"
VECTORS = ROOT / "tests/vectors/evidence"
EXAMPLE = "rust-sdk-2026-06-30-enc-prod-277e236b"
TIMEOUT = 60  # seconds; all of it takes one
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(kind, name, body) for kind, name, body in BLOCK.findall(PAGE)]
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/vectors/nitro is not there")


def commands() -> list[tuple[str, str]]:
    """Each block of commands with what it prints, none where the page shows nothing."""
    found = []
    for at, (kind, _, body) in enumerate(BLOCKS):
        if kind == "sh":
            shown = BLOCKS[at + 1] if at + 1 < len(BLOCKS) else ("", "", "")
            found.append((body, shown[2] if shown[0] == "text" else ""))
    return found


def prepare(folder: Path, document: bytes, root_pem: bytes) -> None:
    for kind, name, body in BLOCKS:
        if kind == "python":
            (folder / name).write_text(body)
    (folder / "document.cbor").write_bytes(document)
    (folder / "root.pem").write_bytes(root_pem)


def run(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", body],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip


def by_hand(folder: Path, document: bytes, root_pem: bytes) -> bool:
    """Whether form, chain and signature hold, by the commands of sections 2 to 4."""
    prepare(folder, document, root_pem)
    first, last = PAGE.index("## 2."), PAGE.index("## 5.")
    blocks = [body for kind, _, body in BLOCK.findall(PAGE[first:last]) if kind == "sh"]
    assert len(blocks) == 5
    return run(folder, "\n".join(blocks)).returncode == 0


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def _real() -> dict[str, bool]:
    if not REAL.is_dir():
        return {}
    index = json.loads((REAL / "index.json").read_text())["documents"]
    return {one["name"]: bool(one["verifies_to_g1_at_own_timestamp"]) for one in index}


def _sample() -> list[str]:
    """The bad ones, a NitroTPM's, and of each form of map one: our own verifier's tests read the rest."""
    names = sorted(_real())
    chosen = [one for one in names if not _real()[one]]
    chosen += [next((one for one in names if mark in one), "") for mark in ("-tpm-", "-2021-", "-2024-", "-2025-10-")]
    return [one for one in chosen if one]


def test_the_scripts_need_nothing_but_the_standard_library() -> None:
    scripts = {name: body for kind, name, body in BLOCKS if kind == "python"}
    assert scripts.keys() == {"open_document.py", "registers.py", "measure_image.py", "labelled.py"}
    imported = {name for body in scripts.values() for name in re.findall(r"^(?:import|from) (\w+)", body, re.MULTILINE)}
    assert imported <= {"hashlib", "json", "struct", "sys"}


@needs_openssl
@needs_real
def test_the_page_prints_what_it_shows(tmp_path: Path) -> None:
    prepare(tmp_path, (REAL / f"{EXAMPLE}.cbor").read_bytes(), G1.read_bytes())
    assert len(commands()) == 8
    for body, shown in commands():
        done = run(tmp_path, body)
        assert done.returncode == 0, (body, done.stderr)
        assert done.stdout.rstrip() == shown.rstrip(), body


@needs_openssl
@pytest.mark.parametrize("name", _sample() or [pytest.param("", marks=needs_real)])
def test_a_real_document_gets_the_verdict_of_its_index(tmp_path: Path, name: str) -> None:
    assert by_hand(tmp_path, (REAL / f"{name}.cbor").read_bytes(), G1.read_bytes()) == _real()[name]


def _vectors() -> dict[str, dict[str, str]]:
    index = json.loads((VECTORS / "index.json").read_text())
    return {one["name"]: one for one in index["vectors"]}


def pem(der: bytes) -> bytes:
    done = subprocess.run(["openssl", "x509", "-inform", "DER"], input=der, capture_output=True, check=True)
    return done.stdout


@needs_openssl
def test_documents_without_a_fault_hold_by_hand_too(tmp_path: Path) -> None:
    root = pem((VECTORS / "root.der").read_bytes())
    for name in ("accept-indefinite", "accept-definite", "accept-left-out"):
        folder = tmp_path / name
        folder.mkdir()
        assert by_hand(folder, (VECTORS / _vectors()[name]["file"]).read_bytes(), root), name


FORM = (
    "bytes-cut", "bytes-trailing", "cose-three", "cose-wide-count", "protected-es256", "protected-twice",
    "unprotected-kid", "payload-huge-length", "signature-der", "map-trailing", "map-no-break", "map-count-high",
    "field-twice", "field-unknown", "field-no-pcrs", "field-two-banks", "inner-deep", "inner-map-huge",
    "inner-map-indefinite", "register-twice", "register-32", "register-32-bytes", "bundle-none", "nonce-1025",
    "identity-tpm-name",
)  # fmt: skip
PROOF = (
    "root-stranger", "root-last", "root-pasted", "chain-p256-leaf", "chain-sha256-leaf", "chain-expired-zonal",
    "chain-no-ca-zonal", "chain-no-usage-regional", "chain-path-length-zonal", "chain-forged-instance",
    "chain-swapped", "chain-leaf-signs-leaf", "chain-ca-as-leaf", "chain-leaf-no-sign", "chain-leaf-cert-sign",
    "chain-certificate-trailing", "signature-flipped", "identity-longer",
)  # fmt: skip


@pytest.mark.parametrize("name", FORM)
def test_a_document_out_of_form_is_not_taken_apart(tmp_path: Path, name: str) -> None:
    prepare(tmp_path, (VECTORS / _vectors()[name]["file"]).read_bytes(), b"")
    done = python(tmp_path, "open_document.py")
    assert done.returncode == 1
    assert not (tmp_path / "signed").exists()


@needs_openssl
@pytest.mark.parametrize("name", PROOF)
def test_a_chain_or_signature_with_a_fault_does_not_hold(tmp_path: Path, name: str) -> None:
    document = (VECTORS / _vectors()[name]["file"]).read_bytes()
    assert not by_hand(tmp_path, document, pem((VECTORS / "root.der").read_bytes()))
    assert (tmp_path / "signed").exists(), "its form was right"


@needs_openssl
@needs_real
def test_a_debug_enclave_and_another_release_are_refused(tmp_path: Path) -> None:
    names = {
        "debug": "attestor-core-2025-08-12-enc-debug-7b0409c3",
        "other": "attestor-core-2025-10-15-enc-prod-625d11b8",
    }
    release = next(body for body, _ in commands() if "release.json" in body).rpartition("python3")[0]
    for expected, name in names.items():
        folder = tmp_path / expected
        folder.mkdir()
        assert by_hand(folder, (REAL / f"{name}.cbor").read_bytes(), G1.read_bytes())
        assert run(folder, release).returncode == 0
        done = python(folder, "registers.py")
        assert done.returncode == 1
        assert ("debug enclave" if expected == "debug" else "register 0: expected ea7c") in done.stderr


def test_an_image_is_measured_as_by_our_own_reader(tmp_path: Path) -> None:
    prepare(tmp_path, b"", b"")
    for disks in ((b"one",), (b"one", b"two"), (b"one", b"two", b"three")):
        image = write_eif(
            architecture=Architecture.X86_64, kernel=b"kernel", cmdline=b"quiet", metadata=b"{}", ramdisks=disks
        )
        (tmp_path / "image.eif").write_bytes(image)
        expected = {str(at): value.hex() for at, value in measure(image).items()}
        assert json.loads(python(tmp_path, "measure_image.py").stdout) == expected


def test_statement_digests_and_register_16_come_out_as_specified(tmp_path: Path) -> None:
    prepare(tmp_path, b"", b"")
    for vector in json.loads((VECTORS / "statements.json").read_text())["vectors"]:
        (tmp_path / "statement.cbor").write_bytes(bytes.fromhex(vector["statement"]))
        label = f"anchorhold/v1/statement/{vector['kind']}"
        assert python(tmp_path, "labelled.py", label, "statement.cbor").stdout.strip() == vector["user_data"]
    (tmp_path / "configuration.cbor").write_bytes(b"a configuration")
    expected = pcr16(ConfigDigest(labelled(CONFIGURATION, b"a configuration"))).hex()
    done = python(tmp_path, "labelled.py", "anchorhold/v1/configuration", "configuration.cbor", "register")
    assert done.stdout.strip() == expected
