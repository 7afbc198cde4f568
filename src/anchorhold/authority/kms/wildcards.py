"""AWS's wildcards: `*` is any text, `?` any one character. In time that no pattern and no value can make explode."""

from functools import lru_cache

MAX_PAIRS = 4_096  # of patterns, both with wildcards, whose answer is kept: policies change seldom, uses come often
_WILD = frozenset("*?")


def like(pattern: str, value: str) -> bool:
    """Whether all of `value` fits. Greedy: only the last `*` ever needs to take more, so the work is a product."""
    at = start = 0
    star = -1
    while start < len(value):
        if at < len(pattern) and pattern[at] == "*":
            star, took = at, start
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", value[start]):
            at, start = at + 1, start + 1
        elif star >= 0:
            took += 1
            at, start = star + 1, took
        else:
            return False
    return not pattern[at:].strip("*")


def meet(one: str, other: str) -> bool:
    """Whether any value at all fits both."""
    if _WILD.isdisjoint(one):
        return like(other, one)
    if _WILD.isdisjoint(other):
        return like(one, other)
    return _wild_meet(one, other)


@lru_cache(maxsize=MAX_PAIRS)
def _wild_meet(one: str, other: str) -> bool:
    """A row for each place of `one`: which places of `other` are reached with it. The work is a product, here too."""
    row = [True]
    for char in other:
        row.append(row[-1] and char == "*")
    for mine in one:
        row = _after_star(row) if mine == "*" else _after_char(row, mine, other)
    return row[-1]


def _after_star(row: list[bool]) -> list[bool]:
    """It takes nothing, or whatever the other goes on with."""
    reached: list[bool] = []
    for here in row:
        reached.append(here or (bool(reached) and reached[-1]))
    return reached


def _after_char(row: list[bool], mine: str, other: str) -> list[bool]:
    reached = [False] * len(row)
    for place, theirs in enumerate(other):
        if theirs == "*":
            reached[place] |= row[place]  # their star takes it,
            reached[place + 1] |= reached[place]  # and may end here
        elif mine == theirs or "?" in (mine, theirs):
            reached[place + 1] |= row[place]
    return reached
