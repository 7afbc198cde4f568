"""Frames and messages between parent and enclave, and SigV4 canonical requests.

Standard library only, because both the trusted and the untrusted side run it.
"""
