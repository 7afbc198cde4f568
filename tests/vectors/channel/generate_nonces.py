"""Makes `nonces.json`: paths of callers in batches of several sizes, and paths with one fault each.

    .venv/bin/python tests/vectors/channel/generate_nonces.py

Everything is reproducible; `tests/channel/test_nonce_vectors.py` fails if the file differs from what this makes.
"""

import json
from pathlib import Path

from anchorhold.attestation.channel.nonces import MAX_BATCH, batch

PATH = Path(__file__).parent / "nonces.json"
SIZES = (1, 2, 3, 5, 8, 33, MAX_BATCH)
LENGTHS = (16, 32, 64)  # bytes of a caller's nonce: the shortest, the usual, the longest


def callers(size: int) -> list[bytes]:
    """Nonces that are nobody's, of every length allowed."""
    return [bytes([0xA0 ^ index]) * LENGTHS[index % len(LENGTHS)] for index in range(size)]


def places(size: int) -> list[int]:
    """First, second, the last of the left half, the last."""
    return sorted({0, min(1, size - 1), (size - 1) // 2, size - 1})


def generate() -> dict[str, object]:
    """The whole file."""
    kept = []
    for size in SIZES:
        nonces = callers(size)
        made = batch(nonces)
        kept += [
            {
                "name": f"{index} of {size}",
                "nonce": nonces[index].hex(),
                "proof": made.proofs[index].hex(),
                "nsm_nonce": made.nsm_nonce.hex(),
            }
            for index in places(size)
        ]
    return {
        "about": "docs/spec/channel.md 11; made by generate_nonces.py beside this file",
        "vectors": kept,
        "faults": _faults(),
    }


def _faults() -> list[dict[str, str]]:
    nonces = callers(5)
    made = batch(nonces)
    good = made.proofs[2]
    cases = {
        "the path of another": ("other", made.proofs[3]),
        "no path": ("other", b""),
        "a hash changed": ("other", good[:-1] + bytes([good[-1] ^ 1])),
        "a hash left out": ("malformed", good[:-48]),
        "a hash too many": ("malformed", good + bytes(48)),
        "half a hash": ("malformed", good[:-24]),
        "size one": ("malformed", b"\x00\x01\x00\x00"),
        "size of another path of this length": ("other", b"\x00\x08" + good[2:]),
        "index beyond the size": ("malformed", b"\x00\x05\x00\x05" + good[4:]),
        "size over the limit": ("malformed", b"\x00\x41" + good[2:] + bytes(3 * 48)),
        "longer than any": ("too-large", good + bytes(4 * 48)),
        "numbers cut": ("malformed", good[:3]),
    }
    return [
        {
            "name": name,
            "expect": expect,
            "nonce": nonces[2].hex(),
            "proof": proof.hex(),
            "nsm_nonce": made.nsm_nonce.hex(),
        }
        for name, (expect, proof) in cases.items()
    ]


if __name__ == "__main__":
    PATH.write_text(json.dumps(generate(), indent=1) + "\n")
