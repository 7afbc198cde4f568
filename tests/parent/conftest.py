"""Where a window may lie, and a loop that does not wait for ever."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


@pytest.fixture
def window() -> Iterator[Path]:
    # Not tmp_path: a Unix socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ah") as folder:
        yield Path(folder) / "w"


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, T]], T]:
    def run_within(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(asyncio.wait_for(work, 30))

    return run_within
