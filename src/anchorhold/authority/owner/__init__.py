"""The owner face: share release, leases, revocation, tenant credentials (DESIGN 5, faces (b)).

May import attestation, cryptography, SQLAlchemy and starlette, like the rest of the authority.
"""
