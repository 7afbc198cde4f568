"""Revisions of the kms face."""
