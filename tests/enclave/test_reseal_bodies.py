"""Sealing anew: the same plaintext under other keys, and nothing of a file that was changed."""

import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.enclave.test_sealed_files import SHARES, fetch_from, make, manifest, plain, sealed, signer

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.manifest import Manifest, PurposeClass
from anchorhold.attestation.sealed.signature import verify_manifest
from anchorhold.enclave.keys.lease import LeaseEnded
from anchorhold.enclave.keys.secret import Secret
from anchorhold.enclave.model.reseal_bodies import reseal_bodies
from anchorhold.enclave.model.sealed_files import open_sealed, unlock
from anchorhold.publish.signing import load_root

from .adapter_room import SHARE, plain_adapter, sealed_adapters

__all__ = ["make", "manifest", "plain", "sealed", "signer"]


class Kept:
    """A parent that keeps what it is given, and the order in which it came."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put(self, name: str, size: int, pieces: Iterator[bytes]) -> None:
        content = b"".join(pieces)
        assert len(content) == size
        self.files[name] = content

    def fetch(self, name: str) -> Iterator[bytes]:
        yield self.files[name]


def old_key(manifest: Manifest) -> Secret:
    shares = {name: Secret(bytearray(share)) for name, share in SHARES.items()}
    return unlock(manifest, shares, PurposeClass.RESEAL)


def test_the_new_bodies_open_under_the_new_key_to_the_same_files(manifest: Manifest, sealed: Path, plain: Path) -> None:
    kept, new = Kept(), bytearray(secrets.token_bytes(32))
    old, fresh = old_key(manifest), Secret(bytearray(new))
    bodies = reseal_bodies(manifest, old, fresh, fetch=fetch_from(sealed), put=kept.put, may_go_on=lambda: None)
    assert old.wiped
    assert fresh.wiped
    assert [body.name for body in bodies] == [body.name for body in manifest.bodies]
    assert not {body.digest for body in bodies} & {body.digest for body in manifest.bodies}, "all ciphertext is new"
    resealed = replace(manifest, bodies=bodies)
    with open_sealed(resealed, Secret(new), kept.fetch) as opened:
        for name, view in opened.files.items():
            assert bytes(view) == (plain / name).read_bytes()
    with pytest.raises(EvidenceError):
        open_sealed(resealed, old_key(manifest), kept.fetch)


def test_a_file_that_was_changed_leaves_nothing(manifest: Manifest, sealed: Path) -> None:
    kept = Kept()
    last = manifest.bodies[-1].body

    def spoiled(name: str) -> Iterator[bytes]:
        raw = (sealed / name).read_bytes()
        yield raw if name != last else raw[:-1] + bytes([raw[-1] ^ 1])

    old, new = old_key(manifest), Secret(bytearray(32))
    with pytest.raises(EvidenceError):
        reseal_bodies(manifest, old, new, fetch=spoiled, put=kept.put, may_go_on=lambda: None)
    assert last not in kept.files
    assert old.wiped
    assert new.wiped


def test_a_lease_that_ends_stops_it_between_two_pieces(manifest: Manifest, sealed: Path) -> None:
    kept, asked = Kept(), iter(range(3))

    def ends() -> None:
        if next(asked, None) is None:
            raise LeaseEnded("over")

    old, new = old_key(manifest), Secret(bytearray(32))
    with pytest.raises(LeaseEnded):
        reseal_bodies(manifest, old, new, fetch=fetch_from(sealed, 500), put=kept.put, may_go_on=ends)
    assert len(kept.files) < len(manifest.bodies)
    assert old.wiped
    assert new.wiped


def test_an_adapter_is_sealed_anew_as_a_model_is(tmp_path: Path) -> None:
    kept, new, lora = Kept(), bytearray(secrets.token_bytes(32)), plain_adapter(tmp_path / "plain")
    adapters = sealed_adapters(tmp_path)
    digest = adapters.make(lora, "1")
    folder = adapters.folder / digest.hex()
    raw, bundle = (folder / "signed" / "manifest").read_bytes(), (folder / "signature").read_bytes()
    manifest, _ = verify_manifest(raw, bundle, (load_root(adapters.signer),), digest)
    old = unlock(manifest, {"owner": Secret(bytearray(SHARE))}, PurposeClass.RESEAL)
    fetch = fetch_from(folder)
    bodies = reseal_bodies(manifest, old, Secret(bytearray(new)), fetch=fetch, put=kept.put, may_go_on=lambda: None)
    with open_sealed(replace(manifest, bodies=bodies), Secret(new), kept.fetch) as opened:
        assert {name: bytes(view) for name, view in opened.files.items()} == {
            one.name: one.read_bytes() for one in lora.iterdir()
        }
