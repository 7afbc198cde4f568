"""`anchorhold image build|measure|show|sign|diff`: data on stdout, people on stderr, exit codes."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from anchorhold.attestation.measure.eif import Architecture, write_eif
from anchorhold.attestation.measure.pcr import measure
from anchorhold.cli.image_build import write_whole
from anchorhold.cli.main import main

Captured = pytest.CaptureFixture[str]


def _run(*words: str) -> int:
    return main(["image", *words])


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "enclave.lock"
    path.write_bytes(b"# locked\n")
    return path


def test_build_and_measure_agree(tmp_path: Path, lock: Path, capsys: Captured) -> None:
    image = tmp_path / "image.eif"
    assert _run("build", "--lock", str(lock), "--out", str(image), "--json") == 0
    built = capsys.readouterr()
    assert _run("measure", str(image), "--json") == 0
    measured = capsys.readouterr()
    assert json.loads(built.out) == json.loads(measured.out)
    expected = {f"PCR{index}": value.hex() for index, value in measure(image.read_bytes()).items()}
    assert json.loads(built.out)["Measurements"].items() >= expected.items()
    assert "simulated" in built.err


def test_measure_prints_one_register_a_line(tmp_path: Path, lock: Path, capsys: Captured) -> None:
    image = tmp_path / "image.eif"
    _run("build", "--lock", str(lock), "--out", str(image))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["PCR0", "PCR1", "PCR2"]


def test_a_file_that_is_no_image_is_exit_2(tmp_path: Path, lock: Path, capsys: Captured) -> None:
    assert _run("measure", str(lock)) == 2
    assert _run("measure", str(tmp_path / "absent")) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("anchorhold: error: ") == 2


def test_an_absent_lock_is_exit_2_with_a_hint(tmp_path: Path, capsys: Captured) -> None:
    assert _run("build", "--lock", str(tmp_path / "absent"), "--out", str(tmp_path / "image.eif")) == 2
    assert "anchorhold: hint: " in capsys.readouterr().err
    assert not (tmp_path / "image.eif").exists()


@pytest.fixture
def parts(tmp_path: Path) -> list[str]:
    """The words that build a real enclave's image."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "app.py").write_text("print(1)\n")
    words = ["build", "--out", str(tmp_path / "real.eif"), "--arch", "aarch64", "--rootfs", str(root)]
    for name in ("kernel", "cmdline", "init", "nsm"):
        (tmp_path / name).write_text(f"{name}\n")
        words += [f"--{name}", str(tmp_path / name)]
    return [*words, "--command", "python3 '/my app.py'", "--env", "LANG=C"]


@pytest.fixture
def signer(tmp_path: Path) -> list[str]:
    """A key and a certificate of it, valid from 2020 to 2040."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "image signer")])
    begin, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 7, begin, end).sign(key, hashes.SHA384())
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "signer.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return ["--key", str(tmp_path / "key.pem"), "--certificate", str(tmp_path / "signer.pem")]


def test_a_real_image_is_built_from_its_parts(tmp_path: Path, parts: list[str], capsys: Captured) -> None:
    image = str(tmp_path / "real.eif")
    assert _run(*parts) == 0
    assert "2 ramdisks, aarch64, unsigned" in capsys.readouterr().err
    assert _run("show", image, "--files", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["architecture"], shown["cmdline"], shown["signer"]) == ("aarch64", "cmdline", None)
    boot, root = ([file["name"] for file in ramdisk["files"]] for ramdisk in shown["ramdisks"])
    assert boot == ["dev", "init", "nsm.ko"]
    assert {"rootfs/app.py", "rootfs/proc", "cmd", "env"} <= set(root)
    assert b"python3\n/my app.py\n" in (tmp_path / "real.eif").read_bytes()


@pytest.mark.parametrize(
    ("drop", "hint"),
    [("--kernel", "image build --help"), ("--cmdline", "cmdline"), ("--arch", "--arch x86_64")],
)
def test_a_part_that_is_missing_is_named(parts: list[str], drop: str, hint: str, capsys: Captured) -> None:
    at = parts.index(drop)
    assert _run(*parts[:at], *parts[at + 2 :]) == 2
    assert hint in capsys.readouterr().err


def test_a_part_without_the_one_it_belongs_to_is_refused(tmp_path: Path, parts: list[str], capsys: Captured) -> None:
    start = ["build", "--out", str(tmp_path / "real.eif"), "--arch", "x86_64"]
    start += [word for name in ("kernel", "cmdline") for word in (f"--{name}", str(tmp_path / name))]
    for more in ([], ["--nsm", str(tmp_path / "nsm")], ["--command", "x"]):
        assert _run(*start, *more) == 2
    assert capsys.readouterr().err.count("anchorhold: error: ") == 3
    assert not (tmp_path / "real.eif").exists()


def test_a_command_line_of_two_lines_is_exit_1(tmp_path: Path, parts: list[str], capsys: Captured) -> None:
    (tmp_path / "cmdline").write_text("one\ntwo\n")
    assert _run(*parts) == 1
    assert "command line" in capsys.readouterr().err


def test_a_signed_image_shows_its_signer_and_when_it_ends(
    tmp_path: Path, parts: list[str], signer: list[str], capsys: Captured
) -> None:
    image = str(tmp_path / "real.eif")
    _run(*parts)
    capsys.readouterr()
    assert _run("sign", image, *signer, "--json") == 0
    assert json.loads(capsys.readouterr().out)["Measurements"].keys() >= {"PCR0", "PCR1", "PCR2", "PCR8"}
    assert _run("show", image) == 0
    said = capsys.readouterr().out
    assert "CN=image signer (ES384), 2020-01-01T00:00:00Z..2040-01-01T00:00:00Z" in said
    assert "NOT valid" not in said
    assert _run("show", image, "--at", "2041-01-01T00:00:00Z") == 0
    assert "NOT valid, nitro-cli will not start it" in capsys.readouterr().out
    assert _run("show", image, "--at", "2041-01-01T00:00:00Z", "--json") == 0
    assert json.loads(capsys.readouterr().out)["signer"]["valid"] is False


def test_a_time_without_its_zone_is_no_time(tmp_path: Path, parts: list[str], capsys: Captured) -> None:
    _run(*parts)
    assert _run("show", str(tmp_path / "real.eif"), "--at", "2041-01-01") == 2
    assert "with its zone" in capsys.readouterr().err


def test_a_key_that_is_not_the_certificates_is_exit_1_and_the_image_stays(
    tmp_path: Path, parts: list[str], signer: list[str], capsys: Captured
) -> None:
    _run(*parts)
    before = (tmp_path / "real.eif").read_bytes()
    other = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(other)
    assert _run("sign", str(tmp_path / "real.eif"), *signer) == 1
    assert "not the key's" in capsys.readouterr().err
    assert (tmp_path / "real.eif").read_bytes() == before


def test_diff_names_the_file_and_exits_1(tmp_path: Path, parts: list[str], capsys: Captured) -> None:
    _run(*parts)
    image, other = tmp_path / "real.eif", tmp_path / "other.eif"
    image.replace(other)
    (tmp_path / "root" / "app.py").write_text("print(22)\n")
    _run(*parts)
    capsys.readouterr()
    assert _run("diff", str(other), str(image)) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == ["PCR0  differs", "PCR1  the same", "PCR2  differs"]
    assert "  ~ ramdisk 2 rootfs/app.py (contents 9 -> 10 bytes)" in said
    assert _run("diff", str(other), str(image), "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["registers"] == ["PCR0", "PCR2"]
    assert [(file["name"], file["what"]) for file in found["files"]] == [("rootfs/app.py", ["contents"])]
    assert _run("diff", str(image), str(image)) == 0
    assert capsys.readouterr().out == "the same, byte for byte\n"
    assert _run("diff", str(image), str(tmp_path / "kernel")) == 2


def test_measure_explains_what_each_register_covers(
    tmp_path: Path, parts: list[str], signer: list[str], capsys: Captured
) -> None:
    image = tmp_path / "real.eif"
    _run(*parts)
    _run("sign", str(image), *signer)
    capsys.readouterr()
    assert _run("measure", str(image), "--explain", "--json") == 0
    explained = json.loads(capsys.readouterr().out)
    kinds = {name: [explained["sections"][number]["kind"] for number in numbers]
             for name, numbers in explained["covers"].items()}  # fmt: skip
    assert kinds == {
        "PCR0": ["kernel", "cmdline", "ramdisk", "ramdisk"],
        "PCR1": ["kernel", "cmdline", "ramdisk"],
        "PCR2": ["ramdisk"],
        "PCR8": ["signature"],
    }
    raw = image.read_bytes()
    for section in explained["sections"]:
        body = raw[section["offset"] : section["offset"] + section["size"]]
        assert hashlib.sha384(body).hexdigest() == section["sha384"]
    assert _run("measure", str(image), "--explain") == 0
    said = capsys.readouterr().out
    assert "covers the application:" in said
    assert "not measured:\n    2  metadata" in said


def test_measure_explains_which_file_changed_between_two(tmp_path: Path, parts: list[str], capsys: Captured) -> None:
    _run(*parts)
    (tmp_path / "real.eif").replace(tmp_path / "old.eif")
    (tmp_path / "root" / "more").write_text("")
    _run(*parts)
    images = [str(tmp_path / "old.eif"), str(tmp_path / "real.eif")]
    capsys.readouterr()
    assert _run("measure", *images, "--explain") == 0
    assert "  + ramdisk 2 rootfs/more" in capsys.readouterr().out
    assert _run("measure", *images, "--explain", "--json") == 0
    assert json.loads(capsys.readouterr().out)["difference"]["files"][0]["what"] == ["added"]
    assert _run("measure", *images) == 2


def test_what_an_image_says_of_itself_reaches_a_terminal_escaped(tmp_path: Path, capsys: Captured) -> None:
    image = tmp_path / "odd.eif"
    odd = b"\x1b]0;owned\x07"
    image.write_bytes(
        write_eif(architecture=Architecture.X86_64, kernel=b"k", cmdline=odd, metadata=b"\xff" + odd, ramdisks=(b"r",))
    )
    assert _run("show", str(image)) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "no newc archive" in said


def test_an_image_is_never_written_through_a_link_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "somebody-s-file"
    target.write_text("kept")
    (tmp_path / "image.eif.partial").symlink_to(target)
    write_whole(tmp_path / "image.eif", b"image")
    assert target.read_text() == "kept"
    assert (tmp_path / "image.eif").read_bytes() == b"image"
    assert {one.name for one in tmp_path.iterdir()} == {"somebody-s-file", "image.eif", "image.eif.partial"}
