"""GetParametersForImport, and what a token stands for (docs/spec/kms-asymmetric.md 6.1, 6.2).

The wrapping pair is made in the keystore for this one token and destroyed when the token ends, so whoever kept a
wrapped key and later gets at the keystore cannot open it. A token is 32 random bytes; the database keeps its digest.
"""

import secrets

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding
from cryptography.hazmat.primitives.serialization import load_der_public_key

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.keystore import CannotOpen, NotSupported
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import KmsFault, invalid_ciphertext, unsupported
from anchorhold.authority.kms.key import Key, KeyState, Origin
from anchorhold.authority.kms.key_states import refuse
from anchorhold.authority.kms.outcome import base64_text
from anchorhold.authority.kms.pairs import needed_choice
from anchorhold.authority.kms.request_values import Asked
from anchorhold.authority.kms.rows.imports import ImportParameters
from anchorhold.authority.kms.specs import OAEP_SHA_1, OAEP_SHA_256, RSA_BITS

VALID_MS = 24 * 3_600 * 1_000  # AWS's own
REMEMBERED_MS = 7 * VALID_MS  # an ended token is told from an unknown one so long
MAX_TOKENS = 8  # live ones of one key: each holds a pair of the keystore; a ninth ends the oldest
MAX_TOKEN = 6_144
MAX_WRAPPED = 6_144
TOKEN_BYTES = 32
_TWO_STEPS = {"RSA_AES_KEY_WRAP_SHA_1": OAEP_SHA_1, "RSA_AES_KEY_WRAP_SHA_256": OAEP_SHA_256}
_ALGORITHMS = (OAEP_SHA_256, OAEP_SHA_1, *_TWO_STEPS)
_OTHER_ALGORITHMS = ("RSAES_PKCS1_V1_5", "SM2PKE")


def get_parameters_for_import(call: Call) -> Answer:
    """A fresh wrapping key and its token, for a day."""
    call.fields.allow("KeyId", "WrappingAlgorithm", "WrappingKeySpec")
    algorithm = needed_choice(call, "WrappingAlgorithm", *_ALGORITHMS, also=_OTHER_ALGORITHMS)
    spec = needed_choice(call, "WrappingKeySpec", *RSA_BITS, also=("SM2",))
    key = call.key()
    values = {"kms:wrappingalgorithm": algorithm, "kms:wrappingkeyspec": spec}
    call.authorise(key, "GetParametersForImport", Asked(values=values))
    require_external(call, key)
    refuse(call, key, KeyState.PENDING_DELETION, KeyState.UNAVAILABLE)
    end_parameters(call, key)
    token = secrets.token_bytes(TOKEN_BYTES)
    digest = _digest(token)
    parameters = ImportParameters(
        digest, key.key_id, f"import/{digest[:32]}", algorithm, Milliseconds(call.now + VALID_MS)
    )
    call.around.keystore.create_pair(parameters.handle, spec)
    _check_opens(call, parameters)
    call.transaction.imports.add(parameters)
    return {
        "KeyId": call.realm.key_arn(key.key_id),
        "ImportToken": base64_text(token),
        "PublicKey": base64_text(call.around.keystore.public_key(parameters.handle)),
        "ParametersValidTo": parameters.valid_to / 1_000,
    }


def parameters_of(call: Call, key: Key, token: bytes) -> ImportParameters:
    """What a token stands for. Raises InvalidImportTokenException or ExpiredImportTokenException."""
    parameters = call.transaction.imports.get(_digest(token))
    if parameters is None or parameters.key_id != key.key_id:
        raise KmsFault("InvalidImportTokenException", "")
    if parameters.valid_to < call.now or not call.around.keystore.has(parameters.handle):
        raise KmsFault("ExpiredImportTokenException", "")
    return parameters


def unwrapped(call: Call, parameters: ImportParameters, wrapped: bytes) -> bytes:
    """Key material out of its wrapping. Raises InvalidCiphertextException, whatever differs."""
    keystore, algorithm = call.around.keystore, parameters.algorithm
    try:
        if algorithm not in _TWO_STEPS:
            return keystore.open_oaep(parameters.handle, wrapped, algorithm)
        # PKCS#11 CKM_RSA_AES_KEY_WRAP: an AES key under OAEP, then the material under it by RFC 5649.
        size = _modulus_bytes(call, parameters)
        aes = keystore.open_oaep(parameters.handle, wrapped[:size], _TWO_STEPS[algorithm])
        return aes_key_unwrap_with_padding(aes, wrapped[size:])
    except (CannotOpen, InvalidUnwrap, ValueError) as error:
        raise invalid_ciphertext() from error


def require_external(call: Call, key: Key) -> None:
    """Raises UnsupportedOperationException for a key whose material is not imported."""
    if key.origin is not Origin.EXTERNAL:
        arn = call.realm.key_arn(key.key_id)
        raise unsupported(f"{arn} origin is {key.origin.value} which is not valid for this operation.")


def end_parameters(call: Call, key: Key) -> None:
    """Wrapping pairs whose time is over are destroyed, and of this key's those beyond the most it may have."""
    rows, keystore = call.transaction.imports, call.around.keystore
    live = [one for one in rows.of(key.key_id) if one.valid_to >= call.now]
    surplus = live[: max(0, len(live) - MAX_TOKENS + 1)]
    for parameters in (*rows.ended(call.now), *surplus):
        if keystore.has(parameters.handle):
            keystore.destroy(parameters.handle)
        if parameters.valid_to < call.now - REMEMBERED_MS:
            rows.remove(parameters.token)


def _check_opens(call: Call, parameters: ImportParameters) -> None:
    """A token that does not open this algorithm says so now, not once the material is wrapped. Raises NotSupported."""
    algorithm = _TWO_STEPS.get(parameters.algorithm, parameters.algorithm)
    try:
        call.around.keystore.open_oaep(parameters.handle, bytes(_modulus_bytes(call, parameters)), algorithm)
    except CannotOpen:
        return  # it tried
    except NotSupported:
        call.around.keystore.destroy(parameters.handle)
        raise


def _digest(token: bytes) -> str:
    return labelled(labels.KMS_IMPORT_TOKEN, token).hex()


def _modulus_bytes(call: Call, parameters: ImportParameters) -> int:
    public = load_der_public_key(call.around.keystore.public_key(parameters.handle))
    if not isinstance(public, rsa.RSAPublicKey):
        raise TypeError(f"{parameters.handle}: expected an RSA pair in the keystore")
    return public.key_size // 8


OPERATIONS = {"GetParametersForImport": get_parameters_for_import}
