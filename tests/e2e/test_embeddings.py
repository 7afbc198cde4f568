"""The encoder through the whole stack: the vectors that transformers makes of the package's own files, in order."""

import os
from collections.abc import Sequence

import pytest

from anchorhold.client.errors import Refused
from anchorhold.client.sdk import Client
from anchorhold.publish import minilm

from .conftest import ROOT, Running

pytestmark = pytest.mark.slow
TEXTS = (
    "The capital of France is Paris.",
    "Paris is France's capital city.",
    "A chat template is a program.",
    "Ünïcode, 日本 and a wall with one small window",
    "word " * 200,
)


def in_process(texts: tuple[str, ...]) -> list[list[float]]:
    """The recipe of the package's own README: AutoTokenizer, AutoModel, mean pooling, normalise."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import transformers

    folder = ROOT / ".cache" / minilm.MODEL_ID
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)
    encoded = tokenizer(list(texts), padding="longest", truncation="longest_first", max_length=256, return_tensors="pt")
    with torch.no_grad():
        tokens = model(**encoded)[0]
    mask = encoded["attention_mask"].unsqueeze(-1).expand(tokens.size()).float()
    pooled = torch.sum(tokens * mask, 1) / torch.clamp(mask.sum(1), min=1e-9)
    vectors: list[list[float]] = torch.nn.functional.normalize(pooled, p=2, dim=1).tolist()
    return vectors


def furthest(one: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_embeddings_equal_in_process_transformers_and_their_receipt_covers_them(encoder: Running) -> None:
    with Client(encoder.trust) as client:
        answer = client.embed(TEXTS)
        again = client.embed(TEXTS[:1])
    vectors = [one.vector for one in answer.vectors]
    expected = in_process(TEXTS)
    assert len(vectors) == len(TEXTS)
    assert max(furthest(*pair) for pair in zip(vectors, expected, strict=True)) < 1e-5
    assert cosine(vectors[0], vectors[1]) > 0.8
    assert cosine(vectors[0], vectors[2]) < 0.5
    assert answer.receipt.receipt.records == len(TEXTS) + 1, "one record a vector, and the conclusion"
    assert answer.finish.completion_tokens == 0
    assert answer.finish.prompt_tokens > len(TEXTS)
    assert furthest(again.vectors[0].vector, vectors[0]) < 1e-5


def test_what_an_encoder_cannot_do_is_refused_in_the_enclaves_own_word(encoder: Running) -> None:
    with Client(encoder.trust) as client:
        with pytest.raises(Refused) as chat:
            client.ask("hello")
        assert chat.value.code == "unsupported"
        with pytest.raises(Refused) as long:
            client.embed(("word " * 300,))
        assert long.value.code == "too-long"
        assert client.embed(("hello",)).vectors


def test_a_language_model_embeds_nothing(stack: Running) -> None:
    with Client(stack.trust) as client:
        with pytest.raises(Refused) as refused:
            client.embed(("hello",))
        assert refused.value.code == "unsupported"
