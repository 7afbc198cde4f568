"""The deployment configuration of a stack, as the enclave reads it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.cli.test_authority import Stack, stack

from anchorhold.attestation.canonical import Value
from anchorhold.attestation.configuration import RESEAL_CLASS, Configuration, decode_configuration
from anchorhold.log.store import init_state
from anchorhold.publish.signing import create_signer, load_root
from anchorhold.sim.deploy import Face, KmsDesk, KmsHalf, OwnerDesk, OwnerHalf, Parts, Settings, deployment
from anchorhold.sim.owner_face import IMAGE, MODEL, OTHER_MODEL, descriptor
from anchorhold.sim.processes import StackError
from anchorhold.sim.reseal import new_keys, reseal_configuration

__all__ = ["stack"]  # the fixture is used by its name


def deployed(stack: Stack, sources: str, settings: Settings) -> Configuration:
    folder: Path = stack.folder
    create_signer(folder / "signer", "test", datetime(2026, 11, 1, tzinfo=UTC))
    kms = KmsHalf(Face(stack.kms.url, folder / "kms"), stack.key_arn, "cloud")
    owner = OwnerHalf.of(Face(f"https://localhost:{stack.owner.served.port}", folder / "owner"))
    parts = Parts(
        model=MODEL,
        model_id="tiny",
        signer=load_root(folder / "signer"),
        kms=kms if "kms" in sources else None,
        owner=owner if "owner" in sources else None,
        log_origin="log.example/2",
        log_key=str(init_state(folder / "log-2", "log.example/2", Ed25519PrivateKey.generate())),
    )
    return decode_configuration(deployment(parts, settings, IMAGE).configuration)


@pytest.mark.parametrize(
    ("sources", "asked", "expected"),
    [("kms and owner", Settings(), 4), ("owner", Settings(adapters=2), 2), ("kms and owner", Settings(adapters=0), 0),
     ("kms", Settings(), 0)],
)  # fmt: skip
def test_adapters_are_served_where_the_owner_issues_credentials(
    stack: Stack, sources: str, asked: Settings, expected: int
) -> None:
    configuration = deployed(stack, sources, asked)
    assert configuration.adapters == expected
    assert (configuration.credential_issuer is None) == (sources == "kms")


def test_an_enclave_that_seals_the_model_anew_serves_no_adapter(stack: Stack) -> None:
    running = deployed(stack, "kms and owner", Settings())
    made = decode_configuration(reseal_configuration(running, {one.name: one.key + "2" for one in running.sources}))
    assert (made.purpose_class, made.adapters, running.adapters) == (RESEAL_CLASS, 0, 4)


def desk(stack: Stack) -> OwnerDesk:
    return OwnerDesk(Face(f"https://localhost:{stack.owner.served.port}", stack.folder / "owner"))


def tenant_key(stack: Stack, tenant: str) -> str:
    made = stack.owner.order("tenant-keys", tenant=tenant, tag="retail", keeping=None, reason="new customer")
    return str(made["key_id"])


def test_the_newer_key_of_a_share_is_of_whoever_its_own_is(stack: Stack) -> None:
    """Made where there is none yet, and the same when it is asked for again."""
    owner = desk(stack)
    house, acme = str(stack.owner.order("status")["key_id"]), tenant_key(stack, "acme")
    tenant_key(stack, "other")
    newer = owner.newer_key(house, "yearly")
    assert newer == owner.newer_key(house, "yearly") == stack.owner.order("status")["key_id"] != house
    theirs = owner.newer_key(acme, "yearly")
    assert theirs == owner.newer_key(acme, "yearly")
    keys = stack.owner.client(stack.owner.token).tenant_keys()
    assert [(one["key_id"], one["state"]) for one in keys if one["tenant"] == "acme"] == [
        (acme, "older"),
        (theirs, "in-force"),
    ]
    ordered = str(stack.owner.order("tenant-rotate", tenant="acme", reason="once more")["key_id"])
    assert owner.newer_key(acme, "yearly") == owner.newer_key(theirs, "yearly") == ordered
    stack.owner.order("shred", tenant="acme", reason="left")
    with pytest.raises(StackError, match="'acme' has no key"):
        owner.newer_key(acme, "yearly")


def test_a_resealing_that_goes_on_keeps_its_kms_key_and_takes_the_owner_s_key_in_force(stack: Stack) -> None:
    running = deployed(stack, "kms and owner", Settings())
    kms = KmsDesk(Face(stack.kms.url, stack.folder / "kms"))
    path = stack.folder / "keys.json"

    def made() -> dict[str, str]:
        return new_keys(path, running, kms=kms, owner=desk(stack), reason="yearly")

    first = made()
    assert made() == first
    rotated = str(stack.owner.order("rotate", reason="meanwhile")["key_id"])
    assert made() == first | {"owner": rotated}


def test_a_tenant_s_model_is_registered_for_that_tenant_alone(stack: Stack) -> None:
    key = tenant_key(stack, "acme")
    fields: dict[str, Value] = {"model_id": "tiny", "version": "1", "purpose_class": "serve"}
    stack.owner.order("shares", model=OTHER_MODEL, tenant="acme", **fields)
    owner, registers = desk(stack), {**IMAGE, 16: b"\x16" * 48}
    with pytest.raises(StackError, match="'acme''s alone"):
        owner.register(descriptor("other"), "other", registers, 2_000)
    owner.register(descriptor("other"), "other", registers, 2_000, key=key)
    owner.register(descriptor(), "tiny", registers, 2_000, key=str(stack.owner.order("status")["key_id"]))
    models = stack.owner.order("status")["models"]
    assert isinstance(models, list)
    found = {one["model"]: one["tenants"] for one in models if isinstance(one, dict)}
    assert found == {MODEL: [], OTHER_MODEL: ["acme"]}
