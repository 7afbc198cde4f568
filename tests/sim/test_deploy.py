"""The deployment configuration of a stack, as the enclave reads it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.cli.test_authority import Stack, stack

from anchorhold.attestation.configuration import RESEAL_CLASS, Configuration, decode_configuration
from anchorhold.log.store import init_state
from anchorhold.publish.signing import create_signer, load_root
from anchorhold.sim.deploy import Face, KmsHalf, OwnerHalf, Parts, Settings, deployment
from anchorhold.sim.owner_face import IMAGE, MODEL
from anchorhold.sim.reseal import reseal_configuration

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
