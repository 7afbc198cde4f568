"""Behind the window: exchanges, epochs, the scribe and the egress ledger."""
