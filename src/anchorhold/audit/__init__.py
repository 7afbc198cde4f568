"""The auditor: replays a stored transcript with no network. May import attestation only."""
