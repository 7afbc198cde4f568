"""What can be asked: a conversation, a text to continue, texts to embed."""

from collections.abc import Sequence
from dataclasses import dataclass

from anchorhold.attestation.channel.body import Chat, Complete, Embed, InferRequest, Message, Role, Sampling
from anchorhold.attestation.errors import Malformed
from anchorhold.attestation.types import ModelDigest


@dataclass(frozen=True, slots=True, repr=False)
class Prompt:
    """A text to continue as it stands, without the model's chat template."""

    text: str


@dataclass(frozen=True, slots=True, repr=False)
class Inputs:
    """Texts to embed."""

    texts: tuple[str, ...]


Conversation = str | Sequence[Message] | Prompt
"""A question, the turns of a conversation, or a text to continue."""


def request_of(
    asked: Conversation | Inputs,
    sampling: Sampling,
    reason: str,
    *,
    tools: str | None = None,
    partition: bytes | None = None,
    adapter: ModelDigest | None = None,
) -> InferRequest:
    """The request as it is sealed; texts to embed take no sampling.

    Raises Malformed for tools without a conversation, and for an adapter with texts to embed.
    """
    if tools is not None and isinstance(asked, Inputs | Prompt):
        raise Malformed("tools: expected with a conversation, got them with texts that no template sees")
    if isinstance(asked, Inputs):
        if adapter is not None:
            raise Malformed("adapter: expected with a conversation or a text to continue, got it with texts to embed")
        return Embed(asked.texts, reason, partition)
    if isinstance(asked, Prompt):
        return Complete(asked.text, sampling, reason, partition, adapter)
    messages = (Message(Role.USER, asked),) if isinstance(asked, str) else tuple(asked)
    return Chat(messages, sampling, reason, tools, partition, adapter)
