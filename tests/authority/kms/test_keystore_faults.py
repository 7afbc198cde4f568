"""What a keystore cannot do, or not now, has AWS's names outside: the call can be changed, or asked again."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Guard
from anchorhold.authority.keystore import (
    FullKeystore,
    KeystoreBusy,
    KeystoreError,
    KeystoreFull,
    NotSupported,
    open_keystore,
)
from anchorhold.authority.kms.app import DATABASE, KmsFace, journal_key
from anchorhold.authority.kms.call import Surroundings
from anchorhold.authority.kms.faults import KmsFault
from anchorhold.authority.kms.state import SCHEMA, State

from .asking import b64
from .conftest import Kms
from .test_pairs import MESSAGE, new


@dataclass
class Failing:
    """A keystore whose signatures and new keys fail, and nothing else."""

    store: FullKeystore
    error: KeystoreError

    def sign(self, _handle: str, _digest: bytes, _algorithm: str) -> bytes:
        raise self.error

    def create(self, _handle: str) -> None:
        raise self.error

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return cast("Callable[..., Any]", getattr(self.store, name))


def over(kms: Kms, error: KeystoreError) -> KmsFace:
    """The face as it serves over such a keystore."""
    state, store = State.load(kms.folder / DATABASE), open_keystore(kms.folder)
    journal = state.journal(journal_key(state, store))
    anchors = tuple(Anchor(anchor, root) for anchor, root in state.anchors().items())
    failing = cast("FullKeystore", Failing(store, error))
    around = Surroundings(state.realm(), anchors, failing, journal, Guard(SCHEMA, kms.folder))
    return KmsFace(state, around, lambda: Milliseconds(kms.now))


@pytest.mark.parametrize(
    ("error", "name", "status"),
    [
        (NotSupported("token 'secret-label' cannot"), "UnsupportedOperationException", 400),
        (KeystoreBusy("token 'secret-label' has no session"), "KeyUnavailableException", 500),
        (KeystoreError("token 'secret-label' is gone"), "KMSInternalException", 500),
    ],
    ids=["not supported", "busy", "gone"],
)
def test_a_keystore_s_fault_has_aws_s_name_and_none_of_its_words(
    kms: Kms, error: KeystoreError, name: str, status: int
) -> None:
    arn = new(kms, "ECC_NIST_P256", "SIGN_VERIFY")
    face = over(kms, error)
    asked = {"KeyId": arn, "Message": b64(MESSAGE), "SigningAlgorithm": "ECDSA_SHA_256"}
    request = kms.signed(kms.caller("publisher"), "Sign", json.dumps(asked).encode())
    with pytest.raises(KmsFault) as caught:
        face.call(request, "127.0.0.1", "request")
    assert (caught.value.name, caught.value.status) == (name, status)
    assert "secret-label" not in caught.value.message
    face.close()


@pytest.mark.parametrize(
    ("error", "name"),
    [(KeystoreFull("65,536 keys"), "LimitExceededException"), (KeystoreBusy("no session"), "KeyUnavailableException")],
    ids=["full", "busy"],
)
def test_a_rotation_that_the_keystore_refused_leaves_the_key_as_it_was(
    kms: Kms, error: KeystoreError, name: str
) -> None:
    arn = new(kms, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
    face = over(kms, error)
    request = kms.signed(kms.caller("publisher"), "RotateKeyOnDemand", json.dumps({"KeyId": arn}).encode())
    with pytest.raises(KmsFault) as caught:
        face.call(request, "127.0.0.1", "request")
    face.close()
    assert caught.value.name == name
    kms.call("publisher", "Encrypt", KeyId=arn, Plaintext=b64(b"still"))
