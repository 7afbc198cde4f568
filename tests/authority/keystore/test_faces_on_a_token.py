"""Whole faces whose keys are in a PKCS#11 token: attested decryption, release, and both again after a restart."""

import base64
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.authority.hsm import token_for_tests
from tests.authority.kms.conftest import MEASUREMENTS, RSA_KEY, Kms, refused

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.purpose import Purpose
from anchorhold.authority.keystore import Choice, KeystoreError, Kind, open_keystore
from anchorhold.authority.kms.blob import HEADER_BYTES
from anchorhold.authority.kms.material import FIRST, handle_of
from anchorhold.authority.owner.app import make_app
from anchorhold.authority.tls import TlsFiles
from anchorhold.enclave.keys.envelope import open_envelope
from anchorhold.enclave.keys.source import Refused
from anchorhold.sim.owner_face import MODEL, PURPOSE, Served, owner_face
from anchorhold.sim.pki import SimulatedPki


@pytest.fixture
def chosen() -> Choice:
    hsm = token_for_tests()
    return Choice(Kind.PKCS11, module=hsm.module, token=hsm.label, pin_file=hsm.pin_file)


def test_a_kms_over_a_token_releases_to_the_measured_enclave_alone(tmp_path: Path, chosen: Choice) -> None:
    now = time.time_ns() // 1_000_000
    kms = Kms(tmp_path / "kms", SimulatedPki.create(datetime.fromtimestamp(now / 1000, UTC)), now, chosen)
    arn, blob = kms.attested_key()
    assert not {"keystore.key", "keystore.cbor"} & {file.name for file in kms.folder.iterdir()}
    for _ in range(2):
        answer = kms.decrypt(arn, blob, kms.document())
        assert "Plaintext" not in answer
        assert len(_opened(str(answer["CiphertextForRecipient"]))) == 32
        refused(
            "AccessDeniedException",
            lambda: kms.decrypt(arn, blob, kms.document(measurements=MEASUREMENTS | {0: b"\xee" * 48})),
        )
        kms.start()
    raw = base64.b64decode(blob)
    changed = base64.b64encode(raw[:-1] + bytes([raw[-1] ^ 1])).decode()
    refused("InvalidCiphertextException", lambda: kms.decrypt(arn, changed, kms.document()))
    store = open_keystore(kms.folder)
    handle = handle_of(arn.rpartition("/")[2], FIRST)
    store.destroy(handle)
    with pytest.raises(KeyError):
        store.open(handle, raw[HEADER_BYTES:], b"")


def test_an_owner_over_a_token_releases_and_says_where_its_keys_are(tmp_path: Path, chosen: Choice) -> None:
    with owner_face(tmp_path, chosen) as authority:
        authority.register()
        share, blob = authority.share()
        for _ in range(2):
            enclave = authority.enclave()
            released = enclave.source(blob, share).request(Ask.KEY, number=1, purposes=(Purpose(PURPOSE),))
            assert released.share is not None
            with released.share as view:
                assert bytes(view) == share
            again = Served(make_app(authority.state_dir, authority.clock.ms), TlsFiles.within(authority.state_dir))
            authority.extra.append(authority.served)
            authority.served = again
        assert authority.order("status")["keystore"] == "pkcs11 anchorhold"
        authority.order("revoke", model=MODEL, reason="test")
        with pytest.raises(Refused):
            authority.enclave().source(blob, share).request(Ask.KEY, number=1, purposes=(Purpose(PURPOSE),))


def test_the_first_entry_of_a_journal_says_how_the_keys_are_kept(tmp_path: Path, chosen: Choice) -> None:
    for number, (choice, words) in enumerate(((chosen, "pkcs11 anchorhold"), (Choice(), "software, key beside it"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        with owner_face(folder, choice) as authority:
            first = authority.whole_journal()[0]
            assert (first.seq, first.type, first.body["keystore"]) == (0, "init", words)


def test_a_face_whose_token_is_gone_does_not_start(tmp_path: Path, chosen: Choice) -> None:
    with owner_face(tmp_path, chosen) as authority:
        place = authority.state_dir / "keystore.json"
        said = json.loads(place.read_text())
        place.write_text(json.dumps(said | {"token": "gone"}))
        with pytest.raises(KeystoreError, match="gone"):
            make_app(authority.state_dir, authority.clock.ms)
        # Another prefix: the token is there and holds keys, only not this state's.
        place.write_text(json.dumps(said | {"prefix": "0" * 16}))
        with pytest.raises(KeyError):
            make_app(authority.state_dir, authority.clock.ms)


def _opened(envelope: str) -> bytes:
    return bytes(open_envelope(base64.b64decode(envelope), RSA_KEY))
