"""Each token's own bytes, so that a client can put the answer together again from what it is told of the tokens."""

import json
from pathlib import Path

import pytest

from anchorhold.enclave.model.token_bytes import bytes_of
from anchorhold.publish.tiny import SPECIAL, make_tiny_model

tokenizers = pytest.importorskip("tokenizers")


def test_byte_level_tokens_join_to_the_text_in_bytes(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    made = bytes_of(tokenizer.decoder.__getstate__(), frozenset(SPECIAL))
    text = "Grüße, 日本 \x00\x7f\xa0\xad\n"
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert b"".join(made(tokenizer.id_to_token(one)) for one in ids) == text.encode()
    assert len(ids) == len(text.encode()), "a token a byte: most are no text alone"
    assert made(SPECIAL[2]) == SPECIAL[2].encode()
    assert {made(tokenizer.id_to_token(one)) for one in range(256)} == {bytes([one]) for one in range(256)}


def test_sentencepiece_names_become_spaces_and_bytes() -> None:
    decoder = json.dumps({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}).encode()
    made = bytes_of(decoder, frozenset({"</s>", "<0x41>"}))
    assert made("\u2581hello") == b" hello"
    assert made("<0xE2>") == b"\xe2"
    assert made("</s>") == b"</s>"
    assert made("<0x41>") == b"<0x41>", "a special token is its name"
    assert made("<0xE>") == b"<0xE>"
    assert bytes_of(b"", frozenset())("\u0120the") == "\u0120the".encode()


def test_a_byte_level_decoder_inside_a_sequence_counts() -> None:
    decoder = json.dumps({"type": "Sequence", "decoders": [{"type": "ByteLevel"}]}).encode()
    assert bytes_of(decoder, frozenset())("\u0120the") == b" the"
