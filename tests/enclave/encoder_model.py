"""A small encoder made in code, and the oracle: transformers from the folder, pooled as the recipe says."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "hello", "world", "wall", "window", "##s", ",")


def make_encoder(folder: Path, *, max_tokens: int = 32) -> None:
    """Random weights, a WordPiece tokenizer of a few words."""
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=40, initializer_range=0.4,
    )  # fmt: skip
    torch.manual_seed(11)
    transformers.BertModel(config).save_pretrained(folder)
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(8)  # as packages come; the engine never cuts
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    recipe = {"pooling": "mean", "normalise": True, "max_tokens": max_tokens}
    (folder / "encoder.json").write_text(json.dumps(recipe))


def embed(folder: Path, texts: list[str]) -> list[list[float]]:
    """One text at a time, so nothing depends on padding."""
    from tokenizers import Tokenizer

    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    vectors = []
    for text in texts:
        with torch.no_grad():
            states = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
        mean = states.mean(0)
        vectors.append((mean / mean.norm()).tolist())
    return vectors
