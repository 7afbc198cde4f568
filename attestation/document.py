"""The attestation document as the NSM emits it: read to the letter, believed in nothing (docs/spec/evidence.md 1).

Untagged or tag 18; the payload's outer map definite (to 2025-04) or indefinite (since 2025-08), everything inside it
definite. Null means absent. Unknown or duplicate fields, trailing bytes, heads longer than needed and lengths over the
limits are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from anchorhold.attestation.cose import Algorithm, NoSign1, UnverifiedSign1, parse_sign1
from anchorhold.attestation.errors import Malformed, TooLarge, WrongAlgorithm
from anchorhold.attestation.nsm_cbor import NsmValue, Truncated, read
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
_MANDATORY = {"module_id", "digest", "timestamp", "certificate", "cabundle"}
_OPTIONAL = ("public_key", "user_data", "nonce")  # null in real documents, never left out; AWS's CDDL allows both


class Unreadable(Malformed):
    """Bytes that do not begin as a document, or end inside its envelope: none at all, as opposed to a bad one."""

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
    """The document in `raw`. Raises Unreadable, Malformed, NotCanonical, TooLarge or WrongAlgorithm.

    The numbers are those of `verify.py`.
    """
    # 1.16 Bytes that end early or are no array of four are no document at all.
    try:
        sign1 = parse_sign1(raw, "document", limit=MAX_DOCUMENT)
    except (Truncated, NoSign1) as error:
        raise Unreadable(str(error)) from error
    # 1.17 ES384 and no other algorithm.
    if sign1.algorithm is not Algorithm.ES384:
        raise WrongAlgorithm(f"document: expected algorithm ES384, got {sign1.algorithm.name}")
    # 1.18 RFC 9053 2.1: raw r || s; a DER signature has another length.
    if len(sign1.signature) != ES384_SIGNATURE:
        raise Malformed(f"document: signature: expected {ES384_SIGNATURE} bytes, got {len(sign1.signature)}")
    # 1.19 The payload's own limit.
    if len(sign1.payload) > MAX_PAYLOAD:
        raise TooLarge("document: payload", limit=MAX_PAYLOAD, actual=len(sign1.payload))
    return _document(sign1, _fields(sign1.payload))


def _fields(payload: bytes) -> dict[str, NsmValue]:
    value = read(payload, "document: payload")
    # 1.20 The payload is one map.
    if not isinstance(value, dict):
        raise Malformed(f"document: payload: expected a map, got {type(value).__name__}")
    named: dict[str, NsmValue] = {}
    for name, member in value.items():
        # 1.21 Fields have names.
        if not isinstance(name, str):
            raise Malformed(f"document: payload: expected text as field name, got {name!r:.40}")
        named[name] = member
    return named


def _document(sign1: UnverifiedSign1, fields: Mapping[str, NsmValue]) -> UnverifiedDocument:
    banks = [bank for bank in PcrBank if bank.value in fields]
    # 1.22 One bank of registers: their numbers mean different things in the two.
    if len(banks) != 1:
        raise Malformed(f"document: expected exactly one of {_ENCLAVE_PCRS}, {_TPM_PCRS}, got {len(banks)}")
    # 1.23 The mandatory fields.
    if missing := sorted(_MANDATORY - fields.keys()):
        raise Malformed(f"document: missing fields {missing}")
    # 1.24 No field unknown here: it could change what the others mean.
    if unknown := sorted(fields.keys() - _MANDATORY - set(_OPTIONAL) - {banks[0].value}):
        raise Malformed(f"document: unknown fields {unknown!r:.200}")
    # 1.25 The registers' hash.
    if fields["digest"] != "SHA384":
        raise Malformed(f"document: digest: expected 'SHA384', got {fields['digest']!r:.40}")
    public_key, user_data, nonce = (_optional(fields.get(name), name) for name in _OPTIONAL)
    return UnverifiedDocument(
        unverified_sign1=sign1,
        bank=banks[0],
        module_id=_module_id(fields["module_id"]),
        timestamp_ms=_timestamp(fields["timestamp"]),
        pcrs=_pcrs(fields[banks[0].value]),
        certificate=_certificate(fields["certificate"], "certificate"),
        cabundle=_cabundle(fields["cabundle"]),
        public_key=public_key,
        user_data=user_data,
        nonce=nonce,
    )


def _module_id(value: NsmValue) -> str:
    # 1.26 A text that names something.
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_MODULE_ID:
        raise _out_of_form("module_id", f"text of 1..{MAX_MODULE_ID} characters", value, MAX_MODULE_ID)
    # 1.27 It is shown to people and compared with a name in a certificate.
    if not value.isascii() or not value.isprintable():
        raise Malformed(f"document: module_id: expected printable ASCII, got {value!r}")
    return value


def _timestamp(value: NsmValue) -> Milliseconds:
    # 1.28 Milliseconds since 1970, within what a date can hold; True is no 1.
    if type(value) is not int or not 0 < value <= MAX_TIMESTAMP:
        raise Malformed(f"document: timestamp: expected 1..{MAX_TIMESTAMP}, got {value!r:.40}")
    return Milliseconds(value)


def _pcrs(value: NsmValue) -> Mapping[int, bytes]:
    # 1.29 A map of as many registers as an NSM has.
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_PCRS:
        raise _out_of_form("pcrs", f"map of 1..{MAX_PCRS} registers", value, MAX_PCRS)
    registers: dict[int, bytes] = {}
    for index, register in value.items():
        # 1.30 Registers are numbered.
        if type(index) is not int or index >= MAX_PCRS:
            raise Malformed(f"document: pcrs: expected an index 0..{MAX_PCRS - 1}, got {index!r:.40}")
        # 1.31 A register is a SHA-384 digest.
        if not isinstance(register, bytes) or len(register) != SHA384_BYTES:
            raise _out_of_form(f"pcr {index}", f"{SHA384_BYTES} bytes", register, SHA384_BYTES)
        registers[index] = register
    return MappingProxyType(registers)


def _certificate(value: NsmValue, name: str) -> bytes:
    # 1.32 DER of a size that a certificate has.
    if not isinstance(value, bytes) or not 1 <= len(value) <= MAX_CERTIFICATE:
        raise _out_of_form(name, f"1..{MAX_CERTIFICATE} bytes", value, MAX_CERTIFICATE)
    return value


def _cabundle(value: NsmValue) -> tuple[bytes, ...]:
    # 1.33 A list; an empty one leads nowhere, a long one costs us time.
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_BUNDLE:
        raise _out_of_form("cabundle", f"list of 1..{MAX_BUNDLE} certificates", value, MAX_BUNDLE)
    return tuple(_certificate(one, f"cabundle[{at}]") for at, one in enumerate(value))


def _optional(value: NsmValue, name: str) -> bytes | None:
    # 1.34 Null is absent; empty is not.
    if value is not None and (not isinstance(value, bytes) or len(value) > MAX_FIELD):
        raise _out_of_form(name, f"0..{MAX_FIELD} bytes or null", value, MAX_FIELD)
    return value


def _out_of_form(name: str, form: str, value: NsmValue, most: int) -> Malformed:
    size = len(value) if isinstance(value, bytes | str | list | dict) else 0
    if size > most:
        return TooLarge(f"document: {name}", limit=most, actual=size)
    return Malformed(f"document: {name}: expected {form}, got {type(value).__name__} of {size}")
