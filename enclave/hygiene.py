"""What the process asks of the kernel so that memory stays in memory (DESIGN 8; measured in docs/threat-model.md).

None of it stops root of the same machine: in an enclave there is none, in simulation the verdict says so.
"""

import ctypes
import resource

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def close_memory() -> tuple[str, ...]:
    """No core dumps, not dumpable, no new privileges. The names of what could not be had."""
    libc = ctypes.CDLL(None, use_errno=True)
    missing = []
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        missing.append("dumpable")
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        missing.append("no-new-privs")
    return tuple(missing)
