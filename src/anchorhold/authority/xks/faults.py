"""The proxy API's errors, by name and status. A caller is told the name and a fixed text; the reason is journaled."""

from enum import Enum

MAX_MESSAGE = 511  # characters, printable ASCII: the specification says fewer than 512


class Error(Enum):
    """Every error name of the specification, with its HTTP status and the text that goes with it."""

    VALIDATION = ("ValidationException", 400, "the request is not in the form")
    INVALID_STATE = ("InvalidStateException", 400, "the external key is not in a state for this request")
    INVALID_CIPHERTEXT = ("InvalidCiphertextException", 400, "the ciphertext does not open")
    INVALID_KEY_USAGE = ("InvalidKeyUsageException", 400, "the external key is not for this use")
    AUTHENTICATION_FAILED = ("AuthenticationFailedException", 401, "the request is not authenticated")
    ACCESS_DENIED = ("AccessDeniedException", 403, "the request is not allowed")
    INVALID_URI_PATH = ("InvalidUriPathException", 404, "there is no such path")
    KEY_NOT_FOUND = ("KeyNotFoundException", 404, "there is no such external key")
    THROTTLING = ("ThrottlingException", 429, "the rate is exceeded")
    INTERNAL = ("InternalException", 500, "an internal error occurred")
    UNSUPPORTED_OPERATION = ("UnsupportedOperationException", 501, "the operation is not supported")
    DEPENDENCY_TIMEOUT = ("DependencyTimeoutException", 503, "the key store did not answer in time")

    def __init__(self, error_name: str, status: int, text: str) -> None:
        self.error_name = error_name
        self.status = status
        self.text = text


class XksFault(Exception):
    """One answer that is not a success. `detail` is for the journal; `message` is what the caller may read."""

    def __init__(self, error: Error, detail: str, *, message: str | None = None) -> None:
        super().__init__(f"{error.error_name}: {detail}")
        self.error = error
        self.detail = detail
        self._message = error.text if message is None else message

    def body(self) -> dict[str, str]:
        """The JSON body."""
        text = self._message.encode("ascii", "replace").decode()
        shown = "".join(letter if letter.isprintable() else "?" for letter in text)
        return {"errorName": self.error.error_name, "errorMessage": shown[:MAX_MESSAGE]}


def invalid(detail: str) -> XksFault:
    """A request that is not in the form: the caller may know why, as it repeats nothing of the request."""
    return XksFault(Error.VALIDATION, detail, message=detail)
