"""Trusted: runs inside the enclave, and everything here is measured.

May import attestation, wire, cryptography and asn1crypto; torch and transformers in the engine and loader files only.
No gRPC, no boto3, no environment.
"""
