"""The guard's own administration, the same on every face: one set of routes to mount (docs/spec/guard.md 9)."""
