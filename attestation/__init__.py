"""Evidence: formats and their checks. Pure: bytes, time, roots and entropy come in as arguments.

May import cryptography and cbor2 (pyOpenSSL in `chain.py` only); no other role of this project.
"""
