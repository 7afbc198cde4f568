"""What a keystore cannot do, or not now, has AWS's names outside: the call can be changed, or asked again.

What it did not do leaves no trace in the state: asked again, the same call is done.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest
import sqlalchemy as sql

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
from anchorhold.authority.kms import tables
from anchorhold.authority.kms.app import DATABASE, KmsFace, journal_key
from anchorhold.authority.kms.call import Surroundings
from anchorhold.authority.kms.faults import KmsFault
from anchorhold.authority.kms.grant_tokens import GRANT_HANDLE
from anchorhold.authority.kms.state import SCHEMA, State

from . import test_importing as importing
from .asking import b64
from .conftest import Kms, allow
from .test_pairs import MESSAGE, new


@dataclass
class Failing:
    """A keystore in which one act fails under some handles, and nothing else."""

    store: FullKeystore
    error: KeystoreError
    act: str = "sign"
    handles: str = ""
    """What a handle begins with for the act to fail."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        act = cast("Callable[..., Any]", getattr(self.store, name))
        if name != self.act:
            return act

        def fails(handle: str, *arguments: Any) -> Any:
            if handle.startswith(self.handles):
                raise self.error
            return act(handle, *arguments)

        return fails


@contextmanager
def failing(kms: Kms, error: KeystoreError, act: str, handles: str = "") -> Iterator[KmsFace]:
    """A face over the same state whose keystore fails in one act."""
    state, store = State.load(kms.folder / DATABASE), open_keystore(kms.folder)
    journal = state.journal(journal_key(state, store))
    anchors = tuple(Anchor(anchor, root) for anchor, root in state.anchors().items())
    keystore = cast("FullKeystore", Failing(store, error, act, handles))
    face = KmsFace(
        state,
        Surroundings(state.realm(), anchors, keystore, journal, Guard(SCHEMA, kms.folder)),
        lambda: Milliseconds(kms.now),
    )
    try:
        yield face
    finally:
        face.close()


def fault_of(kms: Kms, face: KmsFace, name: str, operation: str, asked: dict[str, object]) -> KmsFault:
    """What a caller's call to this face is refused with."""
    with pytest.raises(KmsFault) as caught:
        face.call(kms.signed(kms.caller(name), operation, json.dumps(asked).encode()), "127.0.0.1", "request")
    return caught.value


def rows(kms: Kms) -> dict[str, list[Any]]:
    """Everything that calls write, but for the journal and what the guard counts."""
    state = State.load(kms.folder / DATABASE)
    with state.transaction() as transaction:
        found = {
            table.name: sorted(map(repr, transaction.connection.execute(sql.select(table))))
            for table in (tables.keys, tables.materials, tables.grants, tables.tags, tables.import_parameters)
        }
    state.close()
    return found


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
    asked: dict[str, object] = {"KeyId": arn, "Message": b64(MESSAGE), "SigningAlgorithm": "ECDSA_SHA_256"}
    with failing(kms, error, "sign") as face:
        fault = fault_of(kms, face, "publisher", "Sign", asked)
    assert (fault.name, fault.status) == (name, status)
    assert "secret-label" not in fault.message


BUSY, UNABLE = KeystoreBusy("no session came free"), NotSupported("the token does not")
FULL = KeystoreFull("65,536 keys")
_NAMES = {
    BUSY: "KeyUnavailableException",
    UNABLE: "UnsupportedOperationException",
    FULL: "LimitExceededException",
}


@pytest.mark.parametrize("error", [BUSY, UNABLE, FULL], ids=["busy", "not supported", "full"])
@pytest.mark.parametrize(
    ("more", "act"),
    [
        ({"Tags": [{"TagKey": "a", "TagValue": "b"}]}, "create"),
        ({"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}, "create_pair"),
    ],
    ids=["symmetric", "pair"],
)
def test_a_key_whose_material_is_not_made_is_no_key(
    kms: Kms, more: dict[str, object], act: str, error: KeystoreError
) -> None:
    kms.identity("admin", "kms:*")
    before = rows(kms)
    with failing(kms, error, act) as face:
        assert fault_of(kms, face, "admin", "CreateKey", more).name == _NAMES[error]
    assert rows(kms) == before
    assert kms.events()[-1]["errorCode"] == _NAMES[error].removesuffix("Exception")
    kms.call("admin", "CreateKey", **more)


@pytest.mark.parametrize("error", [BUSY, FULL], ids=["busy", "full"])
def test_a_rotation_whose_material_is_not_made_changes_nothing(kms: Kms, error: KeystoreError) -> None:
    arn = kms.key(allow(kms, "publisher", "kms:*"))
    blob = kms.call("publisher", "Encrypt", KeyId=arn, Plaintext=b64(b"x"))["CiphertextBlob"]
    before = rows(kms)
    with failing(kms, error, "create") as face:
        assert fault_of(kms, face, "publisher", "RotateKeyOnDemand", {"KeyId": arn}).name == _NAMES[error]
    assert rows(kms) == before
    assert kms.call("publisher", "Decrypt", CiphertextBlob=blob)["Plaintext"] == b64(b"x")
    assert kms.call("publisher", "Encrypt", KeyId=arn, Plaintext=b64(b"x")), "the key has a current material"
    kms.call("publisher", "RotateKeyOnDemand", KeyId=arn)


def test_material_that_is_not_kept_is_not_the_key_s(kms: Kms) -> None:
    arn = importing.new(kms)
    sent = importing.asked(kms, arn) | importing.NEVER
    before = rows(kms)
    with failing(kms, BUSY, "import_key") as face:
        assert fault_of(kms, face, "admin", "ImportKeyMaterial", sent).name == _NAMES[BUSY]
    assert rows(kms) == before
    kms.call("admin", "ImportKeyMaterial", **sent)
    assert importing.state(kms, arn) == "Enabled"


def test_material_that_is_not_destroyed_is_still_the_key_s(kms: Kms) -> None:
    arn = importing.new(kms)
    importing.bring(kms, arn)
    before = rows(kms)
    with failing(kms, BUSY, "destroy") as face:
        assert fault_of(kms, face, "admin", "DeleteImportedKeyMaterial", {"KeyId": arn}).name == _NAMES[BUSY]
    assert rows(kms) == before
    kms.call("admin", "DeleteImportedKeyMaterial", KeyId=arn)


def test_a_grant_without_a_token_is_no_grant(kms: Kms) -> None:
    arn = kms.key(allow(kms, "publisher", "kms:*"))
    asked: dict[str, object] = {"KeyId": arn, "GranteePrincipal": kms.arn("enclave"), "Operations": ["Decrypt"]}
    before = rows(kms)
    with failing(kms, BUSY, "seal", GRANT_HANDLE) as face:
        assert fault_of(kms, face, "publisher", "CreateGrant", asked).name == _NAMES[BUSY]
    assert rows(kms) == before
    kms.call("publisher", "CreateGrant", **asked)
