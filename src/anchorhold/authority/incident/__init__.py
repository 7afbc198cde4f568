"""What journals say about an incident: uses of a key, proof of silence, and the report. Pure: entries in, facts out.

May import attestation, like the rest of the authority.
"""
