"""Backups of an owner authority that k of n offline recipients open together (docs/spec/keystores.md 4).

May import attestation, cryptography and the owner face.
"""
