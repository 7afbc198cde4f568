"""Nothing of a stop text is sent, nothing else is held longer than it must be, and tokens go with their text."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.enclave.model.shown import Shown

PIECES = st.lists(st.text(alphabet="abc", max_size=3), max_size=12)
STOPS = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=4).map(tuple)


def run(pieces: Sequence[str], stops: tuple[str, ...]) -> tuple[list[str], list[int], bool]:
    """What is sent of pieces, token by token; the number of each piece is its token."""
    shown = Shown[int](stops)
    sent: list[str] = []
    tokens: list[int] = []
    for number, piece in enumerate(pieces):
        shown.feed(piece, number)
        text, told = shown.take(final=number == len(pieces) - 1)
        sent.append(text)
        tokens += told
    return sent, tokens, shown.stopped


@given(PIECES, STOPS)
def test_what_is_sent_is_the_text_up_to_the_first_stop_text(pieces: list[str], stops: tuple[str, ...]) -> None:
    whole, given = "", 0
    for given, piece in enumerate(pieces, 1):  # noqa: B007 - used below
        whole += piece
        if any(stop in whole for stop in stops):
            break
    ends = [whole.find(stop) for stop in stops if stop in whole]
    sent, tokens, stopped = run(pieces, stops)
    assert "".join(sent) == whole[: min(ends, default=len(whole))]
    assert stopped is bool(ends)
    if not ends:
        assert tokens == list(range(len(pieces)))
    else:
        begins = [len("".join(pieces[:number])) for number in range(given)]
        assert all(begins[number] < min(ends) for number in tokens if pieces[number])
        assert tokens == sorted(tokens)
        assert tokens == list(range(len(tokens))), "none left out before the end"


@given(PIECES, STOPS)
def test_no_more_is_held_back_than_could_begin_a_stop_text(pieces: list[str], stops: tuple[str, ...]) -> None:
    shown = Shown[int](stops)
    whole = out = ""
    for piece in pieces:
        shown.feed(piece)
        out += shown.take()[0]
        whole += piece
        if shown.stopped:
            return
        held = whole[len(out) :]
        assert held == "" or any(stop.startswith(held) for stop in stops)


@pytest.mark.parametrize(
    ("pieces", "stops", "sent", "tokens"),
    [
        (["a", "b", "c"], (), ["a", "b", "c"], [0, 1, 2]),
        (["one", " tw", "o three"], ("two",), ["one", " ", ""], [0]),
        (["one", " tw", "in"], ("two",), ["one", " ", "twin"], [0, 1, 2]),
        (["ab", "ab", "c"], ("abc",), ["", "ab", ""], [0]),
        (["", "", "é", ""], (), ["", "", "é", ""], [0, 1, 2, 3]),
        (["xSTOPy"], ("STOP", "OP"), ["x"], [0]),
        (["STOP"], ("STOP",), [""], []),
        (["a", "STOP", "b"], ("STOP",), ["a", "", ""], [0]),
    ],
)
def test_examples(pieces: list[str], stops: tuple[str, ...], sent: list[str], tokens: list[int]) -> None:
    assert run(pieces, stops)[:2] == (sent, tokens)


def test_after_a_stop_text_nothing_is_taken_any_more() -> None:
    shown = Shown[int](("b",))
    shown.feed("ab", 1)
    shown.feed("c", 2)
    assert shown.take(final=True) == ("a", (1,))
    assert shown.take(final=True) == ("", ())
