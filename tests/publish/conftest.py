"""A tiny model, a signer, and a source of shares that keeps what it gave so that a test can open what was sealed."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from anchorhold.attestation.sealed.manifest import PurposeClass, ShareKind, ShareRole, WrappedShare
from anchorhold.attestation.sealed.shares import share_check
from anchorhold.publish.providers import NewShare, Subject
from anchorhold.publish.seal import SealedModel, SealRequest, seal
from anchorhold.publish.signing import ModelSigner, create_signer, load_root, load_signer
from anchorhold.publish.tiny import make_tiny_model

NOW = datetime(2026, 11, 1, tzinfo=UTC)


class LocalShares:
    """A share provider that wraps nothing: the blob is a name."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.given: dict[bytes, bytes] = {}

    def new_share(self, subject: Subject, purposes: Sequence[PurposeClass]) -> NewShare:
        share = secrets.token_bytes(32)
        self.given[subject.model] = share
        check = share_check(share, subject.model, self.source, ShareRole.SHARE)
        wrapped = [
            WrappedShare(self.source, ShareKind.OWNER, ShareRole.SHARE, purpose, "key-1", b"blob", check)
            for purpose in purposes
        ]
        return NewShare(self.source, bytearray(share), tuple(wrapped))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder of the test's own, to spoil."""
    made = tmp_path / "plain"
    make_tiny_model(made)
    return made


@pytest.fixture(scope="session")
def signer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signer")
    create_signer(folder, "test", NOW)
    return folder


@pytest.fixture(scope="session")
def signer(signer_folder: Path) -> ModelSigner:
    return load_signer(signer_folder)


@pytest.fixture(scope="session")
def root(signer_folder: Path) -> bytes:
    return load_root(signer_folder)


@pytest.fixture
def providers() -> list[LocalShares]:
    return [LocalShares("owner"), LocalShares("kms")]


@pytest.fixture
def sealed(tiny: Path, tmp_path: Path, signer: ModelSigner, providers: list[LocalShares]) -> SealedModel:
    return seal(SealRequest(tiny, tmp_path / "sealed", "tiny", "1"), providers, signer)
