"""The one family of errors that leaves this package (STYLE 9 and 10: who is to blame; expected and actual)."""


class EvidenceError(Exception):
    """The other side sent something that does not hold. `code` is stable and safe to print."""

    code = "evidence"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class Malformed(EvidenceError):
    """Bytes that are not in the form the specification gives: truncated, oversized, wrong type, unknown field."""

    code = "malformed"


class NotCanonical(Malformed):
    """A value whose encoding is not the one canonical encoding, so two readers could differ about it."""

    code = "not-canonical"


class TooLarge(Malformed):
    """An input over a named limit."""

    code = "too-large"

    def __init__(self, what: str, *, limit: int, actual: int) -> None:
        super().__init__(f"{what} is too large: expected at most {limit}, got {actual}")
        self.limit = limit
        self.actual = actual


class SignatureInvalid(EvidenceError):
    """A signature that does not verify under the key it names."""

    code = "signature"


class WrongAlgorithm(EvidenceError):
    """A signature or seal under an algorithm this format does not allow."""

    code = "algorithm"


class Mismatch(EvidenceError):
    """A value that differs from the one expected; both sides are shown."""

    code = "mismatch"

    def __init__(self, what: str, *, expected: object, actual: object, code: str | None = None) -> None:
        super().__init__(f"{what} differs: expected {show(expected)}, got {show(actual)}", code=code)
        self.what = what
        self.expected = expected
        self.actual = actual


def show(value: object) -> str:
    """Bytes as lower-case hex, everything else by `repr`: outside bytes never reach a terminal raw."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex() or "(empty)"
    return str(value) if isinstance(value, int) else repr(value)
