"""Release statements: which measurements a release may have, signed k-of-n by people (docs/spec/release-statements.md).

Not the `release` statement of `binding.py`, by which an enclave asks for a key. Pure as all of attestation; making and
signing is the publisher's (`publish/release.py`).
"""
