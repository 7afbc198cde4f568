"""What the engine is asked, out of what the client asked: in the verified party's namespace."""

from anchorhold.attestation.channel.body import Chat, Complete, Embed, Role
from anchorhold.attestation.channel.enclave import Received
from anchorhold.enclave.model.engine import EmbeddingRequest, EngineRefused, EngineRequest, GenerationRequest


def engine_request(received: Received, namespace: bytes) -> EngineRequest:
    """Raises EngineRefused for what no engine does yet."""
    asked, name = received.request, received.digest[:16].hex()
    if isinstance(asked, Embed):
        return EmbeddingRequest(name, asked.inputs, namespace)
    if isinstance(asked, Complete) or not _plain(asked):
        raise EngineRefused("unsupported", "no engine does this yet")
    return GenerationRequest(
        id=name,
        messages=asked.messages,
        max_tokens=asked.sampling.max_tokens,
        temperature=asked.sampling.temperature_milli / 1000,
        top_p=asked.sampling.top_p_milli / 1000,
        namespace=namespace,
    )


def _plain(asked: Chat) -> bool:
    """Whether it asks for nothing but text from messages of the three old roles."""
    beside = (asked.sampling.seed, asked.sampling.logprobs, asked.tools)
    penalties = (asked.sampling.frequency_penalty_milli, asked.sampling.presence_penalty_milli)
    tools = any(one.role is Role.TOOL or one.calls is not None for one in asked.messages)
    return not tools and not asked.sampling.stop and beside == (None, None, None) and penalties == (0, 0)
