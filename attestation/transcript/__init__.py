"""The transcript: entries, tree, checkpoints and the replay of them all (docs/spec/transcript.md). Pure.

May import cryptography, cbor2 and `anchorhold.attestation`: no files, no clock, no network.
"""
