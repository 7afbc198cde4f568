"""The attestation document as the NSM emits it: read to the letter, believed in nothing (docs/spec/evidence.md 1).

Untagged or tag 18; the payload's outer map definite (to 2025-04) or indefinite (since 2025-08), everything inside it
definite. Null means absent. Unknown or duplicate fields, trailing bytes and lengths over the limits are refused.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import cbor2

from anchorhold.attestation.cose import Algorithm, UnverifiedSign1, parse_sign1
from anchorhold.attestation.errors import Malformed, TooLarge, WrongAlgorithm
from anchorhold.attestation.nsm_cbor import read
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds

MAX_PAYLOAD = 16_384  # bytes; nsm-api attestation_process.md 3.1
MAX_DOCUMENT = MAX_PAYLOAD + 128  # bytes; headers and the 96-byte signature take 112
MAX_MODULE_ID = 256  # bytes; real ones have 39 to 41
MAX_PCRS = 32  # the NSM has 32
MAX_CERTIFICATE = 1024  # bytes; nsm-api; the largest seen is 814
MAX_BUNDLE = 5  # AWS sends 4; more is an attack on our CPU
MAX_FIELD = 1024  # bytes; real documents fill all three fields with 1024, and an empty public_key exists
MAX_TIMESTAMP = 253_402_300_799_999  # ms, the end of the year 9999
ES384_SIGNATURE = 96  # bytes, raw r || s

_ENCLAVE_PCRS = "pcrs"
_TPM_PCRS = "nitrotpm_pcrs"
_FIELDS = {"module_id", "digest", "timestamp", "certificate", "cabundle", "public_key", "user_data", "nonce"}


class Unreadable(Malformed):
    """Bytes that are not even a CBOR array of four: no document at all, as opposed to a bad one."""

    code = "unreadable"


class PcrBank(Enum):
    """Which registers a document reports; their numbers mean different things."""

    ENCLAVE = "pcrs"
    TPM = "nitrotpm_pcrs"


@dataclass(frozen=True, slots=True)
class UnverifiedDocument:
    """What a document says. Nothing here was checked but its form."""

    unverified_sign1: UnverifiedSign1
    bank: PcrBank
    module_id: str
    timestamp_ms: Milliseconds
    pcrs: Mapping[int, bytes]
    certificate: bytes
    cabundle: tuple[bytes, ...]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None


def parse_document(raw: bytes) -> UnverifiedDocument:
    """The document in `raw`. Raises Unreadable, Malformed, NotCanonical, TooLarge or WrongAlgorithm."""
    if len(raw) > MAX_DOCUMENT:
        raise TooLarge("document", limit=MAX_DOCUMENT, actual=len(raw))
    try:
        sign1 = parse_sign1(raw, "document", limit=MAX_DOCUMENT)
    except Malformed as error:
        if _is_array_of_four(raw):
            raise
        raise Unreadable(str(error)) from error
    if sign1.algorithm is not Algorithm.ES384:
        raise WrongAlgorithm(f"document: expected algorithm ES384, got {sign1.algorithm.name}")
    if len(sign1.signature) != ES384_SIGNATURE:
        # RFC 9053 2.1: raw r || s; a DER signature has another length.
        raise Malformed(f"document: signature: expected {ES384_SIGNATURE} bytes, got {len(sign1.signature)}")
    if not 1 <= len(sign1.payload) <= MAX_PAYLOAD:
        raise TooLarge("document: payload", limit=MAX_PAYLOAD, actual=len(sign1.payload))
    return _document(sign1, _fields(sign1.payload))


def _is_array_of_four(raw: bytes) -> bool:
    body = raw[1:] if raw[:1] == b"\xd2" else raw
    try:
        value = cbor2.CBORDecoder(io.BytesIO(body), max_depth=4).decode()
    except (cbor2.CBORDecodeError, RecursionError, OverflowError, MemoryError, ValueError):
        return False
    return isinstance(value, list) and len(value) == 4


def _fields(payload: bytes) -> dict[str, object]:
    value = read(payload, "document: payload")
    if not isinstance(value, dict):
        raise Malformed(f"document: payload: expected a map, got {type(value).__name__}")
    named: dict[str, object] = {}
    for name, member in value.items():
        if not isinstance(name, str):
            raise Malformed(f"document: payload: expected text as field name, got {name!r:.40}")
        named[name] = member
    return named


def _document(sign1: UnverifiedSign1, fields: Mapping[str, object]) -> UnverifiedDocument:
    banks = [bank for bank in PcrBank if bank.value in fields]
    if len(banks) != 1:
        raise Malformed(f"document: expected exactly one of {_ENCLAVE_PCRS}, {_TPM_PCRS}, got {len(banks)}")
    bank = banks[0]
    if fields.keys() != _FIELDS | {bank.value}:
        missing, unknown = sorted(_FIELDS - fields.keys()), sorted(fields.keys() - _FIELDS - {bank.value})
        raise Malformed(f"document: missing fields {missing}, unknown fields {unknown}")
    if fields["digest"] != "SHA384":
        raise Malformed(f"document: digest: expected 'SHA384', got {fields['digest']!r}")
    return UnverifiedDocument(
        unverified_sign1=sign1,
        bank=bank,
        module_id=_module_id(fields["module_id"]),
        timestamp_ms=_timestamp(fields["timestamp"]),
        pcrs=_pcrs(fields[bank.value]),
        certificate=_bytes(fields["certificate"], "certificate", 1, MAX_CERTIFICATE),
        cabundle=_cabundle(fields["cabundle"]),
        public_key=_optional(fields["public_key"], "public_key"),
        user_data=_optional(fields["user_data"], "user_data"),
        nonce=_optional(fields["nonce"], "nonce"),
    )


def _module_id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Malformed(f"document: module_id: expected a non-empty text, got {type(value).__name__}")
    if len(value) > MAX_MODULE_ID:
        raise TooLarge("document: module_id", limit=MAX_MODULE_ID, actual=len(value))
    if not value.isascii() or not value.isprintable():
        raise Malformed(f"document: module_id: expected printable ASCII, got {value!r}")
    return value


def _timestamp(value: object) -> Milliseconds:
    if type(value) is not int or not 0 < value <= MAX_TIMESTAMP:
        raise Malformed(f"document: timestamp: expected 1..{MAX_TIMESTAMP}, got {value!r:.40}")
    return Milliseconds(value)


def _pcrs(value: object) -> Mapping[int, bytes]:
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_PCRS:
        raise Malformed(f"document: pcrs: expected a map of 1..{MAX_PCRS} registers")
    registers: dict[int, bytes] = {}
    for index, register in value.items():
        if type(index) is not int or not 0 <= index < MAX_PCRS:
            raise Malformed(f"document: pcrs: expected an index 0..{MAX_PCRS - 1}, got {index!r:.40}")
        registers[index] = _bytes(register, f"pcr {index}", SHA384_BYTES, SHA384_BYTES)
    return MappingProxyType(registers)


def _cabundle(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not value:
        raise Malformed(f"document: cabundle: expected a non-empty list, got {type(value).__name__}")
    if len(value) > MAX_BUNDLE:
        raise TooLarge("document: cabundle", limit=MAX_BUNDLE, actual=len(value))
    return tuple(_bytes(one, f"cabundle[{at}]", 1, MAX_CERTIFICATE) for at, one in enumerate(value))


def _optional(value: object, name: str) -> bytes | None:
    return None if value is None else _bytes(value, name, 0, MAX_FIELD)


def _bytes(value: object, name: str, least: int, most: int) -> bytes:
    if not isinstance(value, bytes):
        raise Malformed(f"document: {name}: expected bytes, got {type(value).__name__}")
    if len(value) > most:
        raise TooLarge(f"document: {name}", limit=most, actual=len(value))
    if len(value) < least:
        raise Malformed(f"document: {name}: expected at least {least} bytes, got {len(value)}")
    return value
