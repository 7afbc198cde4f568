"""AWS's wildcards: `*` is any text, `?` any one character. In time that no pattern and no value can make explode."""


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
