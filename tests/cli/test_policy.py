"""`anchorhold policy kms|lint`: data on stdout, people on stderr, exit codes."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.configuration import pcr16
from anchorhold.attestation.measure.eif import Architecture, write_eif
from anchorhold.attestation.measure.pcr import measure
from anchorhold.attestation.types import ConfigDigest
from anchorhold.cli.main import main
from anchorhold.log.server import append
from anchorhold.log.store import Store, init_state
from anchorhold.publish.release import PUBLIC_FILE, read_bundle, write_bundle
from anchorhold.publish.release_log import log_statements

SAMPLES = Path(__file__).parents[1] / "publish/kms_policies"
ROLE = "arn:aws:iam::111122223333:role/"
CONFIGURATION = "c0" * 48
WHO = ("--enclave", ROLE + "parent", "--administrator", ROLE + "ops")
KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd"
KERNEL, DISKS = b"k" * 64, (b"a" * 64, b"b" * 64)
Captured = pytest.CaptureFixture[str]


def run(capsys: Captured, *words: str) -> tuple[int, str, str]:
    code = main(["policy", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.eif"
    path.write_bytes(
        write_eif(architecture=Architecture.X86_64, kernel=KERNEL, cmdline=b"quiet", metadata=b"{}", ramdisks=DISKS)
    )
    return path


def test_an_image_and_a_configuration_make_a_policy_that_pins_both(
    tmp_path: Path, image: Path, capsys: Captured
) -> None:
    words = ("kms", "--eif", str(image), "--configuration-digest", CONFIGURATION, *WHO, "--immutable")
    code, out, err = run(capsys, *words)
    assert code == 0
    assert "BypassPolicyLockoutSafetyCheck" in err
    registers = measure(image.read_bytes())
    for value in (registers[0], registers[1], registers[2], pcr16(ConfigDigest(bytes.fromhex(CONFIGURATION)))):
        assert value.hex() in out
    path = tmp_path / "key.json"
    path.write_text(out)
    assert run(capsys, "lint", str(path), *words[1:5])[0] == 0


def test_files_are_written_and_pass_the_linter(tmp_path: Path, image: Path, capsys: Captured) -> None:
    key, iam = tmp_path / "key.json", tmp_path / "iam.json"
    code, out, err = run(
        capsys, "kms", "--eif", str(image), "--configuration-digest", CONFIGURATION, *WHO,
        "--custodian", ROLE + "custodian", "--sealer", ROLE + "sealer", "--context", "D=ab",
        "--key", KEY, "--out", str(key), "--iam-out", str(iam),
    )  # fmt: skip
    assert (code, out) == (0, "")
    assert "role/custodian may change the policy" in err
    assert "kms:EncryptionContext:D" in key.read_text()
    code, out, err = run(capsys, "lint", str(key), "--iam", str(iam), "--json")
    assert code == 0
    report = json.loads(out)
    assert (report["clean"], report["findings"]) == (True, [])
    assert any("role/sealer" in note for note in report["notes"])
    assert run(capsys, "lint", str(iam))[0] == 0
    assert run(capsys, "lint", str(key), "--sealer", ROLE + "another")[0] == 1


def test_both_policies_print_as_one_object(image: Path, capsys: Captured) -> None:
    words = ("kms", "--eif", str(image), "--configuration-digest", CONFIGURATION, *WHO, "--immutable", "--json")
    code, out, _ = run(capsys, *words, "--key", KEY)
    assert code == 0
    assert json.loads(out)["iam_policy"]["Statement"][0]["Resource"] == KEY
    code, out, _ = run(capsys, *words)
    assert json.loads(out)["iam_policy"] is None


@pytest.mark.parametrize("partition", ["aws-cn", "aws-us-gov", "aws-eusc"])
def test_other_partitions_are_named_throughout_and_their_root_is_said_to_be_unknown(
    image: Path, capsys: Captured, partition: str
) -> None:
    who = [word.replace("arn:aws:", f"arn:{partition}:") for word in WHO]
    words = ["kms", "--eif", str(image), "--configuration-digest", CONFIGURATION, *who, "--immutable"]
    code, out, err = run(capsys, *words, "--partition", partition)
    assert code == 0
    assert "arn:aws:" not in out
    assert f"the attestation root of {partition} is not pinned here" in err
    assert run(capsys, *words)[0] == 1


def release(capsys: Captured, *words: str) -> str:
    assert main(["release", *words]) == 0
    return capsys.readouterr().out


def made(tmp_path: Path, image: Path, capsys: Captured) -> tuple[Path, Path]:
    """A bundle of one release that nobody signed, and the quorum file of its two signers."""
    bundle, quorum = tmp_path / "releases", tmp_path / "quorum.json"
    for name in ("owner", "operator"):
        release(capsys, "keygen", "--out", str(tmp_path / name), "--name", name, "--role", name)
    public = [str(tmp_path / name / PUBLIC_FILE) for name in ("owner", "operator")]
    quorum.write_text(release(capsys, "quorum", *public, "--product", "gateway", "--threshold", "2"))
    release(
        capsys, "make", str(bundle), "--product", "gateway", "--release", "1.0", "--eif", str(image),
        "--platform", "nitro-enclave", "--delay", "0s",
    )  # fmt: skip
    return bundle, quorum


def test_signed_releases_make_a_policy_and_unsigned_ones_do_not(tmp_path: Path, image: Path, capsys: Captured) -> None:
    bundle, quorum = made(tmp_path, image, capsys)
    words = ("kms", "--releases", str(bundle), "--configuration-digest", CONFIGURATION, *WHO, "--immutable")
    assert run(capsys, *words)[0] == 2, "no quorum was named"
    release(capsys, "sign", str(bundle), "--key", str(tmp_path / "owner"))
    code, out, err = run(capsys, *words, "--quorum", str(quorum))
    assert (code, out) == (1, "")
    assert "anchorhold: error: " in err
    release(capsys, "sign", str(bundle), "--key", str(tmp_path / "operator"))
    code, out, err = run(capsys, *words, "--quorum", str(quorum))
    assert code == 0
    assert measure(image.read_bytes())[0].hex() in out
    assert "no --log-key" in err
    assert "no --version-floor" in err


def test_what_of_the_releases_was_not_checked_is_said_by_both_commands(
    tmp_path: Path, image: Path, capsys: Captured
) -> None:
    bundle, quorum = made(tmp_path, image, capsys)
    for name in ("owner", "operator"):
        release(capsys, "sign", str(bundle), "--key", str(tmp_path / name))
    named = ("--releases", str(bundle), "--quorum", str(quorum), "--configuration-digest", CONFIGURATION)
    key = tmp_path / "key.json"
    for words in (("kms", *WHO, "--immutable", "--out", str(key)), ("lint", str(key))):
        code, out, err = run(capsys, *words, *named, "--json")
        assert code == 0
        said = json.loads(out)
        assert said["not_checked"] == ["log-not-checked", "version-not-checked"]
        assert all(f"anchorhold: {note}\n" in err for note in said["notes"])
        code, out, err = run(capsys, *words, *named, "--json", "--version-floor", "1")
        assert json.loads(out)["not_checked"] == ["log-not-checked"]
        assert "--version-floor" not in err
    assert json.loads(run(capsys, "lint", str(key), "--json")[1])["not_checked"] == []


def test_a_trust_file_s_log_is_demanded(tmp_path: Path, image: Path, capsys: Captured) -> None:
    bundle, quorum = made(tmp_path, image, capsys)
    for name in ("owner", "operator"):
        release(capsys, "sign", str(bundle), "--key", str(tmp_path / name))
    vkey = init_state(tmp_path / "log", "log.example/1", Ed25519PrivateKey.generate())
    another = init_state(tmp_path / "other", "log.example/2", Ed25519PrivateKey.generate())
    block = {"version": 2, "releases": json.loads(quorum.read_text()), "log": {"origin": "any", "key": str(vkey)}}
    quorum.write_text(json.dumps(block))
    words = ("kms", *WHO, "--immutable", "--releases", str(bundle), "--quorum", str(quorum), "--json",
             "--configuration-digest", CONFIGURATION)  # fmt: skip
    code, out, err = run(capsys, *words)
    assert (code, out) == (1, "")
    assert "release-not-logged" in err
    store = Store(tmp_path / "log")
    write_bundle(bundle, log_statements(read_bundle(bundle), lambda request: append(store, request), vkey))
    store.close()
    code, out, _ = run(capsys, *words)
    assert (code, json.loads(out)["not_checked"]) == (0, ["version-not-checked"])
    assert run(capsys, *words, "--log-key", str(another))[0] == 1


def test_a_release_without_its_configuration_is_refused(image: Path, capsys: Captured) -> None:
    code, out, err = run(capsys, "kms", "--eif", str(image), *WHO, "--immutable")
    assert (code, out) == (1, "")
    assert "16" in err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((*WHO, "--immutable"), 2),
        (("--measurements", "absent.json", *WHO, "--immutable"), 2),
        (("--configuration-digest", "c0", *WHO, "--immutable"), 2),
        ((*WHO, "--immutable", "--iam-out", "iam.json"), 2),
        ((*WHO, "--immutable", "--custodian", ROLE + "custodian"), 2),
        (WHO, 2),
        ((*WHO, "--immutable", "--context", "D"), 2),
    ],
)
def test_wrong_use_is_exit_2(capsys: Captured, words: tuple[str, ...], code: int) -> None:
    assert run(capsys, "kms", *words)[:2] == (code, "")


def test_findings_are_printed_with_why_and_fix(capsys: Captured) -> None:
    code, out, err = run(capsys, "lint", str(SAMPLES / "2-reencrypt.json"))
    assert code == 1
    assert out.startswith("kms-reencrypt: ")
    assert "'Move': kms:ReEncryptFrom" in out
    assert "  why: " in out
    assert "  fix: deny kms:ReEncrypt* to everybody" in out
    assert "1 finding" in err
    code, out, _ = run(capsys, "lint", str(SAMPLES / "2-reencrypt.json"), "--json")
    (finding,) = json.loads(out)["findings"]
    assert finding.keys() == {"code", "document", "statement", "actions", "principals", "why", "fix"}


def test_a_foreign_release_is_found(tmp_path: Path, image: Path, capsys: Captured) -> None:
    code, out, _ = run(
        capsys, "lint", str(SAMPLES / "clean-no-denies.json"), "--eif", str(image),
        "--configuration-digest", CONFIGURATION,
    )  # fmt: skip
    assert code == 1
    assert out.startswith("kms-not-released: ")


def test_an_iam_policy_is_judged_beside_its_key_policy(capsys: Captured) -> None:
    iam = ("--iam", str(SAMPLES / "iam-administrator.json"))
    assert run(capsys, "lint", str(SAMPLES / "clean-account-behind-denies.json"), *iam)[0] == 0
    assert run(capsys, "lint", str(SAMPLES / "1-root-delegation.json"), *iam)[0] == 1
    assert run(capsys, "lint", str(SAMPLES / "1-root-delegation.json"), "--iam", str(SAMPLES / "6-alias.json"))[0] == 2


def test_an_enclave_that_is_not_ours_needs_no_register_16(capsys: Captured) -> None:
    words = ("lint", str(SAMPLES / "no-configuration.json"))
    assert run(capsys, *words)[0] == 1
    assert run(capsys, *words, "--without-configuration")[0] == 0


def test_what_cannot_be_read_is_exit_2(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "policy.json"
    path.write_text("{")
    for name in (path, tmp_path / "absent.json"):
        code, out, err = run(capsys, "lint", str(name))
        assert (code, out) == (2, "")
        assert err.startswith("anchorhold: error: ")
