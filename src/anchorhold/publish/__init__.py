"""The publisher: seals models and builds images on the owner's desk. May import attestation, cryptography and boto3."""
