"""One request's tokens chosen by themselves: from a seed, with penalties, or with their probabilities told.

Each step's noise comes from the seed and the step's number alone, so who shares the batch changes nothing but rounding.
Penalties count the tokens of the answer, as they are counted by those whose names they have.
"""

import hashlib
import math
import secrets
from collections import Counter
from dataclasses import dataclass

import torch

from anchorhold.enclave.model.engine import GenerationRequest


@dataclass(frozen=True, slots=True)
class Told:
    """One chosen token, its logarithm of probability, and the likeliest at its place; before any setting."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Choice:
    """Chooses for one request. Called from the engine's thread, step by step."""

    def __init__(self, request: GenerationRequest) -> None:
        self._temperature, self._top_p = request.temperature, request.top_p
        self._frequency, self._presence = request.frequency_penalty, request.presence_penalty
        self._logprobs = request.logprobs
        self._seed = secrets.randbits(64) if request.seed is None else request.seed % (1 << 64)
        self._counts: Counter[int] = Counter()
        self._step = 0
        self.told: list[Told] = []

    @staticmethod
    def wanted(request: GenerationRequest) -> bool:
        """Whether a request needs one; the others are chosen for all together."""
        own = request.seed is not None and request.temperature > 0
        return own or request.logprobs is not None or bool(request.frequency_penalty or request.presence_penalty)

    def choose(self, scores: torch.Tensor) -> int:
        """The next token out of one row of the model's own scores."""
        token = self._draw(self._penalised(scores))
        if self._logprobs is not None:
            self.told.append(self._tell(scores, token))
        self._counts[token] += 1
        self._step += 1
        return token

    def _penalised(self, scores: torch.Tensor) -> torch.Tensor:
        if not self._counts or not (self._frequency or self._presence):
            return scores
        tokens = torch.tensor(list(self._counts), device=scores.device)
        counts = torch.tensor(list(self._counts.values()), dtype=scores.dtype, device=scores.device)
        return scores.index_add(0, tokens, -(counts * self._frequency + self._presence))

    def _draw(self, scores: torch.Tensor) -> int:
        if self._temperature == 0:
            return int(scores.argmax())
        heated = scores / self._temperature
        if self._top_p < 1.0:
            heated = nucleus(heated.unsqueeze(0), torch.tensor([self._top_p], device=scores.device))[0]
        # The largest of score plus Gumbel noise is a draw from softmax(score).
        uniform = torch.rand(heated.shape, generator=self._generator(), dtype=torch.float64)
        noise = -torch.log(-torch.log(uniform.clamp(min=math.ulp(0.0))))
        return int((heated.double() + noise.to(heated.device)).argmax())

    def _generator(self) -> torch.Generator:
        mixed = hashlib.sha256(self._seed.to_bytes(8, "big") + self._step.to_bytes(8, "big")).digest()
        return torch.Generator().manual_seed(int.from_bytes(mixed[:8], "big") >> 1)

    def _tell(self, scores: torch.Tensor, token: int) -> Told:
        logprobs = scores.log_softmax(-1)
        top = torch.topk(logprobs, min(self._logprobs or 0, logprobs.numel()))
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        return Told(token, float(logprobs[token]), tuple(pairs))


def nucleus(scores: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """The smallest set of tokens whose probability reaches top_p; the likeliest is always in it."""
    ordered, places = torch.sort(scores, descending=True, dim=-1)
    probability = ordered.softmax(dim=-1)
    before = probability.cumsum(dim=-1) - probability
    out = before >= top_p.unsqueeze(-1)
    out[..., 0] = False
    return scores.masked_fill(out.scatter(-1, places, out), -torch.inf)
