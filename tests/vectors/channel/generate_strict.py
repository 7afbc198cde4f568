"""Makes `strict.json`: records of one `strict` answer under a fixed key, and such with one fault each (channel.md 10).

    .venv/bin/python tests/vectors/channel/generate_strict.py

Each case is opened from record 0 on. `records` is what comes out, a content in parts once it is whole; `error` is the
code of the error that the last frame meets. The key is nobody's.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from anchorhold.attestation.channel.padding import STRICT_CONTENT, Padding, pad, request_step, response_step
from anchorhold.attestation.channel.record import (
    COUNTER_BYTES,
    Direction,
    FrameKind,
    Record,
    RecordKind,
    RecordSealer,
)

PATH = Path(__file__).parent / "strict.json"
KEY = bytes(range(32))
FULL = bytes(range(250)) * 4 + b"ab"
assert len(FULL) == STRICT_CONTENT
COUNTS = (1, 8, 9, 20, 21, 40, 272, 512, 513, 641, 1_280, 1_281, 2_561)
Piece = tuple[RecordKind, bytes, bool]


def _good() -> Iterator[tuple[str, list[Piece]]]:
    yield "text and a dummy", [(RecordKind.DELTA, "é".encode(), False), (RecordKind.DUMMY, b"", False)]
    yield "a full frame", [(RecordKind.DELTA, b"x" * STRICT_CONTENT, False)]
    yield (
        "a content in parts, and text after it",
        [(RecordKind.PART, FULL, False), (RecordKind.EMBEDDING, b"end", False), (RecordKind.DELTA, b"text", False)],
    )
    yield "a content of exactly two frames", [(RecordKind.PART, FULL, False), (RecordKind.LOGPROBS, FULL, False)]
    yield "a part given up for an error", [(RecordKind.PART, FULL, False), (RecordKind.ERROR, b"lease-ended", False)]


def _bad() -> Iterator[tuple[str, list[Piece]]]:
    yield "a part that is not full", [(RecordKind.PART, FULL[1:], False)]
    yield "a part that is the last record", [(RecordKind.PART, FULL, True)]
    yield "a dummy between parts", [(RecordKind.PART, FULL, False), (RecordKind.DUMMY, b"", False)]
    yield "a part ended by nothing", [(RecordKind.PART, FULL, False), (RecordKind.DELTA, b"", False)]
    yield "a part ended by text", [(RecordKind.PART, FULL, False), (RecordKind.DELTA, b"text", False)]
    yield "a part ended by the finish", [(RecordKind.PART, FULL, False), (RecordKind.FINISH, b"finish", False)]
    yield "a part ended by the receipt", [(RecordKind.PART, FULL, False), (RecordKind.RECEIPT, b"receipt", True)]


def _sealed(pieces: list[Piece]) -> list[str]:
    sealer = RecordSealer(KEY, Direction.RESPONSE, Padding.STRICT)
    return [sealer.seal(kind, content, final=final).hex() for kind, content, final in pieces]


def _by_hand(plain: bytes) -> list[str]:
    """A frame whose plaintext no sealer of ours makes."""
    nonce = bytes(COUNTER_BYTES)
    sealed = AESGCM(KEY).encrypt(nonce, plain, bytes([Direction.RESPONSE]) + nonce + b"\x00")
    return [(bytes([FrameKind.RECORD]) + sealed).hex()]


def generate() -> dict[str, object]:
    """The file's content."""
    plain = pad(RecordKind.DELTA, b"text", Padding.STRICT)
    odd = {
        "padding of a one": ("malformed", plain[:-1] + b"\x01"),
        "a byte less": ("malformed", plain[:-1]),
        "a byte more": ("malformed", plain + b"\x00"),
        "padded as basic": ("malformed", pad(RecordKind.DELTA, b"text", Padding.BASIC)),
        "a length of 1,003": ("too-large", plain[:1] + (STRICT_CONTENT + 1).to_bytes(4, "big") + plain[5:]),
    }
    good = [
        {
            "name": name,
            "frames": _sealed(pieces),
            "records": [{"kind": int(one.kind), "content": one.content.hex()} for one in _whole(pieces)],
        }
        for name, pieces in _good()
    ]
    bad = [{"name": name, "error": "malformed", "frames": _sealed(pieces)} for name, pieces in _bad()]
    bad += [{"name": name, "error": code, "frames": _by_hand(raw)} for name, (code, raw) in odd.items()]
    return {
        "about": "docs/spec/channel.md 10; made by generate_strict.py beside this file; the key is nobody's",
        "key": KEY.hex(),
        "steps": [{"records": n, "request": request_step(n), "response": response_step(n)} for n in COUNTS],
        "cases": [*good, *bad],
    }


def _whole(pieces: list[Piece]) -> Iterator[Record]:
    parts = b""
    for kind, content, final in pieces:
        if kind is RecordKind.PART:
            parts += content
            continue
        yield Record(kind, content if kind is RecordKind.ERROR else parts + content, final)
        parts = b""


def main() -> None:
    """Write the file."""
    PATH.write_text(json.dumps(generate(), indent=1) + "\n")


if __name__ == "__main__":
    main()
