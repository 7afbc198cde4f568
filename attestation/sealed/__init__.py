"""The sealed model: descriptor, manifest, bodies, signature, shares (docs/spec/sealed-model.md).

Pure as all of attestation: bytes in, bytes out. The publisher seals with these, the enclave opens with the same.
"""
