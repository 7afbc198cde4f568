"""A Secret cannot leave by accident, and is gone when it ends."""

import copy
import operator
import pickle  # noqa: TID251 - the test shows that it is refused
from collections.abc import Callable

import pytest

from anchorhold.enclave.keys.secret import Secret, SecretWiped

MARKER = b"a share of thirty-two bytes.....".ljust(32, b".")


def test_the_bytes_are_zero_after_the_block_even_in_a_view_held_longer() -> None:
    secret = Secret(MARKER)
    with secret as view:
        assert bytes(view) == MARKER
    assert bytes(view) == bytes(32)
    assert secret.wiped


def test_a_wiped_secret_is_refused() -> None:
    secret = Secret(MARKER)
    secret.wipe()
    secret.wipe()
    with pytest.raises(SecretWiped):
        secret.view()


def test_the_bytearray_a_secret_is_made_from_is_wiped() -> None:
    source = bytearray(MARKER)
    secret = Secret(source)
    assert source == bytes(32)
    with secret as view:
        assert bytes(view) == MARKER


@pytest.mark.parametrize(
    "use",
    [
        repr,
        str,
        "{}".format,
        lambda s: f"{s}",
        lambda s: operator.eq(s, s),
        lambda s: s != b"",
        hash,
        bytes,
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
    ],
)
def test_nothing_prints_compares_copies_or_pickles_a_secret(use: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError, match="a Secret is not"):
        use(Secret(MARKER))


def test_a_view_cannot_be_written() -> None:
    with Secret(MARKER) as view, pytest.raises(TypeError):
        view[0] = 1
