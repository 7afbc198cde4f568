"""The key authority: KMS face and owner face. Never sees a prompt or a weight."""
