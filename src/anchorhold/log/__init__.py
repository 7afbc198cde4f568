"""The log: an untrusted process that keeps records as C2SP tlog-tiles on plain files, under a key of its own.

May import attestation, cryptography, starlette and uvicorn. It never judges a record: enclaves and auditors do.
"""
