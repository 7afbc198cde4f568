"""Revisions of the owner face."""
