"""Secret: bytes that are wiped when done with, and that nothing prints, compares or stores by accident (STYLE 13).

The bytes lie in a private anonymous mapping of their own: locked in memory, left out of core dumps and of children,
where the kernel allows it. What Python cannot promise: `bytes` objects a secret was made from, or that a library hands
back, are copies nobody can wipe; hand in a `bytearray` where there is one, and it is wiped here.
"""

import contextlib
import ctypes
import mmap
from types import TracebackType
from typing import NoReturn, Self

_LIBC = ctypes.CDLL(None, use_errno=True)
_ADVICE = (16, 18)  # madvise(2): MADV_DONTDUMP, MADV_WIPEONFORK


class SecretWiped(Exception):
    """A secret was used after its end: our own mistake."""


class Secret:
    """A wiping buffer. `with secret as view:` gives the bytes once and wipes at the end of the block."""

    __slots__ = ("_mapping", "_size", "locked")

    def __init__(self, source: bytes | bytearray | memoryview) -> None:
        self._size = len(source)
        self._mapping: mmap.mmap | None = mmap.mmap(-1, max(self._size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.locked = _lock(self._mapping)
        self._mapping[: self._size] = source
        if isinstance(source, bytearray):
            source[:] = bytes(len(source))

    def view(self) -> memoryview:
        """The bytes in place, read-only, for as long as the secret lives. Raises SecretWiped."""
        if self._mapping is None:
            raise SecretWiped("the secret has been wiped")
        return memoryview(self._mapping).toreadonly()[: self._size]

    def wipe(self) -> None:
        """Zero the bytes now. Views handed out before show zeros. Safe to call again."""
        mapping, self._mapping = self._mapping, None
        if mapping is None:
            return
        mapping[:] = bytes(len(mapping))
        with contextlib.suppress(BufferError):  # a view is still held: zeros remain mapped until it is gone
            mapping.close()

    @property
    def wiped(self) -> bool:
        """Whether the bytes are gone."""
        return self._mapping is None

    def __len__(self) -> int:
        return self._size

    def __enter__(self) -> memoryview:
        return self.view()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # construction itself failed
            self.wipe()

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError("a Secret is not printed, compared, hashed, copied or pickled")

    __repr__ = __str__ = __format__ = __eq__ = __ne__ = __hash__ = _refuse
    __reduce__ = __reduce_ex__ = __getstate__ = _refuse
    __bytes__ = _refuse

    def __copy__(self) -> Self:
        self._refuse()

    def __deepcopy__(self, memo: object) -> Self:
        self._refuse()


def _lock(mapping: mmap.mmap) -> bool:
    """Best effort: whether the pages are locked. RLIMIT_MEMLOCK may forbid it; the caller may show that."""
    for advice in _ADVICE:
        with contextlib.suppress(OSError):
            mapping.madvise(advice)
    anchor = ctypes.c_char.from_buffer(mapping)
    try:
        return bool(_LIBC.mlock(ctypes.c_void_p(ctypes.addressof(anchor)), ctypes.c_size_t(len(mapping))) == 0)
    finally:
        del anchor
