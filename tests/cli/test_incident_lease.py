"""How long a lease is that stands on a use at a KMS: never what the owner registered for its own, and never nothing."""

import argparse
import dataclasses
from pathlib import Path

import pytest
from tests.attestation.test_configuration import GOOD, KMS, OWNER
from tests.cli.test_authority import Stack, stack

from anchorhold.attestation.configuration import Source, encode_configuration
from anchorhold.attestation.lease import MAX_TTL_MS
from anchorhold.cli.incident_facts import CONFIGURATION_FILE, KmsSource, gather
from anchorhold.cli.main import main
from anchorhold.cli.target import Target
from anchorhold.sim.owner_face import TTL_MS

__all__ = ["stack"]  # the fixture is used by its name

NAMES = ("owner_url", "owner_ca", "token_file", "kms_url", "kms_ca", "credentials", "key_arn", "region", "transcript")


def lease(folder: Path, lease_ms: int | None = None) -> int:
    target = Target.of(argparse.Namespace(stack=folder, **dict.fromkeys(NAMES)), model=False)
    return gather(target, "INC-1", KmsSource(None, None, None, lease_ms)).kms_lease_ms


@pytest.fixture
def opened(stack: Stack) -> Path:
    stack.owner.register()  # for leases of TTL_MS
    assert main(["authority", "incident", "open", "--id", "INC-1", "--stack", str(stack.folder)]) == 0
    return stack.folder


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ((dataclasses.replace(KMS, lease_ttl_ms=TTL_MS + 7), OWNER), TTL_MS + 7),
        ((OWNER,), MAX_TTL_MS),
        (None, MAX_TTL_MS),
    ],
    ids=["of the KMS's source", "a configuration without one", "no configuration"],
)
def test_it_is_the_configuration_s_and_otherwise_the_longest(
    opened: Path, sources: tuple[Source, ...] | None, expected: int
) -> None:
    if sources is not None:
        raw = encode_configuration(dataclasses.replace(GOOD, sources=sources))
        (opened / CONFIGURATION_FILE).write_bytes(raw)
    assert lease(opened) == expected


def test_a_configuration_that_cannot_be_read_shortens_nothing(opened: Path) -> None:
    (opened / CONFIGURATION_FILE).write_bytes(b"\xa0")
    assert lease(opened) == MAX_TTL_MS


def test_what_a_person_says_counts(opened: Path) -> None:
    assert lease(opened, 60_000) == 60_000
    assert main(["authority", "incident", "contain", "INC-1", "--stack", str(opened), "--kms-lease", "0"]) == 2
