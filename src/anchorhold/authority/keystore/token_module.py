"""Loads a PKCS#11 module once a process, initialised for use by several threads.

python-pkcs11 initialises without the locking flag, by which a module may drop its own mutexes (PKCS#11 2.40, 5.4
C_Initialize; SoftHSM does). So it is closed again and opened here with CKF_OS_LOCKING_OK, through the same entry point.
"""

import ctypes
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pkcs11

from anchorhold.authority.keystore.store import KeystoreError

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Library  # noqa: N812 - its class has a function's name

_OS_LOCKING_OK: Final = 0x2  # CKF_OS_LOCKING_OK
_OK: Final = 0  # CKR_OK
_LOADED: "dict[str, Library]" = {}
_LOCK = threading.Lock()


class _InitializeArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS."""

    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


def load_module(path: Path) -> "Library":
    """The module at `path`. A process that forks afterwards must not use it in the child. Raises KeystoreError."""
    name = str(path)
    with _LOCK:
        if name not in _LOADED:
            try:
                library = pkcs11.lib(name)
                library.finalize()
                arguments = _InitializeArgs(flags=_OS_LOCKING_OK)
                code = ctypes.CDLL(name).C_Initialize(ctypes.byref(arguments))
            except (pkcs11.PKCS11Error, OSError, AttributeError) as error:
                raise KeystoreError(f"PKCS#11 module {name!r} does not load: {type(error).__name__}") from error
            if code != _OK:
                raise KeystoreError(f"PKCS#11 module {name!r} does not start: code {code:#x}")
            _LOADED[name] = library
        return _LOADED[name]
