"""The sealed model: descriptor, manifest, bodies, signature, shares."""
