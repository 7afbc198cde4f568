"""Revisions of the xks face."""
