"""`anchorhold release`, from the first key to a revocation, at the command's own mouth."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.measure.eif import Architecture, write_eif
from anchorhold.attestation.measure.pcr import measure
from anchorhold.attestation.release.codes import EXPLANATIONS
from anchorhold.attestation.transcript.append import AppendRequest
from anchorhold.cli.main import main
from anchorhold.log.server import append
from anchorhold.log.store import Store, init_state
from anchorhold.publish.release import PUBLIC_FILE

REGISTERS = {index: f"{index:x}a" * 48 for index in (0, 1, 2)}


class Desk:
    """Two signers, a quorum of both, and a bundle, in one folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.bundle = str(folder / "releases")
        for name in ("owner", "operator"):
            assert self.run("keygen", "--out", str(folder / name), "--name", name, "--role", name)[0] == 0
        files = [str(folder / name / PUBLIC_FILE) for name in ("owner", "operator")]
        code, out, _ = self.run("quorum", *files, "--product", "gateway", "--threshold", "2")
        assert code == 0
        self.quorum = folder / "quorum.json"
        self.quorum.write_text(out)

    def run(self, *words: str) -> tuple[int, str, str]:
        code = main(["release", *words])
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    def make(self, release: str = "1.0", fill: str = "a", *more: str, platform: str = "nitro-enclave") -> None:
        path = self.folder / f"{release}.json"
        path.write_text(json.dumps({"Measurements": {
            "HashAlgorithm": "Sha384 { ... }", **{f"PCR{index}": fill * 96 for index in (0, 1, 2)}, "PCR8": "8" * 96
        }}))  # fmt: skip
        words = ["make", self.bundle, "--product", "gateway", "--release", release, "--measurements", str(path)]
        code, _, err = self.run(*words, "--platform", platform, *(more or ("--delay", "0s")))
        assert code == 0, err

    def sign(self, *names: str) -> None:
        for name in names or ("owner", "operator"):
            assert self.run("sign", self.bundle, "--key", str(self.folder / name))[0] == 0

    def verify(self, *more: str) -> tuple[int, dict[str, object]]:
        code, out, _ = self.run("verify", self.bundle, "--quorum", str(self.quorum), "--json", *more)
        return code, json.loads(out)

    def codes(self, *more: str) -> tuple[int, set[str], set[str]]:
        """Exit code, codes of the claims, codes of refused releases."""
        code, verdict = self.verify(*more)
        claims, refused = verdict["claims"], verdict["refused"]
        assert isinstance(claims, list)
        assert isinstance(refused, list)
        return code, {one["code"] for one in claims}, {one["code"] for one in refused}


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A real store behind a plain HTTP server: its address and key."""
    vkey = init_state(tmp_path / "log", "log.example/1", Ed25519PrivateKey.generate())
    store = Store(tmp_path / "log")

    class Face(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = AppendRequest.decode(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.startswith("/once") and store.size:
                self.send_error(503)
                return
            answer = append(store, request).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Face)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", str(vkey)
    server.shutdown()
    server.server_close()
    store.close()


def test_signed_by_both_it_verifies_with_limits_until_floor_and_log_are_given(desk: Desk, log: tuple[str, str]) -> None:
    desk.make()
    desk.sign()
    code, codes, refused = desk.codes()
    assert code == 3
    assert {"version-not-checked", "log-not-checked"} <= codes
    assert not refused
    address, key = log
    assert desk.codes("--log-key", key, "--version-floor", "1")[0] == 1
    code, out, err = desk.run("log", desk.bundle, "--log", address, "--log-key", key)
    assert code == 0
    assert "logged" in out
    assert "1 of 1 statements" in err
    code, verdict = desk.verify("--log-key", key, "--version-floor", "1")
    assert code == 0
    assert verdict["list_version"] == 1
    assert isinstance(verdict["accepted"], list)
    assert verdict["accepted"][0]["signed_by"] == ["owner", "operator"]
    assert verdict["accepted"][0]["measurements"] == [{str(index): "a" * 96 for index in (0, 1, 2)}]


def test_a_simulated_release_is_never_more_than_simulation(desk: Desk, log: tuple[str, str]) -> None:
    desk.make(platform="simulated")
    desk.sign()
    address, key = log
    assert desk.run("log", desk.bundle, "--log", address, "--log-key", key)[0] == 0
    assert desk.verify("--log-key", key, "--version-floor", "1")[0] == 4
    # One that is simulated is enough to say so.
    desk.make("2.0", "b")
    desk.sign()
    assert desk.run("log", desk.bundle, "--log", address, "--log-key", key)[0] == 0
    assert desk.verify("--log-key", key, "--version-floor", "1")[0] == 4


def test_one_signer_is_too_few(desk: Desk) -> None:
    desk.make()
    desk.sign("owner")
    assert desk.codes() == (1, {"list-threshold"}, set())


def test_the_delay_is_a_day_unless_another_is_given(desk: Desk) -> None:
    desk.make("1.0", "a", "--expires", "30d")
    desk.sign()
    assert desk.codes() == (1, {"no-accepted-release"}, {"release-not-yet"})
    # A time that the caller names is asserted, not proved: limits at best.
    shown = json.loads(desk.run("show", desk.bundle, "--json")[1])["statements"][0]
    assert desk.verify("--at", shown["not_before"])[0] == 3
    assert desk.codes("--at", shown["not_after"], "--max-list-age", "60d")[2] == {"release-expired"}
    assert desk.codes("--at", shown["not_after"])[1] == {"list-too-old"}


def test_a_lower_version_than_the_floor_is_refused(desk: Desk) -> None:
    desk.make()
    desk.sign()
    old = Path(desk.bundle).read_bytes()
    assert desk.run("renew", desk.bundle)[0] == 0
    assert desk.codes()[1] == {"list-threshold"}
    desk.sign()
    assert desk.verify("--version-floor", "2")[0] == 3
    Path(desk.bundle).write_bytes(old)
    assert desk.codes("--version-floor", "2")[1] == {"list-rolled-back"}


def test_a_revoked_release_is_refused_with_all_that_share_its_measurements(desk: Desk) -> None:
    desk.make("1.0", "a")
    desk.make("1.0-again", "a", "--delay", "0s", "--expires", "30d")
    desk.make("2.0", "b")
    desk.sign()
    words = ("revoke", desk.bundle, "1.0", "--reason", "vulnerability", "--key", str(desk.folder / "owner"))
    code, out, err = desk.run(*words)
    assert code == 0
    assert err.count("(1 signed)") == 2
    assert out.count("vulnerability, 1 signed") == 2
    code, verdict = desk.verify()
    assert code == 3
    refused, accepted = verdict["refused"], verdict["accepted"]
    assert isinstance(refused, list)
    assert isinstance(accepted, list)
    assert {(one["release"], one["code"]) for one in refused} == {
        ("1.0", "release-revoked"),
        ("1.0-again", "release-revoked"),
    }
    assert [one["release"] for one in accepted] == ["2.0"]


def test_two_who_revoke_side_by_side_are_two_and_a_signer_sees_what_the_list_revokes(desk: Desk) -> None:
    desk.make("1.0", "a")
    desk.make("2.0", "b")
    desk.sign()
    block = {**json.loads(desk.quorum.read_text()), "revocation_threshold": 2}
    desk.quorum.write_text(json.dumps(block))
    draft = Path(desk.bundle).read_bytes()
    words = ("revoke", desk.bundle, "1.0", "--reason", "defect", "--key")
    assert desk.run(*words, str(desk.folder / "operator"))[0] == 0
    copy = desk.folder / "from-operator"
    copy.write_bytes(Path(desk.bundle).read_bytes())
    Path(desk.bundle).write_bytes(draft)
    assert "(1 signed)" in desk.run(*words, str(desk.folder / "owner"))[2]
    assert desk.codes()[2] == set()
    assert desk.run("merge", desk.bundle, str(copy))[0] == 0
    assert desk.codes()[2] == {"release-revoked"}
    assert "(2 signed)" in desk.run(*words, str(desk.folder / "owner"))[2]
    # One after the other, with the quorum: one revocation.
    Path(desk.bundle).write_bytes(copy.read_bytes())
    assert "(2 signed)" in desk.run(*words, str(desk.folder / "owner"), "--quorum", str(desk.quorum))[2]
    shown = json.loads(desk.run("show", desk.bundle, "--json")[1])
    assert [len(one["signed_by"]) for one in shown["revocations"]] == [2]
    assert desk.run("renew", desk.bundle)[0] == 0
    said = shown["revocations"][0]
    _, _, err = desk.run("sign", desk.bundle, "--key", str(desk.folder / "owner"))
    assert err.startswith(f"  revoked in the list  {said['digest']}  {said['at']}  defect\nsigned by owner")


def test_only_ends_one_statement_and_an_unknown_one_is_no_release(desk: Desk) -> None:
    desk.make("1.0", "a")
    desk.make("1.0-again", "a", "--delay", "0s", "--expires", "30d")
    desk.sign()
    key = str(desk.folder / "owner")
    assert desk.run("revoke", desk.bundle, "9.9", "--reason", "defect", "--key", key)[0] == 2
    assert desk.run("revoke", desk.bundle, "1.0", "--reason", "mistake", "--key", key, "--only")[0] == 0
    assert desk.codes()[2] == {"release-revoked"}
    assert desk.verify()[0] == 3


def test_an_image_is_measured_and_what_signed_it_is_not_pinned(desk: Desk, tmp_path: Path) -> None:
    eif = write_eif(
        architecture=Architecture.X86_64, kernel=b"k", cmdline=b"c", metadata=b"{}", ramdisks=(b"one", b"two")
    )
    (tmp_path / "image.eif").write_bytes(eif)
    words = ("make", desk.bundle, "--product", "gateway", "--release", "1.0", "--eif", str(tmp_path / "image.eif"))
    assert desk.run(*words)[0] == 0
    shown = json.loads(desk.run("show", desk.bundle, "--json")[1])
    expected = {str(index): value.hex() for index, value in measure(eif).items() if index in (0, 1, 2)}
    assert shown["statements"][0]["measurements"] == [expected]
    assert shown["verified"] is False


def test_what_cannot_be_released_is_said_and_nothing_is_written(desk: Desk, tmp_path: Path) -> None:
    zeros = tmp_path / "debug.json"
    zeros.write_text(json.dumps({"Measurements": {f"PCR{index}": "0" * 96 for index in (0, 1, 2)}}))
    words = ("make", desk.bundle, "--product", "gateway", "--release", "1.0")
    for more in ((), ("--measurements", str(zeros)), ("--eif", str(zeros)), ("--measurements", str(desk.quorum))):
        code, _, err = desk.run(*words, *more)
        assert code in (1, 2)
        assert "anchorhold: error: " in err
        assert "Traceback" not in err
    assert not Path(desk.bundle).exists()


def test_a_second_product_in_one_bundle_is_refused(desk: Desk) -> None:
    desk.make()
    before = Path(desk.bundle).read_bytes()
    path = str(desk.folder / "1.0.json")
    words = ("make", desk.bundle, "--product", "other", "--release", "1.0", "--measurements", path)
    assert desk.run(*words)[0] == 1
    assert Path(desk.bundle).read_bytes() == before


@pytest.mark.parametrize("raw", [b"", b"not a bundle", b"\xa0", b"\xff" * 100])
def test_what_is_no_bundle_is_unreadable(desk: Desk, raw: bytes) -> None:
    Path(desk.bundle).write_bytes(raw)
    for words in (("show",), ("renew",), ("sign", "--key", str(desk.folder / "owner"))):
        assert desk.run(words[0], desk.bundle, *words[1:])[0] == 2
    assert desk.verify()[0] == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"a": 1, "a": 2}', '{"releases": {}}', "[" * 10_000])
def test_what_is_no_quorum_cannot_be_run_on(desk: Desk, text: str) -> None:
    desk.make()
    desk.quorum.write_text(text)
    code, _, err = desk.run("verify", desk.bundle, "--quorum", str(desk.quorum))
    assert code == 2
    assert "anchorhold: hint: " in err


def test_a_trust_file_brings_its_quorum_its_age_and_its_log(desk: Desk, log: tuple[str, str]) -> None:
    desk.make()
    desk.sign()
    address, key = log
    block = {**json.loads(desk.quorum.read_text()), "max_list_age_s": 3_600}
    desk.quorum.write_text(json.dumps({"version": 2, "releases": block, "log": {"origin": "any", "key": key}}))
    assert desk.codes()[2] == {"release-not-logged"}
    assert desk.run("log", desk.bundle, "--log", address, "--log-key", key)[0] == 0
    assert desk.verify("--version-floor", "1")[0] == 0
    later = json.loads(desk.run("show", desk.bundle, "--json")[1])["issued_at"].replace("Z", "-02:00")
    assert desk.codes("--at", later)[1] == {"list-too-old"}
    desk.quorum.write_text(json.dumps({"version": 2, "releases": block}))
    assert desk.run("verify", desk.bundle, "--quorum", str(desk.quorum))[0] == 2


def test_copies_signed_side_by_side_are_merged(desk: Desk) -> None:
    desk.make()
    draft = Path(desk.bundle).read_bytes()
    desk.sign("operator")
    copy = desk.folder / "from-operator"
    copy.write_bytes(Path(desk.bundle).read_bytes())
    Path(desk.bundle).write_bytes(draft)
    desk.sign("owner")
    assert desk.codes()[1] == {"list-threshold"}
    assert desk.run("merge", desk.bundle, str(copy))[0] == 0
    assert desk.verify()[0] == 3
    assert desk.run("renew", desk.bundle)[0] == 0
    assert desk.run("merge", desk.bundle, str(copy))[0] == 1


def test_a_signer_is_never_overwritten(desk: Desk) -> None:
    words = ("keygen", "--out", str(desk.folder / "owner"), "--name", "owner", "--role", "owner")
    code, _, err = desk.run(*words)
    assert code == 2
    assert "holds a signer already" in err


def test_a_log_that_is_not_there_is_exit_2_and_another_s_key_exit_1(desk: Desk, log: tuple[str, str]) -> None:
    desk.make()
    desk.sign()
    before = Path(desk.bundle).read_bytes()
    address, key = log
    assert desk.run("log", desk.bundle, "--log", "http://127.0.0.1:1", "--log-key", key)[0] == 2
    stranger = init_state(desk.folder / "other", "log.example/1", Ed25519PrivateKey.generate())
    assert desk.run("log", desk.bundle, "--log", address, "--log-key", str(stranger))[0] == 1
    assert Path(desk.bundle).read_bytes() == before


def test_an_address_of_a_log_that_is_none_is_said_without_its_password(desk: Desk, log: tuple[str, str]) -> None:
    desk.make()
    desk.sign()
    for address in ("http://h:99999", "http://me:sesame@h"):
        code, _, err = desk.run("log", desk.bundle, "--log", address, "--log-key", log[1])
        assert code == 2
        assert "sesame" not in err


def test_proofs_are_kept_when_the_log_fails_halfway(desk: Desk, log: tuple[str, str]) -> None:
    desk.make("1.0", "a")
    desk.make("2.0", "b")
    desk.sign()
    address, key = log
    # The log ends after one leaf.
    assert desk.run("log", desk.bundle, "--log", f"{address}/once", "--log-key", key)[0] == 2
    shown = json.loads(desk.run("show", desk.bundle, "--json")[1])
    assert sorted(one["logged"] for one in shown["statements"]) == [False, True]


def test_text_names_signers_releases_and_codes(desk: Desk) -> None:
    desk.make("1.0", "a")
    desk.make("2.0", "b", "--delay", "2d")
    desk.sign()
    code, out, _ = desk.run("verify", desk.bundle, "--quorum", str(desk.quorum))
    assert code == 3
    assert "accepted  1.0  nitro-enclave" in out
    assert "signed by owner (owner), operator (operator)" in out
    assert "refused   2.0  nitro-enclave  [release-not-yet]" in out


def test_every_code_that_a_verdict_here_shows_is_explained(desk: Desk) -> None:
    desk.make()
    seen = desk.codes()[1]
    desk.sign()
    for more in ((), ("--version-floor", "1"), ("--version-floor", "2")):
        _, claims, refused = desk.codes(*more)
        seen |= claims | refused
    assert len(seen) > 6
    assert seen <= EXPLANATIONS.keys()
