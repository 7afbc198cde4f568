"""Between the toy hypervisor and the measured init: closes what the host allows, says what it could not, execs.

Run as a script (`python -I -S -B launch.py REPORT_FD PARENT_PID ARGV...`), standard library only, so that nothing of
the project is loaded in the process that becomes the enclave. The report is JSON: `{"closed": [...], "open": [...]}`.
"""

import ctypes
import json
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable

# linux/prctl.h, linux/sched.h, linux/seccomp.h, linux/audit.h
_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_RET_KILL_PROCESS = 0x80000000
_RET_ERRNO = 0x00050000
_RET_ALLOW = 0x7FFF0000
_AF_UNIX = 1
_EPERM = 1
_EAFNOSUPPORT = 97
_X32_BIT = 0x40000000  # the x32 table holds the same calls under other numbers
_IO_URING_SETUP = 425  # io_uring opens sockets without the socket call
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_RET|K
_OFFSET_NR, _OFFSET_ARCH, _OFFSET_ARG0 = 0, 4, 16
# machine: (AUDIT_ARCH, socket, socketpair)
_CALLS = {"x86_64": (0xC000003E, 41, 53), "aarch64": (0xC00000B7, 198, 199)}

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def no_new_privileges() -> None:
    """No program started from here gains rights. Raises OSError."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def empty_network() -> None:
    """A network namespace with nothing in it; an ordinary user needs a user namespace for it. Raises OSError."""
    if _libc.unshare(_CLONE_NEWNET) != 0 and _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def unix_sockets_only() -> None:
    """A seccomp filter that refuses every socket but a Unix one, AF_VSOCK too, which no namespace closes.

    Raises OSError.
    """
    if platform.machine() not in _CALLS:
        raise OSError(0, f"no filter for {platform.machine()}")
    arch, socket_call, socketpair_call = _CALLS[platform.machine()]
    rows = [
        (_LOAD, 0, 0, _OFFSET_ARCH),
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _RET_KILL_PROCESS),
        (_LOAD, 0, 0, _OFFSET_NR),
        (_AT_LEAST, 7, 0, _X32_BIT),
        (_EQUAL, 6, 0, _IO_URING_SETUP),
        (_EQUAL, 1, 0, socket_call),
        (_EQUAL, 0, 2, socketpair_call),
        (_LOAD, 0, 0, _OFFSET_ARG0),
        (_EQUAL, 0, 1, _AF_UNIX),
        (_RETURN, 0, 0, _RET_ALLOW),
        (_RETURN, 0, 0, _RET_ERRNO | _EAFNOSUPPORT),
        (_RETURN, 0, 0, _RET_ERRNO | _EPERM),
    ]
    code = b"".join(struct.pack("=HBBI", *row) for row in rows)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(rows), ctypes.addressof(buffer))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))


def die_with(parent: int) -> None:
    """Killed when the process `parent` ends, however it ends. Raises OSError."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have ended before the call above.
    if os.getppid() != parent:
        raise OSError(0, "the hypervisor has ended")


def _prctl(option: int, *arguments: object) -> None:
    if _libc.prctl(option, *arguments, *[0] * (4 - len(arguments))) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


_STEPS: tuple[tuple[str, Callable[[], None]], ...] = (
    ("new privileges", no_new_privileges),
    ("network", empty_network),
    ("sockets other than Unix", unix_sockets_only),
)


def main(arguments: list[str]) -> None:
    """Close, report, become the program in `arguments[2:]`. Never returns."""
    report, parent, program = int(arguments[0]), int(arguments[1]), arguments[2:]
    closed: list[str] = []
    still_open: list[str] = []
    for name, step in _STEPS:
        try:
            step()
            closed.append(name)
        except OSError as error:
            still_open.append(f"{name} ({os.strerror(error.errno or 0)})")
    # A change of credentials clears the death signal, and unshare may change them: this comes last.
    die_with(parent)
    os.write(report, json.dumps({"closed": closed, "open": still_open}).encode() + b"\n")
    os.set_inheritable(report, False)
    os.execv(program[0], program)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
