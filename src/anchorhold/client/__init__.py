"""Relying party: trust file, verification, then and only then a channel."""
