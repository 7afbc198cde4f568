"""Reads and writes of the KMS face's tables within one transaction: one file a table family, no decisions."""
