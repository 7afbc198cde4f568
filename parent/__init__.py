"""Untrusted: relays what it cannot read. May import wire, the generated stubs, grpcio; not attestation, not cryptography, not torch."""
