"""`exports.json`, one fault at a time; and the command over a real authority's state."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.authority.export.settings import FILE, MAX_EXPORTS, ExportsInvalid, read_exports, read_secret
from anchorhold.cli.main import main
from anchorhold.sim.owner_face import owner_face

KEY = str(Vkey.of("log.example", Ed25519PrivateKey.generate().public_key()))
GOOD: dict[str, dict[str, object]] = {
    "file": {"name": "archive", "to": "file", "path": "/var/log/owner.jsonl", "form": "signed"},
    "syslog": {"name": "siem", "to": "syslog", "address": "tcp://siem.internal:601", "form": "ocsf"},
    "webhook": {"name": "pager", "to": "webhook", "url": "https://alerts.internal/in", "secret": "/etc/pager.key"},
    "log": {"name": "log", "to": "log", "url": "https://log.internal", "key": KEY, "every_s": 60},
}


def put(folder: Path, *exports: object, **changes: object) -> None:
    (folder / FILE).write_text(json.dumps({"version": 1, "exports": exports} | changes))


def test_no_file_is_no_export_and_every_kind_reads_back(tmp_path: Path) -> None:
    assert read_exports(tmp_path) == ()
    put(tmp_path, *GOOD.values())
    assert [(one.name, one.kind) for one in read_exports(tmp_path)] == [
        ("archive", "file"), ("siem", "syslog"), ("pager", "webhook"), ("log", "log"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("file", {"path": "relative.jsonl"}),
        ("file", {"form": "xml"}),
        ("file", {"name": "../up"}),
        ("file", {"extra": 1}),
        ("syslog", {"address": "http://siem"}),
        ("syslog", {"address": "tcp://siem"}),
        ("webhook", {"url": "http://alerts.internal/in"}),
        ("webhook", {"url": "https://user:word@alerts.internal/in"}),
        ("webhook", {"url": "ftp://alerts.internal"}),
        ("webhook", {"secret": 5}),
        ("log", {"key": "log.example+00000000+AAAA"}),
        ("log", {"every_s": 1}),
        ("log", {"every_s": True}),
        ("log", {"to": "nowhere"}),
    ],
)
def test_one_fault_is_enough_to_refuse(tmp_path: Path, kind: str, change: dict[str, object]) -> None:
    put(tmp_path, GOOD[kind] | change)
    with pytest.raises(ExportsInvalid):
        read_exports(tmp_path)


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    for content in ("", "[]", '{"version": 2, "exports": []}', '{"version": 1, "exports": [], "exports": []}'):
        (tmp_path / FILE).write_text(content)
        with pytest.raises(ExportsInvalid):
            read_exports(tmp_path)
    put(tmp_path, GOOD["file"], GOOD["file"])
    with pytest.raises(ExportsInvalid, match="twice"):
        read_exports(tmp_path)
    put(tmp_path, *[GOOD["file"] | {"name": f"n{at}"} for at in range(MAX_EXPORTS + 1)])
    with pytest.raises(ExportsInvalid, match="at most"):
        read_exports(tmp_path)


def test_a_short_secret_is_refused_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    with pytest.raises(ExportsInvalid) as refusal:
        read_secret(tmp_path / "secret")
    assert "hunter2" not in str(refusal.value)


def test_the_command_exports_a_real_journal_once_and_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with owner_face(tmp_path) as authority:
        authority.register()
        state, archive = str(authority.state_dir), tmp_path / "archive.jsonl"
        put(authority.state_dir, GOOD["file"] | {"path": str(archive)})
        assert main(["authority", "export", "--state", state, "--once", "--json"]) == 0
        count = len(authority.whole_journal())
        assert json.loads(capsys.readouterr().out)["archive"]["exported"] == count
        assert main(["authority", "export", "--state", state, "--once"]) == 0
        assert len(archive.read_text().splitlines()) == count
        capsys.readouterr()
        assert main(["authority", "export", "--state", state, "--to", str(tmp_path / "whole"), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["entries"], said["journal_key"]) == (count, authority.public.journal_key)
        assert (tmp_path / "whole").read_text() == archive.read_text()
        assert main(["authority", "export", "--state", state, "--to", str(tmp_path / "whole")]) == 2
        put(authority.state_dir, GOOD["file"] | {"name": "nowhere", "path": "/proc/no/such"})
        assert main(["authority", "export", "--state", state, "--once"]) == 2, "not delivered"
