"""Untrusted: relays what it cannot read. Assume the attacker wrote it.

May import wire, the generated stubs and grpcio; not attestation, not cryptography, not torch.
"""
