"""`anchorhold model seal --base` against both real faces of a stack, until the owner has registered what came of it."""

import json
from pathlib import Path

import pytest
from tests.cli.test_authority import Stack, stack

from anchorhold.attestation.sealed.manifest import ShareKind, decode_manifest
from anchorhold.cli.main import main
from anchorhold.publish.tiny import make_tiny_adapter, make_tiny_model
from anchorhold.sim.deploy import Face, KmsDesk
from anchorhold.sim.owner_face import CONFIGURED, IMAGE, PURPOSE

__all__ = ["stack"]  # the fixture is used by its name

Capture = pytest.CaptureFixture[str]
D = "ab" * 48


@pytest.fixture
def desk(stack: Stack) -> Path:
    """The stack's folder, whose record names what a publisher needs, and an adapter in it."""
    kms = KmsDesk(Face(stack.kms.url, stack.folder / "kms"))
    kms.release_to(stack.key_arn, IMAGE | {16: CONFIGURED})
    kms.client("publisher")
    path = stack.folder / "stack.json"
    record = json.loads(path.read_text())
    record["signer"] = str(stack.folder / "signer")
    record["kms"] |= {"publisher": str(stack.folder / "kms" / "credentials-publisher.json"), "region": "eu-central-1"}
    record["measurements"] = {str(index): value.hex() for index, value in (IMAGE | {16: CONFIGURED}).items()}
    path.write_text(json.dumps(record))
    assert main(["model", "signer", "--out", str(stack.folder / "signer")]) == 0
    make_tiny_adapter(stack.folder / "lora")
    return stack.folder


def seal(desk: Path, *more: str, folder: str = "lora") -> int:
    return main(["model", "seal", str(desk / folder), "--id", "acme-lora", "--stack", str(desk), *more])


def made(capsys: Capture) -> dict[str, object]:
    value = json.loads(capsys.readouterr().out)
    assert isinstance(value, dict)
    return value


def test_an_adapter_is_sealed_shown_verified_and_registered_for_its_tenant(
    stack: Stack, desk: Path, capsys: Capture
) -> None:
    make_tiny_model(desk / "plain")
    assert seal(desk, "--out", str(desk / "model"), folder="plain") == 0
    assert stack.run("tenant-key", "acme", "--tag", "trial", "--reason", "a trial") == 0
    capsys.readouterr()
    assert main(["model", "show", str(desk / "model"), "--json"]) == 0
    base = json.loads(capsys.readouterr().out)["descriptor"]
    assert base["base"] is None
    for_acme = ["--base", str(desk / "model"), "--into", str(desk / "adapters"), "--owner-tenant", "acme"]
    assert seal(desk, *for_acme, "--json") == 0
    said = made(capsys)
    out = desk / "adapters" / str(said["model"])
    assert (said["base"], said["sealed"]) == (base["digest"], str(out))
    manifest = decode_manifest((out / "signed/manifest").read_bytes())
    assert {share.kind for share in manifest.shares} == {ShareKind.KMS, ShareKind.OWNER}
    assert next(one.key for one in manifest.shares if one.kind is ShareKind.OWNER).startswith("tenant-")
    root = ["--root", str(desk / "signer" / "signer.root.pem")]
    assert main(["model", "verify", str(out), *root, "--model", str(said["model"]), "--json"]) == 0
    assert made(capsys)["base"] == base["digest"]
    assert main(["model", "verify", str(desk / "model"), *root, "--json"]) == 0
    assert "base" not in made(capsys)
    register = ["register", "--alias", "acme-lora", "--manifest", str(out / "signed/manifest"), "--purpose", PURPOSE]
    assert stack.run(*register) == 1  # the tenant's alone
    assert "acme" in capsys.readouterr().err
    assert stack.run(*register, "--for-tenant", "acme") == 0
    assert str(said["model"]) in capsys.readouterr().out
    assert str(said["model"]) in json.dumps(stack.owner.order("status"), default=bytes.hex)


def test_a_base_is_a_digest_or_a_sealed_model_and_no_adapter(desk: Path, capsys: Capture) -> None:
    assert seal(desk, "--base", D, "--into", str(desk / "adapters"), "--json") == 0
    said = made(capsys)
    assert said["base"] == D
    for base, code, word in (
        (str(said["sealed"]), 2, "is itself an adapter"),
        (D[:-2], 2, "neither a folder nor a D"),
        (str(desk / "absent"), 2, "neither a folder nor a D"),
        (str(desk / "lora"), 1, "manifest"),
    ):
        assert seal(desk, "--base", base, "--out", str(desk / "out")) == code
        assert word in capsys.readouterr().err
    assert not (desk / "out").exists()


def test_an_adapter_s_folder_is_no_model_and_a_model_s_no_adapter(desk: Path, capsys: Capture) -> None:
    make_tiny_model(desk / "plain")
    assert seal(desk, "--out", str(desk / "out")) == 1
    said = capsys.readouterr().err
    assert "'adapter_config.json'" in said
    assert "--base MODEL" in said
    assert seal(desk, "--base", D, "--out", str(desk / "out"), folder="plain") == 1
    assert "not one of an adapter's" in capsys.readouterr().err
    assert not (desk / "out").exists()


def test_the_same_adapter_for_a_second_tenant_is_refused_with_the_reason(
    stack: Stack, desk: Path, capsys: Capture
) -> None:
    for tenant in ("acme", "globex"):
        assert stack.run("tenant-key", tenant, "--tag", "trial", "--reason", "a trial") == 0
    assert seal(desk, "--base", D, "--into", str(desk / "adapters"), "--owner-tenant", "acme") == 0
    for where, tenant, words in (
        ("--into", "globex", "takes another id or version"),
        ("--out", "globex", "expected that tenant, got 'globex'"),
        ("--out", "nobody", "expected that tenant, got 'nobody'"),
    ):
        capsys.readouterr()
        assert seal(desk, "--base", D, where, str(desk / "adapters" if where == "--into" else desk / "out"),
                    "--owner-tenant", tenant) == 1  # fmt: skip
        assert words in capsys.readouterr().err
    assert not (desk / "out").exists()


@pytest.mark.parametrize("where", [[], ["--out", "a", "--into", "b"]], ids=["neither", "both"])
def test_what_is_sealed_goes_to_exactly_one_place(desk: Path, capsys: Capture, where: list[str]) -> None:
    assert seal(desk, "--base", D, *where) == 2
    assert "--into" in capsys.readouterr().err


def test_without_a_stack_signer_and_measurements_are_to_be_named(desk: Path, stack: Stack, capsys: Capture) -> None:
    source = ["--kms-key", "arn:aws:kms:eu-central-1:1:key/k"]
    assert main(["model", "seal", str(desk / "lora"), "--id", "m", "--out", str(desk / "out"), *source]) == 2
    assert "--signer" in capsys.readouterr().err
    record = json.loads((desk / "stack.json").read_text())
    del record["measurements"]
    (desk / "stack.json").write_text(json.dumps(record))
    assert stack.run("register", "--alias", "a", "--purpose", PURPOSE, "--manifest", str(_manifest(desk))) == 2
    assert "no measurements are named" in capsys.readouterr().err


def _manifest(desk: Path) -> Path:
    assert seal(desk, "--base", D, "--out", str(desk / "sealed")) == 0
    return desk / "sealed" / "signed" / "manifest"
