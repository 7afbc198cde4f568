"""`anchorhold authority tenant-key|tenant-keys|shred` against a real owner face."""

import json
from pathlib import Path

import pytest
from tests.cli.test_authority import Stack, stack

from anchorhold.cli.main import main
from anchorhold.sim.owner_face import OTHER_MODEL

__all__ = ["stack"]  # the fixture is used by its name

Capture = pytest.CaptureFixture[str]


def test_a_tenant_s_key_is_made_listed_and_shredded_from_the_command_line(stack: Stack, capsys: Capture) -> None:
    assert stack.run("tenant-key", "acme", "--tag", "high-risk", "--dedicated", "--reason", "contract 17") == 0
    assert stack.run("tenant-key", "shop", "--tag", "low", "--reason", "contract 18") == 0
    stack.owner.order("shares", model=OTHER_MODEL, model_id="tiny", version="1", purpose_class="serve", tenant="acme")
    capsys.readouterr()
    assert stack.run("tenant-keys", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["tenant"], one["keeping"], one["shares"]) for one in listed] == [
        ("acme", "dedicated", 1),
        ("shop", "shared", 0),
    ]
    assert stack.run("shred", "acme", "--reason", "contract ended", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["models"], said["tried"], said["backups"]) == ([OTHER_MODEL.hex()], 1, 0)
    assert stack.run("shred", "acme", "--reason", "again") == 0
    told = capsys.readouterr().out
    assert "1 blobs tried, none opens" in told
    assert f"ended        model {OTHER_MODEL.hex()}" in told
    assert stack.run("tenant-keys") == 0
    rows = capsys.readouterr().out.splitlines()
    assert (rows[1].split()[4], rows[2].split()[4:6]) == ("ended", ["in-force", "-"])
    assert stack.run("shred", "nobody", "--reason", "x") == 1
    assert "'nobody' has no key" in capsys.readouterr().err


def test_a_tenant_s_key_is_rotated_and_retired_from_the_command_line(stack: Stack, capsys: Capture) -> None:
    assert stack.run("tenant-key", "acme", "--tag", "low", "--reason", "contract 17") == 0
    stack.owner.order("shares", model=OTHER_MODEL, model_id="tiny", version="1", purpose_class="serve", tenant="acme")
    capsys.readouterr()
    assert stack.run("tenant-rotate", "acme", "--reason", "yearly", "--json") == 0
    new = json.loads(capsys.readouterr().out)
    assert stack.run("tenant-rotate", "acme", "--reason", "again") == 0
    assert capsys.readouterr().out.startswith("acme: shared key tenant-")
    assert stack.run("tenant-keys", "--json") == 0
    first, second, third = json.loads(capsys.readouterr().out)
    assert (second["key_id"], [one["state"] for one in (first, second, third)]) == (
        new["key_id"],
        ["older", "older", "in-force"],
    )
    old = ("--key", first["key_id"], "--reason", "old")
    assert stack.run("tenant-retire", "acme", *old) == 1
    assert "lost for good" in capsys.readouterr().err
    assert stack.run("tenant-retire", "acme", *old, "--lose-model", OTHER_MODEL.hex()) == 0
    told = capsys.readouterr().out
    assert f"lost         model {OTHER_MODEL.hex()}" in told
    assert "1 blobs tried, none opens" in told
    assert stack.run("tenant-retire", "acme", "--key", new["key_id"], "--reason", "old", "--json") == 0
    assert json.loads(capsys.readouterr().out)["lost"] == []


def test_a_model_is_sealed_for_a_tenant_only_where_the_owner_is_a_source(tmp_path: Path, capsys: Capture) -> None:
    words = ["model", "seal", str(tmp_path), "--out", str(tmp_path / "out"), "--id", "m", "--signer", str(tmp_path)]
    assert main([*words, "--kms-key", "arn:aws:kms:eu-central-1:1:key/k", "--owner-tenant", "acme"]) == 2
    assert "--owner-tenant needs --owner-url" in capsys.readouterr().err
