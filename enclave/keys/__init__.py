"""Key sources, leases and secrets."""
