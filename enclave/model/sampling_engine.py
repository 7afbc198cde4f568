"""How the next token is chosen, per request, inside one batch of continuous batching.

transformers' own warpers sort the vocabulary for every row, and choose greedy or not for the whole batch. Here greedy
rows keep only their argmax (the first of equals, as `generate` does), so the batch's sampling step returns exactly it.
A request with a `Choice` of its own keeps only what that chose.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

from anchorhold.enclave.model.choice_engine import Choice, nucleus

KEY = "anchorhold_sampling"
_SCALE = 10_000  # temperature and top_p travel as whole ten-thousandths in one int32: 15 and 16 bits
_TOP_P_BITS = 15


def pack(temperature: float, top_p: float) -> int:
    """Both settings as the one integer a request carries; 0 temperature is greedy."""
    # A temperature that rounds to 0 would be greedy, and a top_p of 0 would keep nothing.
    warm = max(1, round(temperature * _SCALE)) if temperature > 0 else 0
    return warm << _TOP_P_BITS | max(1, round(top_p * _SCALE))


class RequestSampling(ContinuousBatchingLogitsProcessor):  # type: ignore[misc]  # transformers is not followed by mypy
    """The only processor of our batches; `may_step` raises where no further step is to be taken."""

    supported_kwargs: dict[str, type] = {KEY: int}  # noqa: RUF012 - the base class's own declaration
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(self, may_step: Callable[[], None]) -> None:
        super().__init__()
        self._may_step = may_step
        self._choices: dict[str, Choice] = {}
        self._rows: list[Choice | None] = []  # of the step being made; sampling runs in the thread that prepared it

    def watch(self, request_id: str, choice: Choice) -> None:
        """From its first step on this request is chosen by `choice`."""
        self._choices[request_id] = choice

    def forget(self, request_id: str) -> None:
        """It is over."""
        self._choices.pop(request_id, None)

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.fill_(pack(0.0, 1.0))

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        self._rows = [self._choices.get(request.state.request_id) for request in requests_with_new_token]
        settings = [
            request.state.logit_processor_kwargs.get(KEY, pack(0.0, 1.0)) for request in requests_with_new_token
        ]
        return torch.tensor(settings, dtype=torch.int32, device="cpu")

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        self._may_step()
        chosen = [(row, choice.choose(scores[row])) for row, choice in enumerate(self._rows) if choice is not None]
        out = self._for_all(scores, tensor_arg)
        for row, token in chosen:
            out[row] = -torch.inf
            out[row, token] = 0.0
        return out

    def _for_all(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        packed = tensor_arg[: scores.size(0)]
        warm, top_p = packed >> _TOP_P_BITS, (packed & (1 << _TOP_P_BITS) - 1).float() / _SCALE
        greedy = torch.full_like(scores, -torch.inf).scatter(-1, scores.argmax(dim=-1, keepdim=True), 0.0)
        if not bool(warm.any()):
            return greedy
        heated = scores / (warm.clamp(min=1).float() / _SCALE).unsqueeze(-1)
        rows = torch.nonzero((top_p < 1.0) & (warm > 0)).flatten()
        if rows.numel():
            heated[rows] = nucleus(heated[rows], top_p[rows])
        return torch.where((warm > 0).unsqueeze(-1), heated, greedy)
