"""The auditor: replays a stored transcript with no network. May import attestation only.

It reads a folder and prints findings; every judgement is made in `attestation/transcript/`.
"""
