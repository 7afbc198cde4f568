"""`anchorhold authority recipient|backup|restore` and `init --keystore`: against a real owner face and a real token."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.authority.hsm import token_for_tests

from anchorhold.authority.keystore import open_keystore
from anchorhold.authority.owner.authority import load_owner
from anchorhold.authority.owner.kept import open_blob
from anchorhold.authority.owner.shares import blob_digest
from anchorhold.authority.tls import TlsFiles
from anchorhold.cli.main import main
from anchorhold.sim.owner_face import MODEL, Authority, owner_face


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Authority]:
    with owner_face(tmp_path) as running:
        yield running


def authority(*words: object) -> int:
    return main(["authority", *map(str, words)])


def backup(owner: Authority, folder: Path, *more: object) -> int:
    publics = [word for name in ("ada", "bob", "eve") for word in ("--recipient", folder / f"{name}.pub")]
    where = ["--owner-url", f"https://localhost:{owner.served.port}"]
    where += ["--owner-ca", str(TlsFiles.within(owner.state_dir).authority)]
    where += ["--token-file", str(owner.state_dir / "admin.token")]
    return authority("backup", *where, *publics, "--out", folder / "owner.backup", *more)


def test_a_backup_is_made_and_restored_from_the_command_line(
    owner: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ada", "bob", "eve"):
        assert authority("recipient", "--out", tmp_path / name) == 0
    share, blob = owner.share()
    owner.register()
    owner.order("revoke", model=MODEL, reason="drill")
    capsys.readouterr()
    assert backup(owner, tmp_path, "--threshold", 2, "--json") == 0
    assert json.loads(capsys.readouterr().out)["opens"] == "2 of 3"
    assert owner.journal()[-1].type == "backup"
    entries = len(owner.journal())
    assert backup(owner, tmp_path, "--threshold", 2) == 2  # never overwritten
    assert len(owner.journal()) == entries, "nor asked for: an order spends its approvals"
    assert (tmp_path / "owner.backup").stat().st_mode & 0o077 == 0

    shutil.rmtree(owner.state_dir)
    capsys.readouterr()
    words = ["--backup", tmp_path / "owner.backup", "--state", tmp_path / "new", "--journal-key"]
    key = owner.public.journal_key
    assert authority("restore", *words, key, "--recipient-key", tmp_path / "bob") == 1
    assert "2 of the 3 recipients, got 1" in capsys.readouterr().err
    two = ["--recipient-key", tmp_path / "bob", "--recipient-key", tmp_path / "eve", "--json"]
    assert authority("restore", *words, "00" * 32, *two) == 1
    assert not (tmp_path / "new").exists()
    capsys.readouterr()
    assert authority("restore", *words, key, *two) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["key_id"], said["shares"]) == (owner.public.key_id, 1)
    assert said["revoked then"] == [MODEL.hex()]
    assert authority("restore", *words, key, *two) == 2  # an authority is never overwritten
    restored = load_owner(tmp_path / "new", owner.clock.ms)
    with restored.state.transaction() as transaction:
        (kept,) = restored.shares.all(transaction.connection)
        assert blob_digest(blob) == kept.blob != blob_digest(kept.wrapped)
        assert open_blob(restored, transaction.connection, blob, MODEL, "serve") == share
    restored.state.close()
    assert share not in b"".join(path.read_bytes() for path in (tmp_path / "new").rglob("*") if path.is_file())
    assert blob not in (tmp_path / "owner.backup").read_bytes()


def test_an_order_that_cannot_be_served_is_refused_with_its_reason(
    owner: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ada", "bob", "eve"):
        authority("recipient", "--out", tmp_path / name)
    assert backup(owner, tmp_path, "--threshold", 4) == 1
    assert "threshold: expected 1 to 3, got 4" in capsys.readouterr().err
    (tmp_path / "bob.pub").write_text((tmp_path / "ada.pub").read_text())
    assert backup(owner, tmp_path, "--threshold", 2) == 1
    assert "different keys" in capsys.readouterr().err
    assert not (tmp_path / "owner.backup").exists()
    assert [entry.type for entry in owner.journal()] == []


@pytest.mark.parametrize("face", ["owner", "kms"])
def test_an_authority_is_made_over_a_token_from_the_command_line(tmp_path: Path, face: str) -> None:
    hsm = token_for_tests()
    init = [
        "init",
        "--face",
        face,
        "--anchor-class",
        "production",
        "--state",
        tmp_path / "state",
        "--keystore",
        "pkcs11",
    ]
    place = ["--module", hsm.module, "--token", hsm.label, "--pin-file", hsm.pin_file]
    assert authority(*init) == 2
    assert authority(*init, *place, "--iv-source", "zero") == 2  # SoftHSM draws no IV of its own
    shutil.rmtree(tmp_path / "state")
    assert authority(*init, *place) == 0
    assert open_keystore(tmp_path / "state").kind == f"pkcs11 {hsm.label}"
    said = (tmp_path / "state" / "keystore.json").read_text()
    assert hsm.pin_file.read_text().strip() not in said


def test_a_secret_is_never_asked_for_where_nobody_can_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["init", "--face", "owner", "--anchor-class", "production", "--state", tmp_path / "state"]
    assert authority(*words, "--keystore", "passphrase") == 2
    assert "no file is named, and standard input is no terminal" in capsys.readouterr().err
    assert authority(*words, "--keystore", "file") == 2
    assert "expected --key-file" in capsys.readouterr().err
