"""Text leaves as it comes, in whole characters, and adds up to what decoding everything at once gives."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from anchorhold.enclave.model.text import TextStream


def by_bytes(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode("utf-8", "replace")


def by_words(tokens: Sequence[int]) -> str:
    """A decoder that strips the first space, as sentencepiece's do: one token alone decodes otherwise than in a row."""
    return "".join(f" w{token}" for token in tokens)[1:]


@given(st.text(max_size=40), st.lists(st.integers(1, 7), max_size=40))
def test_pieces_are_whole_characters_and_join_to_the_whole(text: str, cuts: list[int]) -> None:
    raw = list(text.encode("utf-8", "ignore"))
    stream, pieces = TextStream(by_bytes), []
    for cut in [*cuts, len(raw)]:
        pieces.append(stream.feed(raw[:cut]))
        del raw[:cut]
    assert not any("\ufffd" in piece for piece in pieces if "\ufffd" not in text)
    assert "".join([*pieces, stream.finish()]) == text


@given(st.lists(st.integers(0, 255), max_size=60))
def test_bytes_that_are_no_text_still_join_to_the_whole(raw: list[int]) -> None:
    stream = TextStream(by_bytes)
    pieces = [stream.feed([byte]) for byte in raw]
    assert len("".join([*pieces, stream.finish()])) >= len(by_bytes(raw).rstrip("\ufffd"))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_a_decoder_that_strips_the_first_space_keeps_the_others(tokens: list[int]) -> None:
    stream = TextStream(by_words)
    pieces = [stream.feed([token]) for token in tokens]
    assert "".join([*pieces, stream.finish()]) == by_words(tokens)


def test_an_unfinished_character_is_held_until_it_is_whole_or_the_end() -> None:
    stream = TextStream(by_bytes)
    assert [stream.feed([byte]) for byte in "é日".encode()] == ["", "é", "", "", "日"]
    assert stream.feed([0xE6]) == ""
    assert stream.finish() == "\ufffd"
