"""The security module: NSM requests and the two ways to reach it."""
