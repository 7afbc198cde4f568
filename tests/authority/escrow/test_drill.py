"""The restore drill: every copy of an authority is lost, k of n recipients bring it back, and a sealed model opens.

With the keys in a folder and with the keys in a token, from which no wrapping key can be taken.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.authority.hsm import token_for_tests

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.sealed.body import BodyOpener
from anchorhold.attestation.sealed.descriptor import encode_descriptor
from anchorhold.attestation.sealed.manifest import PurposeClass, ShareRole, decode_manifest
from anchorhold.attestation.sealed.shares import file_key, model_key, verify_key, verify_share
from anchorhold.authority.escrow.recipient import make_recipient, read_recipient, read_recipient_secret
from anchorhold.authority.escrow.restore import Restoration, restore
from anchorhold.authority.escrow.sealed import BackupRefused
from anchorhold.authority.keystore import Choice, Kind, open_keystore
from anchorhold.authority.owner.app import make_app
from anchorhold.authority.owner.authority import DATABASE
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.tls import TlsFiles
from anchorhold.enclave.keys.owner import OwnerSource
from anchorhold.enclave.keys.source import Refused
from anchorhold.publish.providers import OwnerShares
from anchorhold.publish.seal import SealedModel, SealRequest, seal
from anchorhold.publish.signing import create_signer, load_signer
from anchorhold.publish.tiny import make_tiny_model
from anchorhold.sim.owner_face import IMAGE, PURPOSE, Authority, Served, owner_face


def on_token() -> Choice:
    hsm = token_for_tests()
    return Choice(Kind.PKCS11, module=hsm.module, token=hsm.label, pin_file=hsm.pin_file)


@pytest.fixture(params=["beside", "pkcs11"])
def chosen(request: pytest.FixtureRequest) -> Choice:
    return Choice() if request.param == "beside" else on_token()


def sealed_by(authority: Authority, folder: Path) -> SealedModel:
    make_tiny_model(folder / "plain")
    create_signer(folder / "signer", "test", authority.clock.utc())
    url = f"https://localhost:{authority.served.port}"
    ca = TlsFiles.within(authority.state_dir).authority
    shares = OwnerShares("owner", url, token=authority.token, ca=ca)
    request = SealRequest(folder / "plain", folder / "sealed", "tiny", "1")
    return seal(request, [shares], load_signer(folder / "signer"))


def lose(authority: Authority) -> None:
    """The machine, its disk, and the key in its token."""
    store = open_keystore(authority.state_dir)
    store.destroy(authority.public.key_id)
    store.close()
    authority.served.stop()
    shutil.rmtree(authority.state_dir)


def released(authority: Authority, sealed: SealedModel) -> bytes:
    """What a measured enclave gets for the manifest's own blob, once the share proves itself."""
    manifest = decode_manifest((sealed.out / "signed" / "manifest").read_bytes())
    wrapped = manifest.wrapped(ShareRole.SHARE, PurposeClass.SERVE)[0]
    enclave = authority.enclave(model=sealed.digest)

    def holds(share: bytes | bytearray | memoryview) -> bool:
        verify_share(bytes(share), wrapped.check, sealed.digest, wrapped.source, ShareRole.SHARE)
        return True

    source = OwnerSource(enclave.configured, enclave.context, blob=wrapped.blob, holds=holds)
    answer = source.request(Ask.KEY, number=1, purposes=(Purpose(PURPOSE),))
    assert answer.share is not None
    with answer.share as view:
        return bytes(view)


def opened(sealed: SealedModel, share: bytes, name: str) -> bytes:
    """The plaintext of one file, from what an enclave is given: manifest, ciphertext, share."""
    manifest = decode_manifest((sealed.out / "signed" / "manifest").read_bytes())
    descriptor = manifest.descriptor
    key = model_key(
        [share], salt=manifest.salt, model_id=descriptor.model_id, version=descriptor.version, model=manifest.digest
    )
    verify_key(key, manifest.commitment, manifest.digest)
    body = next(one for one in manifest.bodies if one.name == name)
    size = next(file.size for file in descriptor.files if file.name == name)
    buffer = bytearray(size)
    own = file_key(key, manifest.digest, name)
    opener = BodyOpener(
        own, manifest.digest, name, buffer=memoryview(buffer), digest=body.digest, wipe=lambda view: None
    )
    opener.update((sealed.out / body.body).read_bytes())
    opener.finish()
    return bytes(buffer)


def test_all_copies_are_lost_and_two_of_three_bring_the_model_back(tmp_path: Path, chosen: Choice) -> None:
    safe, away = tmp_path / "safe", tmp_path / "away"
    safe.mkdir()
    away.mkdir()
    publics = [read_recipient(make_recipient(safe / name)) for name in ("ada", "bob", "eve")]
    with owner_face(tmp_path, chosen) as authority:
        sealed = sealed_by(authority, tmp_path)
        file = authority.order("backup", recipients=publics, threshold=2)["file"]
        assert isinstance(file, bytes)
        before = authority.public
        journal_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(before.journal_key))
        lose(authority)

        one, two = (read_recipient_secret(safe / name) for name in ("ada", "eve"))
        with pytest.raises(BackupRefused, match="2 of the 3 recipients, got 1"):
            restore(file, [one, one], journal_key, away / "none", now=authority.clock.ms())
        assert not (away / "none").exists()
        made = restore(file, [one, two], journal_key, away / "owner", now=authority.clock.ms(), keystore=chosen)
        assert (made.public, made.shares) == (before, 2)

        again = serving(authority, away / "owner", made)
        try:
            drill(again, sealed, tmp_path / "plain")
        finally:
            again.served.stop()


def serving(authority: Authority, state_dir: Path, made: Restoration) -> Authority:
    served = Served(make_app(state_dir, authority.clock.ms), TlsFiles.within(state_dir))
    return Authority(state_dir, made.public, authority.pki, authority.clock, served)


def drill(authority: Authority, sealed: SealedModel, plain: Path) -> None:
    """A revocation is not undone by losing the state: nobody gets anything until the owner says again who may."""
    with pytest.raises(Refused):
        released(authority, sealed)
    manifest = decode_manifest((sealed.out / "signed" / "manifest").read_bytes())
    authority.register(descriptor=encode_descriptor(manifest.descriptor))
    assert opened(sealed, released(authority, sealed), "config.json") == (plain / "config.json").read_bytes()
    first = authority.whole_journal()[0]
    assert first.type == "init"
    restored = first.body["restored"]
    assert isinstance(restored, dict)
    assert (restored["shares"], restored["revoked"]) == (2, [])


def test_a_backup_that_would_miss_a_share_is_not_made(tmp_path: Path) -> None:
    public = read_recipient(make_recipient(tmp_path / "ada"))
    with owner_face(tmp_path) as authority:
        authority.share()
        with closing(sqlite3.connect(authority.state_dir / DATABASE)) as database:
            database.execute("UPDATE shares SET purpose_class = 'evaluate'")
            database.commit()
        with pytest.raises(AdminFailed, match="does not open"):
            authority.order("backup", recipients=[public], threshold=1)
        assert [entry.type for entry in authority.journal()] == ["share"]


def test_a_share_is_found_for_its_own_model_and_purpose_alone_after_a_restore(tmp_path: Path) -> None:
    public = read_recipient(make_recipient(tmp_path / "ada"))
    with owner_face(tmp_path) as authority:
        _, blob = authority.share(purpose_class="reseal")
        file = authority.order("backup", recipients=[public], threshold=1)["file"]
        assert isinstance(file, bytes)
        journal_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(authority.public.journal_key))
        key = read_recipient_secret(tmp_path / "ada")
        made = restore(file, [key], journal_key, tmp_path / "new", now=authority.clock.ms())
        again = serving(authority, tmp_path / "new", made)
        again.register()  # for serving
        with pytest.raises(Refused):
            again.enclave().source(blob, b"").request(Ask.KEY, number=1, purposes=(Purpose(PURPOSE),))
        assert again.journal()[-1].body["code"] == "blob"
        again.served.stop()


def test_floors_and_revocations_outlive_the_loss_of_the_state(tmp_path: Path) -> None:
    public = read_recipient(make_recipient(tmp_path / "ada"))
    with owner_face(tmp_path) as authority:
        authority.order("revoke", image=IMAGE[0], reason="defect")
        authority.order("revoke", tenant="acme", reason="over")
        authority.order("floor", model_id="tiny", version="2", reason="CVE-1")
        before = authority.order("status")
        file = authority.order("backup", recipients=[public], threshold=1)["file"]
        assert isinstance(file, bytes)
        journal_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(authority.public.journal_key))
        key = read_recipient_secret(tmp_path / "ada")
        made = restore(file, [key], journal_key, tmp_path / "new", now=authority.clock.ms())
        again = serving(authority, tmp_path / "new", made)
        after = again.order("status")
        assert (after["revocations"], after["floors"]) == (before["revocations"], before["floors"])
        again.register()
        with pytest.raises(Refused) as refusal:
            again.enclave().source().request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))
        assert refusal.value.code == "revoked"
        again.order("reinstate", image=IMAGE[0], reason="to see the floor")
        with pytest.raises(Refused) as refusal:
            again.enclave().source().request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))
        assert refusal.value.code == "floor"
        again.served.stop()
