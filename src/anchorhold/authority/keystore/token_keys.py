"""Keys on a token by label: found, made so that they cannot leave, checked, destroyed."""

from collections.abc import Mapping

import pkcs11
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass, exceptions
from pkcs11.util.ec import encode_named_curve_parameters

from anchorhold.authority.keystore.pairs import RSA_BITS
from anchorhold.authority.keystore.sessions import Line
from anchorhold.authority.keystore.store import KEY_BYTES, KeystoreError, NotSupported

_CURVES = {"ECC_NIST_P256": "secp256r1", "ECC_NIST_P384": "secp384r1", "ECC_NIST_P521": "secp521r1"}
_KINDS = (ObjectClass.SECRET_KEY, ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
# PKCS#11 2.40, 4.9: sensitive and not extractable, so neither C_GetAttributeValue nor C_WrapKey gives it out.
_KEPT: Mapping[Attribute, object] = {
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
}
_SEALS = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT


def find(line: Line, label: str, kind: ObjectClass) -> pkcs11.Key:
    """The one key of this label and kind. Raises KeyError, and KeystoreError where there are two."""
    known = line.found.get((label, kind))
    if known is not None:
        return known
    try:
        key = line.session.get_key(object_class=kind, label=label)
    except exceptions.NoSuchKey as error:
        _logged_in(line)
        raise KeyError(label) from error
    except exceptions.MultipleObjectsReturned as error:
        raise KeystoreError(f"two keys on the token have the label {label!r}") from error
    line.found[label, kind] = key
    return key


def present(line: Line, label: str) -> bool:
    """Whether any object of a key has this label; the token is asked, not what was found before."""
    if any(_objects(line, label, kind) for kind in _KINDS):
        return True
    _logged_in(line)
    return False


def destroy(line: Line, label: str) -> None:
    """Raises KeyError where there is nothing."""
    objects = [one for kind in _KINDS for one in _objects(line, label, kind)]
    for kind in _KINDS:
        line.found.pop((label, kind), None)
    if not objects:
        _logged_in(line)
        raise KeyError(label)
    for one in objects:
        one.destroy()


def make_aes(line: Line, label: str, *, on_token: bool = True) -> pkcs11.SecretKey:
    """A fresh AES-256 key. Raises KeystoreError if the token made one that could leave."""
    key = line.session.generate_key(
        KeyType.AES, KEY_BYTES * 8, label=label, store=on_token, capabilities=_SEALS, template=dict(_KEPT)
    )
    _check(key, born_here=True)
    return key


def import_aes(line: Line, label: str, material: bytes) -> None:
    """A key that was made elsewhere; from now on it does not leave here."""
    key = line.session.create_object(
        {
            **_KEPT,
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.TOKEN: True,
            Attribute.LABEL: label,
            Attribute.VALUE: material,
            Attribute.ENCRYPT: True,
            Attribute.DECRYPT: True,
        }
    )
    _check(key, born_here=False)


def make_pair(line: Line, label: str, spec: str) -> None:
    """A fresh pair. Raises NotSupported."""
    kept: dict[Attribute, object] = dict(_KEPT)
    if spec in RSA_BITS:
        uses = MechanismFlag.SIGN | MechanismFlag.VERIFY | _SEALS
        _, private = line.session.generate_keypair(
            KeyType.RSA, RSA_BITS[spec], label=label, store=True, capabilities=uses, private_template=kept
        )
    elif spec in _CURVES:
        parameters = line.session.create_domain_parameters(
            KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters(_CURVES[spec])}, local=True
        )
        uses = MechanismFlag.SIGN | MechanismFlag.VERIFY | MechanismFlag.DERIVE
        _, private = parameters.generate_keypair(label=label, store=True, capabilities=uses, private_template=kept)
    else:
        raise NotSupported(f"key spec: expected one of {', '.join((*RSA_BITS, *_CURVES))}, got {spec!r:.60}")
    _check(private, born_here=True)


def _logged_in(line: Line) -> None:
    """Raises UserNotLoggedIn where the login is lost: private keys are then invisible, not refused."""
    make_aes(line, "login", on_token=False).destroy()


def _objects(line: Line, label: str, kind: ObjectClass) -> list[pkcs11.Object]:
    return list(line.session.get_objects({Attribute.LABEL: label, Attribute.CLASS: kind}))


def _check(key: pkcs11.Object, *, born_here: bool) -> None:
    expected: dict[Attribute, object] = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
    if born_here:
        expected[Attribute.NEVER_EXTRACTABLE] = True
    for attribute, value in expected.items():
        if key[attribute] is not value:
            actual = key[attribute]
            key.destroy()
            raise KeystoreError(f"the token made a key with {attribute.name}: expected {value}, got {actual}")
