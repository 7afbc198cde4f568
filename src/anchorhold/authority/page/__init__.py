"""A small read-only page: status, keys, leases, approvals waiting, last denials with the rule that denied."""
