"""`/dev/nsm`: one ioctl (linux include/uapi/linux/nsm.h). The device is there in a Nitro enclave and nowhere else."""

import ctypes
import errno
import fcntl
import os
from pathlib import Path

from anchorhold.enclave.nsm.module import MAX_RESPONSE, NsmClient

DEVICE = Path("/dev/nsm")
# _IOWR(0x0A, 0, struct nsm_raw), the struct being 32 bytes.
NSM_IOCTL_RAW = 0xC0200A00


class _NsmRaw(ctypes.Structure):
    _fields_ = (
        ("request_address", ctypes.c_uint64),
        ("request_length", ctypes.c_uint64),
        ("response_address", ctypes.c_uint64),
        ("response_length", ctypes.c_uint64),
    )


class NitroDevice:
    """The open device; `transact` is what an NsmClient needs. Never opened in simulation."""

    def __init__(self, path: Path = DEVICE) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def transact(self, request: bytes) -> bytes:
        """One request, one answer. Raises OSError."""
        asked = ctypes.create_string_buffer(request, len(request))
        answer = ctypes.create_string_buffer(MAX_RESPONSE)
        raw = _NsmRaw(ctypes.addressof(asked), len(request), ctypes.addressof(answer), MAX_RESPONSE)
        fcntl.ioctl(self._fd, NSM_IOCTL_RAW, raw)
        # The kernel writes the real length back.
        if raw.response_length > MAX_RESPONSE:
            raise OSError(errno.EMSGSIZE, "NSM answer longer than its buffer")
        return answer.raw[: raw.response_length]

    def close(self) -> None:
        """Close the device."""
        os.close(self._fd)


def open_nitro() -> NsmClient:
    """The security module of this Nitro enclave. Raises OSError."""
    return NsmClient(NitroDevice().transact)
