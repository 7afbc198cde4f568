"""What OpenAI's requests ask for, as the SDK's conversation and settings. Pure: JSON in, `Generation` or `Texts` out.

Every parameter is honoured, known to change nothing, or refused by name. None is dropped in silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from anchorhold.attestation.channel.body import (
    MAX_INPUTS,
    MAX_LOGPROBS,
    MAX_MESSAGES,
    MAX_NEW_TOKENS,
    MAX_PENALTY,
    MAX_SEED,
    MAX_STOP,
    MAX_STOPS,
    MAX_TEMPERATURE,
    MAX_TOP_P,
    Message,
    Role,
    compact_json,
)
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.strict_json import Json, load_json
from anchorhold.client.conversation import Prompt
from anchorhold.client.openai_api.errors import ApiError, invalid, unsupported
from anchorhold.client.openai_api.fields import MAX_BODY, Fields
from anchorhold.client.sdk import Settings

MAX_CHOICES = 8  # each is a request of its own to the enclave
DEFAULT_CHAT_TOKENS = 512
DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's own default of this route
DEFAULT_TEMPERATURE = 1_000  # thousandths; OpenAI's own default
MAX_COMPLETION_LOGPROBS = 5  # the older form's own limit

NOTHING = ("user", "metadata", "safety_identifier", "prompt_cache_key", "verbosity")
"""Parameters that change nothing here: labels for a provider's own records, and hints."""
ROLES = {"developer": Role.SYSTEM, **{one.value: one for one in Role}}


@dataclass(frozen=True, slots=True, repr=False)
class Generation:
    """A conversation or a text to continue, and the form the answer takes."""

    asked: tuple[Message, ...] | Prompt
    settings: Settings
    choices: int
    stream: bool
    usage: bool
    """Whether a stream ends with its count of tokens."""

    @property
    def chat(self) -> bool:
        return not isinstance(self.asked, Prompt)

    def settings_of(self, choice: int) -> Settings:
        """Each choice has a seed of its own: with one seed for all, all would be the same."""
        seed = self.settings.seed
        if seed is None or not choice:
            return self.settings
        return replace(self.settings, seed=(seed + choice + MAX_SEED) % (2 * MAX_SEED) - MAX_SEED)


@dataclass(frozen=True, slots=True, repr=False)
class Texts:
    """Texts to embed."""

    texts: tuple[str, ...]
    base64: bool
    dimensions: int | None


def check_model(fields: Fields, names: Sequence[str]) -> None:
    """Raises ApiError for a model that is not the deployment's: no other is answered in its place."""
    named = fields.required("model")
    if named not in names:
        message = f"model: this deployment serves {names[0]!r}, got {named!r:.80}"
        raise ApiError(404, "invalid_request_error", "model-not-found", message, param="model")


def chat_request(fields: Fields, names: Sequence[str], base: Settings) -> Generation:
    """`POST /v1/chat/completions`. Raises ApiError."""
    check_model(fields, names)
    messages = fields.objects("messages")
    if not messages or len(messages) > MAX_MESSAGES:
        got = 0 if messages is None else len(messages)
        raise invalid(f"messages: expected 1 to {MAX_MESSAGES}, got {got}", param="messages")
    asked = tuple(_message(one) for one in messages)
    wanted = fields.flag("logprobs")
    top = fields.whole("top_logprobs", 0, MAX_LOGPROBS)
    if top is not None and not wanted:
        raise invalid("top_logprobs: expected logprobs to be true beside it", param="top_logprobs")
    length, newer = (fields.whole(name, 1, MAX_NEW_TOKENS) for name in ("max_tokens", "max_completion_tokens"))
    settings = replace(
        _sampling(fields, base, max_tokens=newer or length or DEFAULT_CHAT_TOKENS),
        logprobs=(top or 0) if wanted else None,
        tools=_tools(fields),
    )
    _only_text(fields)
    return _generation(fields, asked, settings)


def completion_request(fields: Fields, names: Sequence[str], base: Settings) -> Generation:
    """`POST /v1/completions`. Raises ApiError."""
    check_model(fields, names)
    prompt = fields.take("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise unsupported("prompt", "expected one text; several, or token numbers, are not supported")
    if not prompt:
        raise invalid("prompt: expected a text that is not empty", param="prompt")
    fields.only("echo", False)
    fields.only("suffix", "")
    fields.only("best_of", 1)
    length = fields.whole("max_tokens", 1, MAX_NEW_TOKENS) or DEFAULT_COMPLETION_TOKENS
    settings = replace(
        _sampling(fields, base, max_tokens=length),
        logprobs=fields.whole("logprobs", 0, MAX_COMPLETION_LOGPROBS),
    )
    return _generation(fields, Prompt(prompt), settings)


def embeddings_request(fields: Fields, names: Sequence[str]) -> Texts:
    """`POST /v1/embeddings`. Raises ApiError."""
    check_model(fields, names)
    given = fields.take("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_INPUTS:
        raise invalid(f"input: expected a text, or 1 to {MAX_INPUTS} of them", param="input")
    kept: list[str] = []
    for one in texts:
        if not isinstance(one, str):
            raise unsupported("input", "expected texts; token numbers are not supported")
        if not one:
            raise invalid("input: expected texts that are not empty", param="input")
        kept.append(one)
    form = fields.text("encoding_format")
    if form not in (None, "float", "base64"):
        raise invalid("encoding_format: expected float or base64", param="encoding_format")
    dimensions = fields.whole("dimensions", 1, 65_536)
    fields.ignore(NOTHING)
    fields.end()
    return Texts(tuple(kept), form == "base64", dimensions)


def _generation(fields: Fields, asked: tuple[Message, ...] | Prompt, settings: Settings) -> Generation:
    choices = fields.whole("n", 1, MAX_CHOICES) or 1
    stream = fields.flag("stream")
    options = fields.object("stream_options")
    usage = False
    if options is not None:
        if not stream:
            raise invalid("stream_options: expected stream to be true beside it", param="stream_options")
        usage = options.flag("include_usage")
        options.ignore(("include_obfuscation",))
        options.end()
    fields.only("store", False, why="nothing is stored, so nothing can be")
    fields.only("service_tier", "auto", "default")
    fields.only("logit_bias", {})
    fields.ignore(NOTHING)
    fields.end()
    return Generation(asked, settings, choices, stream, usage)


def common_settings(fields: Fields, base: Settings, *, max_tokens: int) -> Settings:
    """The part that every route names alike."""
    temperature, top_p = fields.milli("temperature", 0, MAX_TEMPERATURE), fields.milli("top_p", 0, MAX_TOP_P)
    return replace(
        base,
        max_tokens=max_tokens,
        temperature_milli=DEFAULT_TEMPERATURE if temperature is None else temperature,
        # The least that the format can say: a nucleus of nothing is the likeliest token, as 0.001 is.
        top_p_milli=MAX_TOP_P if top_p is None else max(1, top_p),
    )


def _sampling(fields: Fields, base: Settings, *, max_tokens: int) -> Settings:
    return replace(
        common_settings(fields, base, max_tokens=max_tokens),
        seed=fields.whole("seed", -MAX_SEED, MAX_SEED - 1),
        stop=_stop(fields),
        frequency_penalty_milli=fields.milli("frequency_penalty", -MAX_PENALTY, MAX_PENALTY) or 0,
        presence_penalty_milli=fields.milli("presence_penalty", -MAX_PENALTY, MAX_PENALTY) or 0,
    )


def _stop(fields: Fields) -> tuple[str, ...]:
    given = fields.take("stop")
    texts = [] if given is None else given if isinstance(given, list) else [given]
    if len(texts) > MAX_STOPS:
        raise invalid(f"stop: expected at most {MAX_STOPS} texts, got {len(texts)}", param="stop")
    kept: list[str] = []
    for one in texts:
        if not isinstance(one, str) or not 1 <= len(one.encode("utf-8", "replace")) <= MAX_STOP:
            raise invalid(f"stop: expected texts of 1 to {MAX_STOP} bytes", param="stop")
        kept.append(one)
    return tuple(kept)


def _only_text(fields: Fields) -> None:
    form = fields.object("response_format")
    if form is not None and form.take("type") != "text":
        raise unsupported("response_format", "only text is supported: nothing here can promise another form")
    kinds = fields.items("modalities")
    if kinds is not None and kinds != ["text"]:
        raise unsupported("modalities", "only text is supported")
    for name in ("audio", "prediction", "web_search_options", "reasoning_effort", "functions", "function_call"):
        fields.only(name)


def _tools(fields: Fields) -> str | None:
    tools = fields.items("tools")
    choice = fields.take("tool_choice")
    if choice not in (None, "auto", "none"):
        raise unsupported("tool_choice", "only auto and none are supported: the model cannot be made to call")
    if not tools or choice == "none":
        fields.ignore(("parallel_tool_calls",))  # no call, so none beside it
        return None
    fields.only("parallel_tool_calls", True, why="the model cannot be kept to one call")
    for at, one in enumerate(tools):
        if not isinstance(one, dict) or one.get("type") != "function" or not isinstance(one.get("function"), dict):
            raise unsupported(f"tools[{at}]", "only functions are supported")
    return compact_json(tools)


def _message(fields: Fields) -> Message:
    name = fields.required("role")
    if name not in ROLES:
        raise invalid(f"role: expected one of {sorted(ROLES)}, got {name!r:.40}", param="messages")
    role = ROLES[name]
    calls = fields.objects("tool_calls") if role is Role.ASSISTANT else None
    content = _content(fields, optional=bool(calls))
    if role is Role.TOOL:
        fields.ignore(("tool_call_id",))  # a template tells results by their order
    fields.only("name", why="a template has no place for it")
    for other in ("audio", "function_call"):
        fields.only(other)
    fields.only("refusal", "")
    fields.ignore(("annotations", "reasoning_content"))
    fields.end()
    return Message(role, content, compact_json([_call(one) for one in calls]) if calls else None)


def _content(fields: Fields, *, optional: bool) -> str:
    value = fields.take("content")
    if value is None and optional:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise fields.missing("content") if value is None else fields.wrong("content", "a string or a list", value)
    pieces: list[str] = []
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise unsupported("content", "only parts of text are supported")
        pieces.append(str(part["text"]))
    return "".join(pieces)


def _call(fields: Fields) -> Json:
    """A call as templates take it: its arguments are an object, not the text of one."""
    function = fields.object("function")
    if function is None:
        raise fields.missing("function")
    name, raw = function.required("name"), function.required("arguments")
    try:
        arguments = load_json(raw.encode("utf-8", "replace"), "arguments", limit=MAX_BODY)
    except EvidenceError as error:
        raise invalid("tool_calls: arguments: expected JSON", param="messages") from error
    return {"type": "function", "id": fields.text("id") or "", "function": {"name": name, "arguments": arguments}}
