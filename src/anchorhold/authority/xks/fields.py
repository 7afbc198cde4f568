"""Request bodies of the proxy API, read strictly: what the specification names is checked, what it does not is ignored.

Unknown members are ignored because the API grows by them; an unknown `kmsOperation` or form of `kmsRequestId` is never
invalid, as the specification demands: whether it is allowed is the guard's to say.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from anchorhold.authority.kms.strict_json import loads
from anchorhold.authority.xks.faults import XksFault, invalid
from anchorhold.authority.xks.paths import Operation

MAX_BODY = 65_536  # bytes; plaintext, AAD and four ARNs of the largest sizes take about 26,000
MAX_PLAINTEXT = 4_300  # bytes, the size the specification asks for; KMS sends 4096 and what it adds
MAX_AAD = 8_192
MAX_ARN = 2_048  # characters
MAX_WORD = 256  # characters of a request id, an operation, a service, a VPC
MAX_TOLD = 64  # attestation fields of one request: 32 registers and the image
MAX_CIPHERTEXT_METADATA = 20
TAG_BYTES = 16
IV_BYTES = (12, 16)
_TOLD = re.compile(r"kmsRecipientAttestation(?:PCR(?P<register>[0-9]|[12][0-9]|3[01])|(?P<image>ImageSha384))")
_TOLD_PREFIX = "kmsRecipientAttestation"
_REGISTER = re.compile(r"([0-9a-fA-F]{2}){1,64}")  # at most a SHA-512 register


@dataclass(frozen=True, slots=True)
class RequestMetadata:
    """What KMS says about the call behind this one. Its word, not proof."""

    principal: str
    operation: str
    request_id: str
    key_arn: str | None = None
    vpc: str | None = None
    vpce: str | None = None
    via_service: str | None = None
    told: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MetadataRequest:
    meta: RequestMetadata


@dataclass(frozen=True, slots=True)
class HealthRequest:
    meta: RequestMetadata


@dataclass(frozen=True, slots=True)
class EncryptRequest:
    """`integrity`: the caller wants a ciphertext data integrity value."""

    meta: RequestMetadata
    plaintext: bytes = field(repr=False)
    aad: bytes
    integrity: bool


@dataclass(frozen=True, slots=True)
class DecryptRequest:
    meta: RequestMetadata
    ciphertext: bytes
    ciphertext_metadata: bytes | None
    iv: bytes
    tag: bytes
    aad: bytes


Body = MetadataRequest | HealthRequest | EncryptRequest | DecryptRequest


def parse_body(operation: Operation, raw: bytes) -> Body:
    """The request. Raises ValidationException."""
    members = _object(raw)
    if operation is Operation.HEALTH:
        return HealthRequest(_metadata(members, crypto=False, health=True))
    if operation is Operation.METADATA:
        return MetadataRequest(_metadata(members, crypto=False))
    meta = _metadata(members, crypto=True)
    if members.get("encryptionAlgorithm") != "AES_GCM":
        raise invalid("encryptionAlgorithm: expected AES_GCM")
    aad = _blob(members, "additionalAuthenticatedData", most=MAX_AAD, needed=False) or b""
    if operation is Operation.ENCRYPT:
        integrity = members.get("ciphertextDataIntegrityValueAlgorithm")
        if integrity not in (None, "SHA_256"):
            raise invalid("ciphertextDataIntegrityValueAlgorithm: expected SHA_256")
        return EncryptRequest(meta, _needed(members, "plaintext", most=MAX_PLAINTEXT), aad, integrity is not None)
    iv = _needed(members, "initializationVector", most=IV_BYTES[-1])
    tag = _needed(members, "authenticationTag", most=TAG_BYTES)
    if len(iv) not in IV_BYTES or len(tag) != TAG_BYTES:
        raise invalid("expected an initializationVector of 12 or 16 bytes and an authenticationTag of 16")
    metadata = _blob(members, "ciphertextMetadata", most=MAX_CIPHERTEXT_METADATA, needed=False)
    return DecryptRequest(meta, _needed(members, "ciphertext", most=MAX_PLAINTEXT), metadata, iv, tag, aad)


def _metadata(members: Mapping[str, object], *, crypto: bool, health: bool = False) -> RequestMetadata:
    value = members.get("requestMetadata")
    if not isinstance(value, dict):
        raise invalid("requestMetadata: expected an object")
    return RequestMetadata(
        principal=_text(value, "awsPrincipalArn", most=MAX_ARN, needed=not health) or "",
        operation=_text(value, "kmsOperation", most=MAX_WORD, needed=True) or "",
        request_id=_text(value, "kmsRequestId", most=MAX_WORD, needed=True) or "",
        key_arn=_text(value, "kmsKeyArn", most=MAX_ARN, needed=crypto),
        vpc=_text(value, "awsSourceVpc", most=MAX_WORD),
        vpce=_text(value, "awsSourceVpce", most=MAX_WORD),
        via_service=_text(value, "kmsViaService", most=MAX_WORD),
        told=_told(value),
    )


def _told(value: Mapping[str, object]) -> dict[str, str]:
    """Appendix B: registers of the document that KMS verified. Raises ValidationException for one not in the form.

    A register that is dropped would pass for one that was not sent, so nothing is dropped.
    """
    told: dict[str, str] = {}
    names = [name for name in value if name.startswith(_TOLD_PREFIX)]
    if len(names) > MAX_TOLD:
        raise invalid(f"expected at most {MAX_TOLD} attestation fields")
    for name in names:
        match, register = _TOLD.fullmatch(name), value[name]
        if register is None:
            continue
        if match is None or not isinstance(register, str) or _REGISTER.fullmatch(register) is None:
            raise invalid("an attestation field is not in the form")
        index = "PCR0" if match["image"] else f"PCR{match['register']}"
        if told.setdefault(index, register.lower()) != register.lower():
            raise invalid("the image's digest and PCR0 differ")
    return told


def _text(value: Mapping[str, object], name: str, *, most: int, needed: bool = False) -> str | None:
    text = value.get(name)
    if text is None and not needed:
        return None
    if not isinstance(text, str) or not 1 <= len(text) <= most:
        raise invalid(f"{name}: expected text of 1 to {most} characters")
    if "\0" in text:
        # PostgreSQL has no such text: the guard could not count it, and the whole batch would fail with it.
        raise invalid(f"{name}: expected text without the character U+0000")
    return text


def _needed(members: Mapping[str, object], name: str, *, most: int) -> bytes:
    raw = _blob(members, name, most=most, needed=True)
    if not raw:
        raise invalid(f"{name}: expected at least one byte")
    return raw


def _blob(members: Mapping[str, object], name: str, *, most: int, needed: bool) -> bytes | None:
    text = members.get(name)
    if text is None and not needed:
        return None
    if not isinstance(text, str):
        raise invalid(f"{name}: expected base64")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"{name}: expected base64") from error
    if len(raw) > most:
        raise invalid(f"{name}: expected at most {most} bytes")
    return raw


def _object(raw: bytes) -> Mapping[str, object]:
    try:
        value = loads(raw)
    except ValueError as error:
        raise invalid("expected one JSON object without a name twice") from error
    if not isinstance(value, dict):
        raise invalid("expected one JSON object")
    return value


def too_large() -> XksFault:
    return invalid(f"expected a body of at most {MAX_BODY} bytes")
