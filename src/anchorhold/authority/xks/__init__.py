"""The XKS face: the External Key Store Proxy API, so that AWS KMS itself must come through the same guard.

Implements docs/spec/xks-face.md. Plaintexts pass through; they are never stored, journaled or logged.
"""
