"""Frames and messages between parent and enclave, and SigV4 canonical requests. Standard library only, sans-I/O where it can be."""
