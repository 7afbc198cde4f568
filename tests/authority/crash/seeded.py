"""Choices that a seed repeats."""

import hashlib


class Seeded:
    """A stream of numbers from a seed and names."""

    def __init__(self, *seed: object) -> None:
        self._seed = repr(seed).encode()
        self._count = 0

    def below(self, end: int) -> int:
        self._count += 1
        raw = hashlib.sha256(self._seed + self._count.to_bytes(8, "big")).digest()
        return int.from_bytes(raw[:8], "big") % end

    def between(self, least: float, most: float) -> float:
        return least + (most - least) * self.below(1 << 30) / (1 << 30)
