"""The channel between client and enclave: formats and both state machines, sans-I/O."""
