"""Words that somebody else chose, on their way to a terminal."""


def printable(text: str) -> str:
    """The text, its control sequences written out instead of obeyed."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
