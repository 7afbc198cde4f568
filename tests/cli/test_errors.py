"""What a user meets when something is wrong: an error line, a hint where a fix is known, an exit code, no stack trace.

No network, no processes but the command itself.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.owner.setup import init
from anchorhold.cli.main import main
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.stage import START

# The base install: what the verifier and the auditor need and no more.
EXTRAS = (
    "grpc",
    "google",
    "torch",
    "transformers",
    "boto3",
    "botocore",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "asn1crypto",
)
NOTHING_PINNED = "XDG_CONFIG_HOME"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(NOTHING_PINNED, str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "junk").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    for name, text in (("cut", "{"), ("odd", '{"processes": [{"name": 1}]}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stack.json").write_text(text)
    (tmp_path / "cut-demo").mkdir()
    (tmp_path / "cut-demo/stack.json").write_text("{")
    (tmp_path / "cut-demo/demo").touch()
    gone = {
        "owner": {"url": "https://127.0.0.1:1", "ca": "junk", "token_file": "junk"},
        "model": "00" * 48, "processes": [],
    }  # fmt: skip
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone/stack.json").write_text(json.dumps(gone))
    return tmp_path


# Words, exit code, what the error names, whether there is a hint.
CASES = [
    ("", 2, "COMMAND", True),
    ("frobnicate", 2, "frobnicate", True),
    ("audit verify", 2, "DIR", True),
    ("audit verify absent", 2, "'absent'|absent", False),
    ("audit verify folder", 2, "no transcript", False),
    ("audit explain NOPE", 2, "NOPE", True),
    ("evidence verify absent", 2, "absent", False),
    ("evidence verify folder", 2, "folder", False),
    ("evidence verify junk --policy junk", 2, "policy", True),
    ("evidence verify junk --policy absent", 2, "absent", False),
    ("evidence verify junk --nonce zz", 2, "--nonce", True),
    ("evidence verify junk --dangerous junk", 2, "unrecognized arguments: --dangerous", True),
    ("evidence show junk", 2, "document", False),
    ("image measure folder", 2, "folder", False),
    ("image measure junk", 2, "junk", False),
    ("image build --lock absent", 2, "absent", True),
    ("model show absent", 2, "absent", False),
    ("model show junk", 2, "junk", False),
    ("model verify folder --root absent", 2, "absent", False),
    ("model verify folder --root junk", 2, "junk", False),
    ("model verify folder --root junk --model zz", 2, "96 hex digits", True),
    ("model seal folder --out o --id x --signer folder", 2, "--kms-key", False),
    ("model seal absent --out o --id x --signer folder", 2, "absent", False),
    ("trust init --state absent", 2, "absent", True),
    ("trust show", 2, "no trust file", True),
    ("trust show --trust junk", 2, "not JSON", True),
    ("trust show --trust list.json", 2, "fields", True),
    ("trust show --trust folder", 2, "folder", True),
    ("ask hi", 2, "no trust file", True),
    ("ask hi --trust junk", 2, "not JSON", True),
    ("ask hi --max-tokens many", 2, "--max-tokens", True),
    ("ask hi --gateway nowhere", 2, "--gateway", True),
    ("sim status --state cut", 2, "not JSON", True),
    ("sim down --state cut", 2, "not JSON", True),
    ("sim up --state cut --model tiny", 2, "not JSON", True),
    ("sim status --state odd", 2, "damaged", True),
    ("sim down --state odd", 2, "damaged", True),
    ("sim up --state junk/s --model tiny", 2, "not a directory", False),
    ("sim up --state s --model nosuch", 2, "nosuch", False),
    ("sim up --state s --model tiny --lease nan", 2, "--lease", True),
    ("sim up --state s --model tiny --lease 1", 2, "--lease", True),
    ("sim up --state s --model tiny --threads 0", 2, "--threads", True),
    ("demo --state cut --model tiny", 2, "not the demo's", True),
    ("demo --state cut-demo --model tiny", 2, "not JSON", True),
    ("demo --state junk/s --model tiny", 2, "not a directory", False),
    ("demo --state s --model nosuch", 2, "nosuch", False),
    ("authority serve --state folder", 2, "no authority", True),
    ("authority serve --state folder --listen 1:99999", 2, "--listen", True),
    ("authority init --face owner --state o --anchor-class simulated", 2, "at least one root", False),
    ("authority init --face owner --state o --anchor-class simulated --root junk", 2, "PEM", False),
    ("authority status --stack absent", 2, "absent", True),
    ("authority status --stack cut", 2, "cut", True),
    ("authority status --stack folder", 2, "folder", True),
    ("authority tenant --tenant a --key zz --purpose x --out y", 2, "--key", True),
    ("authority status --owner-url http://x --owner-ca junk --token-file junk", 2, "https", True),
    ("authority status --stack gone", 2, "unreachable", True),
    ("log serve --state folder", 2, "no log", True),
    ("log serve --state folder --listen here", 2, "--listen", True),
    ("log init --state l --origin a+b", 2, "--origin", False),
]


@pytest.mark.parametrize(("words", "code", "names", "hint"), CASES, ids=[case[0] or "nothing" for case in CASES])
def test_an_error_is_a_line_a_hint_and_a_code(
    words: str,
    code: int,
    names: str,
    hint: bool,
    capsys: pytest.CaptureFixture[str],
    place: Path,
) -> None:
    assert main(words.split()) == code
    said = capsys.readouterr()
    assert said.out == ""
    # The demo tells of its steps first.
    lines = said.err[said.err.index("anchorhold: error: ") :].splitlines()
    assert lines[0].startswith("anchorhold: error: ")
    assert any(one in lines[0] for one in names.split("|"))
    assert (len(lines) > 1 and lines[1].startswith("anchorhold: hint: ")) is hint
    assert "please report" not in said.err
    assert "Traceback" not in said.err
    # Nothing was begun: no state folder, no half-made output.
    assert not [path for name in ("s", "o", "l", "y") for path in (place / name).rglob("*") if path.name != "demo"]


def command(*words: str, before: str = "", **options: object) -> "subprocess.CompletedProcess[str]":
    program = f"import sys\n{before}\nfrom anchorhold.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    settings = {"capture_output": True, "text": True, "timeout": 60} | options
    return subprocess.run([sys.executable, "-c", program, *words], check=False, **settings)  # type: ignore[call-overload,no-any-return] # the caller names run's options


WITHOUT_EXTRAS = f"sys.modules.update(dict.fromkeys({EXTRAS!r}))"


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("ask hi --trust junk", "client"), ("model show folder", "publish"),
        ("authority serve --state owner", "authority"), ("log serve --state folder", "log"),
        ("sim up --model tiny --state s", "all"),
    ],
)  # fmt: skip
def test_a_command_without_its_libraries_says_which_extra_has_them(words: str, extra: str, place: Path) -> None:
    (place / "owner").mkdir()
    (place / "owner/owner.sqlite").touch()
    done = command(*words.split(), before=WITHOUT_EXTRAS)
    assert done.returncode == 2
    assert "anchorhold: error: this command needs the library " in done.stderr
    assert f"anchorhold: hint: pip install 'anchorhold[{extra}]'\n" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words", ["--help", "--version", "evidence show --help", "audit explain S-ROOT", "completion bash"]
)
def test_the_base_install_runs_what_needs_no_extra(words: str) -> None:
    done = command(*words.split(), before=WITHOUT_EXTRAS)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def owner(place: Path) -> Path:
    init(place / "owner", "simulated", [SimulatedPki.create(START).anchor], "owner", "me", now=Milliseconds(0))
    return place / "owner"


def test_a_port_in_use_is_said_with_its_address(owner: Path, place: Path) -> None:
    assert main(["log", "init", "--state", "log", "--origin", "log.example/1"]) == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for words in (["authority", "serve", "--state", str(owner)], ["log", "serve", "--state", "log"]):
            done = command(*words, "--listen", address)
            assert done.returncode == 2
            assert f"anchorhold: error: cannot listen on {address}: address already in use\n" in done.stderr
            assert "anchorhold: hint: " in done.stderr


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a database that is none": lambda owner: (owner / "owner.sqlite").write_text("not a database" * 100),
    "an empty database": lambda owner: (owner / "owner.sqlite").write_text(""),
    "another keystore": lambda owner: (owner / "keystore.key").write_bytes(bytes(32)),
    "no keystore": lambda owner: (owner / "keystore.cbor").unlink(),
    "a keystore that is none": lambda owner: (owner / "keystore.cbor").write_bytes(b"\xff"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_authority_does_not_serve(owner: Path, damage: str) -> None:
    DAMAGE[damage](owner)
    done = command("authority", "serve", "--state", str(owner), "--listen", "127.0.0.1:0")
    assert done.returncode == 2
    assert done.stderr.startswith("anchorhold: error: ")
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert "SELECT" not in done.stderr


def test_whoever_closes_stdout_or_stderr_gets_no_stack_trace(place: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = command("audit", "explain", "S-ROOT", stdout=writing, stderr=subprocess.PIPE, capture_output=False)
    os.close(writing)
    assert "Traceback" not in done.stderr


def test_words_that_are_no_utf_8_are_refused_not_crashed_on(place: Path) -> None:
    done = command(b"evidence", b"show", b"\xff\xfe")  # type: ignore[arg-type] # a path is bytes
    assert done.returncode == 2
    assert done.stderr.startswith("anchorhold: error: cannot read ")


def test_run_as_a_module_it_says_the_same(place: Path) -> None:
    words = [sys.executable, "-m", "anchorhold.cli.main", "model", "show", "absent"]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == "anchorhold: error: 'absent' is not a folder\n"
