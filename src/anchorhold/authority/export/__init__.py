"""A journal's entries on their way out: files, syslog, webhooks and a log. Reads the journal, never writes it.

May import attestation and the authority's own modules.
"""
