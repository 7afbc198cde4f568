"""The log: tlog-tiles on plain files, with a key of its own."""
