"""The transcript: entries, tree, checkpoints and their checks."""
