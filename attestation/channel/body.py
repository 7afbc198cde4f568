"""What is inside a request, and the two small bodies that end an answer (docs/spec/channel.md 6).

A request is one of three tasks: a conversation to continue, a text to continue, texts to embed.
The sealed request is `{body, slots, credential, signature}`: the body apart, so that a tenant can sign its digest,
and the digests of all slots, so that nobody who holds K can add an enclave in the tenant's name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TypeAlias

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Value, check_map, decode, decode_map, encode
from anchorhold.attestation.channel.header import MAX_SLOTS
from anchorhold.attestation.channel.tenant import MAX_CREDENTIAL_BYTES
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import Malformed, Mismatch, NotCanonical, TooLarge
from anchorhold.attestation.sealed.strict_json import Json, load_json
from anchorhold.attestation.types import SHA384_BYTES, ModelDigest, Sha384

VERSION = 2
MAX_BODY = 262_144  # bytes; far above 8,192 tokens of text
MAX_REQUEST = MAX_BODY + MAX_CREDENTIAL_BYTES + 2_048
MAX_MESSAGES = 256
MAX_NEW_TOKENS = 8_192
MAX_TEMPERATURE = 2_000  # thousandths
MAX_TOP_P = 1_000  # thousandths
MAX_PENALTY = 2_000  # thousandths, either way
MAX_SEED = 2**63  # a signed 64-bit integer
MAX_STOPS = 4
MAX_STOP = 256  # bytes of one stop text
MAX_LOGPROBS = 20  # alternatives told for each token
MAX_TOOLS = 65_536  # bytes of JSON: what a template is given beside the messages
MAX_JSON_DEPTH = 32  # of tools and calls; schemas people write take 10
MAX_INPUTS = 256  # texts of one embedding request
MAX_REASON = 128  # bytes of a purpose's reason code
MAX_PARTITION = 64  # bytes a client may add to its cache namespace
MAX_CONCLUSION = 256
MAX_CODE = 64
SIGNATURE = 64


class Task(StrEnum):
    """What is to be done; says which fields a body has."""

    CHAT = "chat"
    COMPLETE = "complete"
    EMBED = "embed"


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class FinishReason(Enum):
    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """One turn. Has no text form: it holds a prompt. `calls` is the JSON list of an assistant's tool calls."""

    role: Role
    content: str
    calls: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Sampling:
    """How tokens are chosen. Numbers are thousandths where the name says milli: no floats in the format.

    `logprobs` is how many alternatives are told with each token, None for nothing at all.
    """

    max_tokens: int
    temperature_milli: int = 0
    top_p_milli: int = MAX_TOP_P
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    frequency_penalty_milli: int = 0
    presence_penalty_milli: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Chat:
    """Continue a conversation through the model's own template. `tools` is compact JSON, a list of objects.

    `adapter` names one of those in the tenant's credential.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    reason: str
    tools: str | None = None
    partition: bytes | None = None
    adapter: ModelDigest | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Complete:
    """Continue a text as it stands, without a template."""

    prompt: str
    sampling: Sampling
    reason: str
    partition: bytes | None = None
    adapter: ModelDigest | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Embed:
    """One vector for each text."""

    inputs: tuple[str, ...]
    reason: str
    partition: bytes | None = None


InferRequest: TypeAlias = Chat | Complete | Embed
"""What a client asks for."""


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


def adapter_of(request: InferRequest) -> ModelDigest | None:
    """The adapter it names, if it does."""
    return None if isinstance(request, Embed) else request.adapter


def encode_infer(request: InferRequest) -> bytes:
    """Raises Malformed for a request the enclave would refuse: better said here."""
    raw = encode({"v": VERSION, "reason": request.reason, "partition": request.partition, **_task_fields(request)})
    decode_infer(raw)
    return raw


def decode_infer(raw: bytes) -> InferRequest:
    """Raises Malformed (or one of its kinds)."""
    what = "request body"
    value = decode(raw, what, limit=MAX_BODY)
    # 1. Version and task first: they say which fields there are.
    if not isinstance(value, dict) or type(value.get("v")) is not int:
        raise Malformed(f"{what}: expected a map with a version")
    if value["v"] != VERSION:
        raise Mismatch(f"{what}: version", expected=VERSION, actual=value["v"])
    task = value.get("task")
    if not isinstance(task, str) or task not in _FIELDS:
        raise Malformed(f"{what}: task: expected one of {sorted(_FIELDS)}, got {task!r:.40}")
    # 2. Exactly the fields of that task.
    members = check_map(value, what, {**_COMMON, **_FIELDS[task]}, {} if task == Task.EMBED else {"adapter": bytes})
    adapter = _adapter(members["adapter"]) if "adapter" in members else None
    reason, partition = members["reason"], members["partition"]
    assert isinstance(reason, str)
    assert partition is None or isinstance(partition, bytes)
    _within("reason code, in bytes", len(reason.encode()), 1, MAX_REASON)
    if partition is not None:
        _within("partition, in bytes", len(partition), 1, MAX_PARTITION)
    # 3. Each within its limits.
    if task == Task.EMBED:
        return Embed(_texts("inputs", members["inputs"], 1, MAX_INPUTS, MAX_BODY), reason, partition)
    sampling = _sampling(members["sampling"])
    if task == Task.COMPLETE:
        prompt = members["prompt"]
        assert isinstance(prompt, str)
        _within("prompt, in bytes", len(prompt.encode()), 1, MAX_BODY)
        return Complete(prompt, sampling, reason, partition, adapter)
    messages = members["messages"]
    assert isinstance(messages, list)
    _within("messages", len(messages), 1, MAX_MESSAGES)
    tools = _json_list("tools", members["tools"])
    return Chat(tuple(_message(one) for one in messages), sampling, reason, tools, partition, adapter)


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
        raise Malformed(f"error code: expected 1 to {MAX_CODE} of a-z, 0-9 and '-', got {raw!r:.40}")
    return code


_COMMON: Mapping[str, type | tuple[type, ...]] = {
    "v": int,
    "task": str,
    "reason": str,
    "partition": (bytes, type(None)),
}
_FIELDS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    Task.CHAT: {"messages": list, "sampling": dict, "tools": (str, type(None))},
    Task.COMPLETE: {"prompt": str, "sampling": dict},
    Task.EMBED: {"inputs": list},
}
_SAMPLING: Mapping[str, type | tuple[type, ...]] = {
    "max_tokens": int,
    "temperature_milli": int,
    "top_p_milli": int,
    "seed": (int, type(None)),
    "stop": list,
    "logprobs": (int, type(None)),
    "frequency_penalty_milli": int,
    "presence_penalty_milli": int,
}


def _task_fields(request: InferRequest) -> dict[str, Value]:
    if isinstance(request, Embed):
        return {"task": Task.EMBED.value, "inputs": list(request.inputs)}
    sampling: dict[str, Value] = {name: getattr(request.sampling, name) for name in _SAMPLING}
    adapted: dict[str, Value] = {} if request.adapter is None else {"adapter": request.adapter}
    if isinstance(request, Complete):
        return {**adapted, "task": Task.COMPLETE.value, "prompt": request.prompt, "sampling": sampling}
    messages = [{"role": one.role.value, "content": one.content, "calls": one.calls} for one in request.messages]
    chat = {"task": Task.CHAT.value, "messages": messages, "sampling": sampling, "tools": request.tools}
    return {**adapted, **chat}


def _sampling(raw: Value) -> Sampling:
    members = check_map(raw, "sampling", _SAMPLING)
    seed, logprobs = members["seed"], members["logprobs"]
    return Sampling(
        _within("max_tokens", members["max_tokens"], 1, MAX_NEW_TOKENS),
        _within("temperature_milli", members["temperature_milli"], 0, MAX_TEMPERATURE),
        _within("top_p_milli", members["top_p_milli"], 1, MAX_TOP_P),
        None if seed is None else _within("seed", seed, -MAX_SEED, MAX_SEED - 1),
        _texts("stop", members["stop"], 0, MAX_STOPS, MAX_STOP),
        None if logprobs is None else _within("logprobs", logprobs, 0, MAX_LOGPROBS),
        _within("frequency_penalty_milli", members["frequency_penalty_milli"], -MAX_PENALTY, MAX_PENALTY),
        _within("presence_penalty_milli", members["presence_penalty_milli"], -MAX_PENALTY, MAX_PENALTY),
    )


def _message(raw: Value) -> Message:
    members = check_map(raw, "message", {"role": str, "content": str, "calls": (str, type(None))})
    role, content, calls = members["role"], members["content"], _json_list("message: calls", members["calls"])
    assert isinstance(role, str)
    assert isinstance(content, str)
    try:
        known = Role(role)
    except ValueError as error:
        raise Malformed(f"message: role: expected one of {[one.value for one in Role]}, got {role!r:.40}") from error
    if calls is not None and known is not Role.ASSISTANT:
        raise Malformed(f"message: calls: expected from the assistant alone, got from {role!r}")
    return Message(known, content, calls)


def _texts(what: str, raw: Value, low: int, high: int, longest: int) -> tuple[str, ...]:
    """A list of `low` to `high` texts that are not empty, each of at most `longest` bytes."""
    assert isinstance(raw, list)
    _within(what, len(raw), low, high)
    texts: list[str] = []
    for one in raw:
        if not isinstance(one, str):
            raise Malformed(f"request: {what}: expected texts, got {type(one).__name__}")
        _within(f"{what}, bytes of one", len(one.encode()), 1, longest)
        texts.append(one)
    return tuple(texts)


def _json_list(what: str, raw: Value) -> str | None:
    """JSON that is a list of objects, written without a space that says nothing, and not too deep to walk."""
    if raw is None:
        return None
    assert isinstance(raw, str)
    value = load_json(raw.encode(), what, limit=MAX_TOOLS)
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        raise Malformed(f"{what}: expected a list of objects, at least one")
    waiting: list[tuple[Json, int]] = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_JSON_DEPTH:
            raise Malformed(f"{what}: nested deeper than {MAX_JSON_DEPTH}")
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        waiting += [(one, depth + 1) for one in inner]
    try:
        again = compact_json(value)
    except ValueError as error:  # 1e999 is read as infinity, which JSON cannot say
        raise Malformed(f"{what}: a number is out of range") from error
    if again != raw:
        raise NotCanonical(f"{what}: expected JSON without spaces between its parts")
    return raw


def compact_json(value: Json) -> str:
    """The one way tools and calls are written: order as given, no spaces, characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _digest(raw: Value) -> Sha384:
    if not isinstance(raw, bytes) or len(raw) != SHA384_BYTES:
        raise Malformed(f"sealed request: slot digest: expected {SHA384_BYTES} bytes")
    return Sha384(raw)


def _adapter(raw: Value) -> ModelDigest:
    if not isinstance(raw, bytes) or len(raw) != SHA384_BYTES:
        raise Malformed(f"request: adapter: expected {SHA384_BYTES} bytes")
    return ModelDigest(raw)


def _within(what: str, value: Value, low: int, high: int) -> int:
    if not isinstance(value, int) or not low <= value <= high:
        raise Malformed(f"request: {what}: expected {low} to {high}, got {value!r}")
    return value
