"""What an engine's chunk says to the client: text, text with the tokens it ends with, or a vector (channel.md 6.4)."""

from collections.abc import Iterator

from anchorhold.attestation.channel.pieces import (
    MAX_SCORED_TEXT,
    MAX_TOKEN,
    Candidate,
    Embedding,
    Scored,
    TokenLogprob,
    micro,
    split_tokens,
)
from anchorhold.enclave.model.engine import EmbeddingChunk, EngineChunk, TokenScore
from anchorhold.enclave.serve.shaper import Said


def said(chunk: EngineChunk) -> Iterator[Said]:
    """In order; joined, the texts are the chunk's and so are the tokens."""
    if isinstance(chunk, EmbeddingChunk):
        yield Embedding(chunk.index, chunk.vector)
        return
    if not chunk.scores:
        yield chunk.text
        return
    # The tokens go with the end of the text; what is too long to go with them goes before.
    text = chunk.text[-MAX_SCORED_TEXT:]
    yield chunk.text[: len(chunk.text) - len(text)]
    for tokens in split_tokens([_logprob(one) for one in chunk.scores]):
        yield Scored(text, tokens)
        text = ""


def _logprob(score: TokenScore) -> TokenLogprob:
    top = tuple(Candidate(token[:MAX_TOKEN], micro(logprob)) for token, logprob in score.top)
    return TokenLogprob(score.token[:MAX_TOKEN], micro(score.logprob), top)
