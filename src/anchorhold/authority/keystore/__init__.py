"""Where the authority's keys live. They are named from outside and never leave: use goes through a store.

`store.py` says what a store promises, `opener.py` is the one way to the store of a state folder. May import
attestation, cryptography, asn1crypto and python-pkcs11.
"""

from anchorhold.authority.keystore.opener import Choice, Kind, init_keystore, open_keystore
from anchorhold.authority.keystore.pkcs11 import IvSource
from anchorhold.authority.keystore.store import (
    CannotOpen,
    FullKeystore,
    ImportedKeys,
    KeyExhausted,
    Keystore,
    KeystoreBusy,
    KeystoreError,
    KeystoreFull,
    NotSupported,
    PairKeys,
    RawGcm,
)

__all__ = [
    "CannotOpen",
    "Choice",
    "FullKeystore",
    "ImportedKeys",
    "IvSource",
    "KeyExhausted",
    "Keystore",
    "KeystoreBusy",
    "KeystoreError",
    "KeystoreFull",
    "Kind",
    "NotSupported",
    "PairKeys",
    "RawGcm",
    "init_keystore",
    "open_keystore",
]
