"""What the engine is asked, out of what the client asked: in the verified party's namespace."""

from anchorhold.attestation.channel.body import Complete, Embed
from anchorhold.attestation.channel.enclave import Received
from anchorhold.enclave.model.engine import EmbeddingRequest, EngineRequest, GenerationRequest


def engine_request(received: Received, namespace: bytes) -> EngineRequest:
    """Every field of the body has its place here: what an engine cannot do, the engine refuses."""
    asked, name = received.request, received.digest[:16].hex()
    if isinstance(asked, Embed):
        return EmbeddingRequest(name, asked.inputs, namespace)
    sampling = asked.sampling
    return GenerationRequest(
        id=name,
        messages=() if isinstance(asked, Complete) else asked.messages,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature_milli / 1000,
        top_p=sampling.top_p_milli / 1000,
        namespace=namespace,
        prompt=asked.prompt if isinstance(asked, Complete) else None,
        tools=None if isinstance(asked, Complete) else asked.tools,
        seed=sampling.seed,
        stop=sampling.stop,
        logprobs=sampling.logprobs,
        frequency_penalty=sampling.frequency_penalty_milli / 1000,
        presence_penalty=sampling.presence_penalty_milli / 1000,
        adapter=asked.adapter,
    )
