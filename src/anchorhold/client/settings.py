"""How to ask."""

from dataclasses import dataclass

from anchorhold.attestation.channel.body import MAX_TOP_P, Sampling
from anchorhold.attestation.channel.header import MAX_DEADLINE
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds, ModelDigest
from anchorhold.client.errors import RequestInvalid

DEFAULT_MAX_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Settings:
    """How to ask. Numbers are thousandths where they say milli; reason None takes the deployment's first purpose."""

    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature_milli: int = 0
    top_p_milli: int = MAX_TOP_P
    reason: str | None = None
    deadline: Milliseconds = MAX_DEADLINE
    padding: Padding = Padding.BASIC
    partition: bytes | None = None
    seed: int | None = None
    """The same seed and request give the same answer, but for rounding that depends on who shares the batch."""
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """How many alternatives are told with each token; None for no probabilities at all."""
    frequency_penalty_milli: int = 0
    presence_penalty_milli: int = 0
    tools: str | None = None
    """Compact JSON (`compact_json`), a list of objects, for a model whose template takes tools."""
    adapter: str | bytes | None = None
    """The digest of a tenant's adapter, 48 bytes or in hex; None for the model as it is. Texts to embed take none."""
    tier: str | None = None
    """A tier of the trust file: the request is sealed only to enclaves that prove to meet all it demands."""
    reseal: bool = True
    """Whether to verify and seal once more, under a new key, after an answer that was only a hint. False for a request
    that must not run twice: a hint is nobody's word, the first send may have run. It is sealed to one enclave alone."""

    @property
    def adapter_digest(self) -> ModelDigest | None:
        """As the request carries it. Raises RequestInvalid."""
        if self.adapter is None:
            return None
        try:
            raw = bytes.fromhex(self.adapter) if isinstance(self.adapter, str) else self.adapter
        except ValueError:
            raw = b""
        if len(raw) != SHA384_BYTES:
            raise RequestInvalid(f"adapter: expected {2 * SHA384_BYTES} hex digits or {SHA384_BYTES} bytes")
        return ModelDigest(raw)

    @property
    def sampling(self) -> Sampling:
        """As the request carries it."""
        return Sampling(
            self.max_tokens,
            self.temperature_milli,
            self.top_p_milli,
            self.seed,
            self.stop,
            self.logprobs,
            self.frequency_penalty_milli,
            self.presence_penalty_milli,
        )


DEFAULTS = Settings()
