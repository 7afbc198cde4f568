"""Where the authority's wrapping keys live. They are named from outside and never leave: use goes through a store.

May import attestation and cryptography.
"""
