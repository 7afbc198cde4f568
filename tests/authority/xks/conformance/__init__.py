"""A conformance suite for External Key Store proxies: black box, a clause of the specification a check."""
