"""What is inside a request, and the two small bodies that end an answer (docs/spec/channel.md 6).

The sealed request is `{body, slots, credential, signature}`: the body apart, so that a tenant can sign its digest,
and the digests of all slots, so that nobody who holds K can add an enclave in the tenant's name.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Value, check_map, decode, decode_map, encode
from anchorhold.attestation.channel.header import MAX_SLOTS
from anchorhold.attestation.channel.tenant import MAX_CREDENTIAL_BYTES
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import Malformed, Mismatch, TooLarge
from anchorhold.attestation.types import SHA384_BYTES, Sha384

VERSION = 1
MAX_BODY = 262_144  # bytes; far above 8,192 tokens of text
MAX_REQUEST = MAX_BODY + MAX_CREDENTIAL_BYTES + 2_048
MAX_MESSAGES = 256
MAX_NEW_TOKENS = 8_192
MAX_TEMPERATURE = 2_000  # thousandths
MAX_TOP_P = 1_000  # thousandths
MAX_REASON = 128  # bytes of a purpose's reason code
MAX_PARTITION = 64  # bytes a client may add to its cache namespace
MAX_CONCLUSION = 256
MAX_CODE = 64
SIGNATURE = 64


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class FinishReason(Enum):
    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """One turn. Has no text form: it holds a prompt."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, repr=False)
class InferRequest:
    """What a client asks for. Numbers are thousandths where the name says milli: no floats in the format."""

    messages: tuple[Message, ...]
    max_tokens: int
    reason: str
    temperature_milli: int = 0
    top_p_milli: int = MAX_TOP_P
    partition: bytes | None = None


@dataclass(frozen=True, slots=True, repr=False)
class SealedRequest:
    """What the request records carry together."""

    body: bytes
    slots: tuple[Sha384, ...]
    credential: bytes | None
    signature: bytes | None


@dataclass(frozen=True, slots=True)
class Finish:
    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


def encode_infer(request: InferRequest) -> bytes:
    """Raises Malformed for a request the enclave would refuse: better said here."""
    raw = encode(
        {
            "v": VERSION,
            "messages": [{"role": one.role.value, "content": one.content} for one in request.messages],
            "max_tokens": request.max_tokens,
            "temperature_milli": request.temperature_milli,
            "top_p_milli": request.top_p_milli,
            "reason": request.reason,
            "partition": request.partition,
        }
    )
    decode_infer(raw)
    return raw


def decode_infer(raw: bytes) -> InferRequest:
    """Raises Malformed (or one of its kinds)."""
    fields: dict[str, type | tuple[type, ...]] = {
        "v": int,
        "messages": list,
        "max_tokens": int,
        "temperature_milli": int,
        "top_p_milli": int,
        "reason": str,
        "partition": (bytes, type(None)),
    }
    members = decode_map(raw, "request body", limit=MAX_BODY, fields=fields)
    if members["v"] != VERSION:
        raise Mismatch("request body: version", expected=VERSION, actual=members["v"])
    messages, reason, partition = members["messages"], members["reason"], members["partition"]
    assert isinstance(messages, list)
    assert isinstance(reason, str)
    assert partition is None or isinstance(partition, bytes)
    _within("messages", len(messages), 1, MAX_MESSAGES)
    _within("reason code, in bytes", len(reason.encode()), 1, MAX_REASON)
    if partition is not None:
        _within("partition, in bytes", len(partition), 1, MAX_PARTITION)
    return InferRequest(
        tuple(_message(one) for one in messages),
        _within("max_tokens", members["max_tokens"], 1, MAX_NEW_TOKENS),
        reason,
        _within("temperature_milli", members["temperature_milli"], 0, MAX_TEMPERATURE),
        _within("top_p_milli", members["top_p_milli"], 1, MAX_TOP_P),
        partition,
    )


def encode_sealed(request: SealedRequest) -> bytes:
    return encode(
        {
            "body": request.body,
            "slots": list(request.slots),
            "credential": request.credential,
            "signature": request.signature,
        }
    )


def decode_sealed(raw: bytes) -> SealedRequest:
    """Raises Malformed (or one of its kinds)."""
    what = "sealed request"
    optional = (bytes, type(None))
    members = check_map(
        decode(raw, what, limit=MAX_REQUEST),
        what,
        {"body": bytes, "slots": list, "credential": optional, "signature": optional},
    )
    body, slots, credential, signature = (members[name] for name in ("body", "slots", "credential", "signature"))
    assert isinstance(body, bytes)
    assert isinstance(slots, list)
    assert credential is None or isinstance(credential, bytes)
    assert signature is None or isinstance(signature, bytes)
    _within("slots", len(slots), 1, MAX_SLOTS)
    if (credential is None) != (signature is None):
        raise Malformed(f"{what}: expected a credential and a signature, or neither")
    if credential is not None and len(credential) > MAX_CREDENTIAL_BYTES:
        raise TooLarge(f"{what}: credential", limit=MAX_CREDENTIAL_BYTES, actual=len(credential))
    if signature is not None and len(signature) != SIGNATURE:
        raise Malformed(f"{what}: signature: expected {SIGNATURE} bytes, got {len(signature)}")
    return SealedRequest(body, tuple(_digest(one) for one in slots), credential, signature)


def tenant_message(header: Sha384, slots: tuple[Sha384, ...], body: bytes) -> bytes:
    """What the holder of the credential's key signs: this header, exactly these slots, this body."""
    return labelled(
        labels.TENANT_REQUEST, header, labelled(labels.SLOT_LIST, *slots), labelled(labels.REQUEST_BODY, body)
    )


def encode_finish(finish: Finish) -> bytes:
    return encode(
        {
            "reason": finish.reason.value,
            "prompt_tokens": finish.prompt_tokens,
            "completion_tokens": finish.completion_tokens,
        }
    )


def decode_finish(raw: bytes) -> Finish:
    """Raises Malformed (or one of its kinds)."""
    members = decode_map(
        raw, "finish", limit=MAX_CONCLUSION, fields={"reason": str, "prompt_tokens": int, "completion_tokens": int}
    )
    try:
        reason = FinishReason(members["reason"])
    except ValueError as error:
        raise Malformed(f"finish: reason: expected stop or length, got {members['reason']!r}") from error
    limit = 2**32 - 1
    return Finish(
        reason,
        _within("prompt_tokens", members["prompt_tokens"], 0, limit),
        _within("completion_tokens", members["completion_tokens"], 0, limit),
    )


def decode_code(raw: bytes) -> str:
    """An error record's content: lower-case letters, digits and hyphens. Raises Malformed."""
    code = raw.decode("ascii", errors="replace")
    if not 1 <= len(raw) <= MAX_CODE or not all(one.islower() or one.isdigit() or one == "-" for one in code):
        raise Malformed(f"error code: expected 1 to {MAX_CODE} of a-z, 0-9 and '-', got {raw!r}")
    return code


def _message(raw: Value) -> Message:
    members = check_map(raw, "message", {"role": str, "content": str})
    role, content = members["role"], members["content"]
    assert isinstance(role, str)
    assert isinstance(content, str)
    try:
        return Message(Role(role), content)
    except ValueError as error:
        raise Malformed(f"message: role: expected system, user or assistant, got {role!r:.40}") from error


def _digest(raw: Value) -> Sha384:
    if not isinstance(raw, bytes) or len(raw) != SHA384_BYTES:
        raise Malformed(f"sealed request: slot digest: expected {SHA384_BYTES} bytes")
    return Sha384(raw)


def _within(what: str, value: Value, low: int, high: int) -> int:
    if not isinstance(value, int) or not low <= value <= high:
        raise Malformed(f"request: {what}: expected {low} to {high}, got {value!r}")
    return value
