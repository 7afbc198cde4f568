"""The KMS face: AWS KMS's JSON 1.1 protocol for the release path, with attestation conditions really enforced.

May import attestation, wire, cryptography, SQLAlchemy and starlette, like the rest of the authority.
"""
