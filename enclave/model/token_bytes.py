"""The bytes that one token stands for, alone. A token may be half a character, so it has no text of its own."""

import json
import re
from collections.abc import Callable

_SPACE = "\u2581"  # what sentencepiece writes for a space
_ONE_BYTE = re.compile(r"<0x([0-9A-F]{2})>", re.ASCII)


def _byte_letters() -> dict[str, int]:
    """The letters in which byte-level tokenizers write bytes (openai/gpt-2, encoder.py)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("\u00a1"), ord("\u00ac") + 1), *range(ord("\u00ae"), 256)]
    letters = {chr(byte): byte for byte in plain}
    for at, byte in enumerate(byte for byte in range(256) if byte not in set(plain)):
        letters[chr(256 + at)] = byte
    return letters


_LETTERS = _byte_letters()


def bytes_of(decoder: bytes, special: frozenset[str]) -> Callable[[str], bytes]:
    """How a token's name becomes bytes, for a tokenizer with this decoder (its JSON) and these special tokens."""
    byte_level = '"ByteLevel"' in json.dumps(json.loads(decoder)) if decoder else False

    def made(name: str) -> bytes:
        if name in special:
            return name.encode()
        if byte_level and all(letter in _LETTERS for letter in name):
            return bytes(_LETTERS[letter] for letter in name)
        byte = _ONE_BYTE.fullmatch(name)
        return bytes.fromhex(byte[1]) if byte else name.replace(_SPACE, " ").encode()

    return made
