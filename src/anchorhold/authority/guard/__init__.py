"""The guard: one policy core for all faces, default deny (docs/spec/guard.md)."""

from anchorhold.authority.guard.guard import Guard
from anchorhold.authority.guard.use import Decision, Face, Use

__all__ = ["Decision", "Face", "Guard", "Use"]
