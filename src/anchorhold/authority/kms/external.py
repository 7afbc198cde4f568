"""Keys of an external key store: every use goes to the proxy, wrapped twice; what the proxy refuses does not happen.

A blob holds what the proxy made of a blob of this KMS's own: neither this KMS nor the holder of the external key opens
it alone. The outer blob is the same header, then IV, tag, ciphertext metadata and ciphertext, each after its length.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled, length_prefixed, same
from anchorhold.authority.kms import blob as blobs
from anchorhold.authority.kms.authenticate import PRINCIPAL_HANDLE
from anchorhold.authority.kms.call import Call
from anchorhold.authority.kms.faults import KmsFault, invalid_ciphertext, invalid_state, throttled
from anchorhold.authority.kms.key import Key, Material
from anchorhold.authority.kms.store import Connection, CustomKeyStore
from anchorhold.authority.kms.xks_proxy import Proxy, ProxyFailed
from anchorhold.wire import sigv4

_LENGTH_BYTES = 2
_ENCLAVE = "PCR"  # and not NitroTPMPCR
_PARTS = ("initializationVector", "authenticationTag", "ciphertextMetadata", "ciphertext")


def seal(call: Call, key: Key, material: Material, context: Mapping[str, str], plaintext: bytes) -> bytes:
    """A blob that takes this KMS's material and the external key to open. Raises KMSInvalidStateException."""
    inner = blobs.seal_blob(call.around.keystore, material, call.realm.anchor_class, context, plaintext)
    header = inner[: blobs.HEADER_BYTES]
    aad = _aad(header, context)
    answer = _use(
        call,
        key,
        "encrypt",
        {
            "plaintext": _base64(inner),
            "additionalAuthenticatedData": _base64(aad),
            "encryptionAlgorithm": "AES_GCM",
            "ciphertextDataIntegrityValueAlgorithm": "SHA_256",
        },
    )
    iv, tag, metadata, ciphertext = parts = [_part(answer, name) for name in _PARTS]
    value = hashlib.sha256(aad + metadata + iv + ciphertext + tag).digest()
    if not same(value, _part(answer, "ciphertextDataIntegrityValue")):
        raise _not_done("the external key store proxy's integrity value is another")
    return header + b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)


def open_(call: Call, key: Key, material: Material, context: Mapping[str, str], blob: bytes) -> bytes:
    """What a blob holds. Raises InvalidCiphertextException or KMSInvalidStateException."""
    header, parts = blob[: blobs.HEADER_BYTES], _unpacked(blob[blobs.HEADER_BYTES :])
    members: dict[str, object] = {
        "additionalAuthenticatedData": _base64(_aad(header, context)),
        "encryptionAlgorithm": "AES_GCM",
    }
    members |= {name: _base64(part) for name, part in zip(_PARTS, parts, strict=True) if part}
    inner = _part(_use(call, key, "decrypt", members), "plaintext")
    if inner[: blobs.HEADER_BYTES] != header:
        raise invalid_ciphertext()
    return blobs.open_blob(call.around.keystore, material, context, inner)


def proxy_of(call: Call, store: CustomKeyStore) -> Proxy:
    """The proxy of a store, with its secret opened. Raises CannotOpen."""
    secret = call.around.keystore.open(PRINCIPAL_HANDLE, store.secret, secret_aad(store.access_key_id)).decode()
    credentials = sigv4.Credentials(store.access_key_id, secret)
    return Proxy(store.endpoint, store.path, call.realm.region, credentials, call.around.proxy_tls)


def request_metadata(call: Call, key_arn: str | None) -> dict[str, object]:
    """What the proxy is told of this call, with the registers of an enclave's document that was verified here.

    Appendix B has names for an enclave's registers alone: a NitroTPM's, told by them, would pass for an enclave's.
    """
    network = call.network()
    said: dict[str, object] = {
        "awsPrincipalArn": call.principal.arn,
        "kmsOperation": call.draft.name,
        "kmsRequestId": call.draft.request_id,
    }
    if key_arn is not None:
        said["kmsKeyArn"] = key_arn
    if network is not None:
        said |= {"awsSourceVpc": network.vpc} | ({"awsSourceVpce": network.vpce} if network.vpce else {})
    for name, value in call.draft.registers.items():
        if name.startswith(_ENCLAVE):
            said[f"kmsRecipientAttestation{name}"] = value
    if (image := call.draft.registers.get("PCR0")) is not None:
        said["kmsRecipientAttestationImageSha384"] = image
    return said


def connected_store(call: Call, store_id: str | None) -> CustomKeyStore:
    """Raises KMSInvalidStateException unless the store is connected."""
    store = None if store_id is None else call.transaction.stores.get(store_id)
    if store is None or store.state is not Connection.CONNECTED:
        raise invalid_state("the key's custom key store is not connected.")
    return store


def secret_aad(access_key_id: str) -> bytes:
    """What a proxy's secret is bound to in the database."""
    return length_prefixed(b"custom-key-store", access_key_id.encode())


def _use(call: Call, key: Key, operation: str, members: Mapping[str, object]) -> Mapping[str, object]:
    store = connected_store(call, key.custom_key_store_id)
    meta = request_metadata(call, call.realm.key_arn(key.key_id))
    try:
        return proxy_of(call, store).call(
            f"keys/{key.xks_key_id}/{operation}", {"requestMetadata": meta, **members}, call.now
        )
    except ProxyFailed as error:
        call.draft.proxy = error.code
        raise _fault(error.code) from error


def _fault(code: str) -> KmsFault:
    """As AWS: its own words, and one name for nearly everything."""
    if code == "InvalidCiphertextException":
        return invalid_ciphertext()
    if code == "ThrottlingException":
        return throttled()
    return _not_done("the external key store did not do it")


def _not_done(words: str) -> KmsFault:
    return invalid_state(f"The request could not be processed: {words}.")


def _part(answer: Mapping[str, object], name: str) -> bytes:
    """A member in base64; absent metadata is empty."""
    text = answer.get(name, "" if name == "ciphertextMetadata" else None)
    try:
        return base64.b64decode(text if isinstance(text, str) else "!", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _not_done("the external key store proxy's answer is not in the form") from error


def _unpacked(raw: bytes) -> Sequence[bytes]:
    parts: list[bytes] = []
    for _ in _PARTS:
        length = int.from_bytes(raw[:_LENGTH_BYTES], "big")
        part, raw = raw[_LENGTH_BYTES : _LENGTH_BYTES + length], raw[_LENGTH_BYTES + length :]
        if len(part) != length:
            raise invalid_ciphertext()
        parts.append(part)
    if raw:
        raise invalid_ciphertext()
    return parts


def _aad(header: bytes, context: Mapping[str, str]) -> bytes:
    """A digest: an encryption context may be as long as the proxy's AAD may be, without our lengths."""
    pairs = [part.encode() for name in sorted(context) for part in (name, context[name])]
    return labelled(labels.KMS_EXTERNAL_CONTEXT, header, *pairs)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
