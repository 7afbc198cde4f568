"""The toy hypervisor: what it measured is what runs, nothing outlives it, and it refuses what it cannot measure."""

import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from anchorhold.attestation.anchors import anchor_from_pem
from anchorhold.attestation.document import parse_document
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.measure.cpio import Entry, Mode, write_cpio
from anchorhold.attestation.measure.eif import Architecture, write_eif
from anchorhold.attestation.measure.pcr import instance_register, measure
from anchorhold.attestation.types import Milliseconds
from anchorhold.attestation.verify import Genuine, verify_genuine
from anchorhold.sim.control import ControlRefused, ControlUnavailable, call

Rig: TypeAlias = Any  # the class is in conftest.py, which pytest's importlib mode lets no test import

pytestmark = pytest.mark.slow

ATTEST = """
import cbor2, socket
nsm = socket.socket(fileno=int(options["--nsm-fd"]))
request = cbor2.dumps({"Attestation": {"user_data": b"said inside", "nonce": None, "public_key": None}})
nsm.sendall(len(request).to_bytes(4, "big") + request)
size = int.from_bytes(nsm.recv(4, socket.MSG_WAITALL), "big")
answer = cbor2.loads(nsm.recv(size, socket.MSG_WAITALL))["Attestation"]["document"].hex()
nsm.detach()
"""


def _document(rig: Rig, window: int = 0) -> bytes:
    return bytes.fromhex(rig.inside(ATTEST, window))


def _genuine(rig: Rig, raw: bytes) -> Genuine:
    root = anchor_from_pem("simulated", (rig.state / "root.pem").read_bytes())
    return verify_genuine(raw, [root], datetime.now(UTC), max_age_ms=Milliseconds(60_000))  # noqa: TID251 - a real process's clock is the other end


def test_a_document_carries_the_registers_of_the_image_file(rig: Rig) -> None:
    image = rig.image()
    started = rig.run(image)
    genuine = _genuine(rig, _document(rig))
    assert genuine.simulated
    assert genuine.module_id == started["EnclaveID"]
    assert genuine.user_data == b"said inside"
    expected = measure(image.read_bytes())
    assert {index: genuine.pcrs[index] for index in expected} == expected
    assert genuine.pcrs[4] == instance_register(genuine.module_id.split("-enc")[0])
    described = rig.describe()[0]
    assert described["Measurements"]["PCR0"] == expected[0].hex()


def test_one_byte_of_enclave_code_changes_the_document(rig: Rig, stand_in: dict[str, bytes]) -> None:
    main = "anchorhold/enclave/__main__.py"
    rig.run(rig.image())
    rig.run(rig.image({**stand_in, main: stand_in[main] + b"#"}, "changed.eif"))
    first, second = (_genuine(rig, _document(rig, window)) for window in (0, 1))
    assert first.pcrs[0] != second.pcrs[0]
    assert first.pcrs[1] == second.pcrs[1]
    assert first.pcrs[2] != second.pcrs[2]


def test_what_runs_is_what_was_measured(rig: Rig, stand_in: dict[str, bytes]) -> None:
    """The files inside are the image's, byte for byte, and there are no others."""
    rig.run(rig.image())
    inside = rig.inside(
        """
from pathlib import Path
root = Path(options["--image"])
answer = {str(path.relative_to(root)): path.read_bytes().hex() for path in root.rglob("*") if path.is_file()}
writable = [str(path) for path in (root, *root.rglob("*")) if path.stat().st_mode & 0o222]
assert not writable, writable
"""
    )
    files = {name: bytes.fromhex(content) for name, content in inside.items()}
    assert {name: files[name] for name in stand_in} == stand_in
    assert files.keys() - stand_in.keys() == {"cmd", "env", "init.py", "enclave.lock"}


def test_an_image_file_changed_after_the_start_changes_nothing(rig: Rig) -> None:
    image = rig.image()
    expected = measure(image.read_bytes())[0]
    rig.run(image)
    image.write_bytes(b"gone")
    assert _genuine(rig, _document(rig)).pcrs[0] == expected


def test_a_debug_enclave_shows_zeros_and_is_refused(rig: Rig) -> None:
    rig.run(rig.image(), debug=True)
    assert rig.describe()[0]["Flags"] == "DEBUG_MODE"
    raw = _document(rig)
    with pytest.raises(EvidenceError, match="debug"):
        _genuine(rig, raw)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_enclaves_end_with_their_hypervisor(rig: Rig, alive: Any, until: Any, number: signal.Signals) -> None:
    pid = rig.run(rig.image())["ProcessID"]
    rig.inside("answer = 1")
    assert alive(pid)
    rig.process.send_signal(number)
    rig.process.wait(30)
    until(lambda: not alive(pid))


def test_the_log_tells_how_an_enclave_ended_and_the_list_drops_it(rig: Rig, until: Any) -> None:
    enclave_id = rig.run(rig.image())["EnclaveID"]
    rig.run(rig.image())
    assert len(rig.describe()) == 2
    with pytest.raises(ValueError):
        rig.inside("import os; print('last words', flush=True); os._exit(9)")
    until(lambda: len(rig.describe()) == 1)
    assert [(event["enclave"], event["exit"]) for event in rig.events("enclave-ended")] == [(enclave_id, 9)]
    assert "last words" in rig.console(enclave_id)
    assert not (rig.state / "enclaves" / enclave_id / "image").exists()


def test_the_modules_clock_moves_when_told_and_by_at_most_a_day(rig: Rig) -> None:
    rig.run(rig.image())
    before = parse_document(_document(rig)).timestamp_ms
    assert call(rig.control, {"command": "move-clock", "ms": -7_200_000}) == {"MovedMs": -7_200_000}
    assert -7_200_000 <= parse_document(_document(rig)).timestamp_ms - before < -3_600_000
    assert call(rig.control, {"command": "move-clock", "ms": 7_200_000}) == {"MovedMs": 0}
    for wrong in (86_400_001, "60", None):
        with pytest.raises(ControlRefused, match="field 'ms'"):
            call(rig.control, {"command": "move-clock", "ms": wrong})


def test_terminate_ends_one_enclave_and_says_so(rig: Rig, alive: Any) -> None:
    first, second = rig.run(rig.image()), rig.run(rig.image())
    answer = call(rig.control, {"command": "terminate-enclave", "enclave_id": first["EnclaveID"]})
    assert answer == {"EnclaveName": "stand-in", "EnclaveID": first["EnclaveID"], "Terminated": True}
    assert not alive(first["ProcessID"])
    assert [item["EnclaveID"] for item in rig.describe()] == [second["EnclaveID"]]
    with pytest.raises(ControlRefused, match="no enclave"):
        call(rig.control, {"command": "terminate-enclave", "enclave_id": first["EnclaveID"]})


def test_no_more_enclaves_than_an_instance_can_have(rig: Rig) -> None:
    image = rig.image()
    for _ in range(4):
        rig.run(image)
    with pytest.raises(ControlRefused, match="at most 4"):
        rig.run(image)


def test_the_log_says_what_is_not_simulated_and_what_stayed_open(rig: Rig) -> None:
    rig.run(rig.image())
    event = rig.events("enclave-started")[0]
    assert "memory isolation from the same user and root" in event["not_simulated"]
    assert len(event["closed"]) + len(event["open"]) == 3


def test_the_root_outlives_a_restart(rig: Rig, tmp_path: Path) -> None:
    before = (rig.state / "root.pem").read_bytes()
    rig.process.terminate()
    rig.process.wait(30)
    command = [sys.executable, "-m", "anchorhold.sim.hypervisor", "--state", str(rig.state)]
    with subprocess.Popen([*command, "--control", str(tmp_path / "again.sock")]) as again:
        try:
            while not (tmp_path / "again.sock").exists():
                assert again.poll() is None
            assert (rig.state / "root.pem").read_bytes() == before
        finally:
            again.terminate()


def _ramdisk_image(*ramdisks: bytes) -> bytes:
    return write_eif(architecture=Architecture.X86_64, kernel=b"k", cmdline=b"c", metadata=b"{}", ramdisks=ramdisks)


_COMMAND = Entry("cmd", Mode.FILE, b"python3\n-I\n-B\n/init.py\n")
_ENVIRONMENT = Entry("env", Mode.FILE, b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated"),
        (b"\x7fELF" + bytes(1000), "magic"),
        (_ramdisk_image(b"not cpio"), "newc header"),
        (_ramdisk_image(write_cpio((_COMMAND,)), write_cpio((_COMMAND,))), "two ramdisks"),
        (_ramdisk_image(write_cpio((_ENVIRONMENT,))), "expected a file 'cmd'"),
        (_ramdisk_image(write_cpio((Entry("cmd", Mode.FILE, b"/bin/sh\n"), _ENVIRONMENT))), "expected python3"),
    ],
)
def test_an_image_that_cannot_be_measured_or_started_is_refused(rig: Rig, content: bytes, message: str) -> None:
    path = rig.folder / "bad.eif"
    path.write_bytes(content)
    with pytest.raises(ControlRefused, match=message):
        rig.run(path)
    assert rig.describe() == []
    assert len(rig.events("enclave-refused")) == 1
    assert not list(rig.state.glob("enclaves/*/image"))


def test_an_absent_image_is_refused(rig: Rig) -> None:
    with pytest.raises(ControlRefused, match="No such file"):
        rig.run(rig.folder / "absent.eif")


def test_a_window_whose_ports_would_not_fit_is_refused(rig: Rig) -> None:
    request: dict[str, object] = {"command": "run-enclave", "eif_path": str(rig.image()), "enclave_name": "n"}
    with pytest.raises(ControlRefused, match="at most 101 bytes, got 102"):
        call(rig.control, {**request, "window": "/" + "w" * 101})


@pytest.mark.parametrize(
    "line", [b"\n", b"[]\n", b"{", b'{"command":"reboot"}\n', b'{"command":"run-enclave"}\n', b"\xff\n"]
)
def test_a_control_line_out_of_form_is_refused_and_the_next_one_answered(rig: Rig, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(rig.control))
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        assert b'"malformed"' in connection.makefile("rb").readline()
    assert rig.describe() == []


def test_the_control_socket_is_its_owners_alone(rig: Rig) -> None:
    assert rig.control.stat().st_mode & 0o777 == 0o600
    assert rig.state.stat().st_mode & 0o777 == 0o700


def test_a_control_socket_with_nobody_behind_it_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(ControlUnavailable):
        call(tmp_path / "nobody.sock", {"command": "describe-enclaves"})


def test_a_second_hypervisor_on_one_state_is_refused_and_harms_nothing(rig: Rig, tmp_path: Path) -> None:
    rig.run(rig.image())
    command = [sys.executable, "-m", "anchorhold.sim.hypervisor", "--state", str(rig.state)]
    control = ["--control", str(tmp_path / "second.sock")]
    second = subprocess.run([*command, *control], capture_output=True, text=True, check=False, timeout=60)
    assert second.returncode == 2
    assert "another one runs" in second.stderr
    assert rig.inside("import os; answer = os.path.isfile(options['--image'] + '/init.py')")
