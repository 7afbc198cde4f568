"""Everything that can go wrong, in the form OpenAI's clients read: `{"error": {message, type, code, param}}`.

Codes are ours (`anchorhold explain CODE`). Only what cannot have been answered, or was refused for want of room, is
offered for retry: `x-should-retry` says so to clients that know it. Nothing of a prompt is in a message.
"""

import json

from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.channel.errors import Truncated
from anchorhold.attestation.errors import EvidenceError
from anchorhold.client.errors import (
    AdapterNotGranted,
    ClientError,
    Hinted,
    LeaseEnded,
    Refused,
    RequestInvalid,
    Unavailable,
)

INVALID = "invalid_request_error"
PERMISSION = "permission_error"
NOT_PROVED = "evidence_error"
AWAY = "service_unavailable_error"
SERVER = "server_error"
BUSY = "rate_limit_error"

_REFUSALS = {
    Code.BUSY: (429, BUSY, True),
    Code.QUOTA: (429, BUSY, True),
    Code.DRAINING: (503, AWAY, True),
    Code.LEASE_ENDED: (503, AWAY, False),
    Code.DEADLINE: (504, SERVER, False),
    Code.TOO_LONG: (400, INVALID, False),
    Code.BAD_REQUEST: (400, INVALID, False),
    Code.UNSUPPORTED: (400, INVALID, False),
    Code.PURPOSE: (403, PERMISSION, False),
    Code.TENANT: (403, PERMISSION, False),
    Code.ADAPTER: (403, PERMISSION, False),
    Code.REPLAYED: (409, SERVER, False),
}
"""What the enclave said under its response key: status, type, and whether another try can help."""


class ApiError(Exception):
    """One answer that is an error."""

    def __init__(
        self,
        status: int,
        kind: str,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.message = message
        self.param = param
        self.retry = retry
        self.hint = hint

    def body(self) -> bytes:
        """The JSON text."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        if self.hint is not None:
            error["hint"] = self.hint
        return json.dumps({"error": error}, ensure_ascii=False).encode("utf-8", "backslashreplace")

    def headers(self) -> tuple[tuple[str, str], ...]:
        """For the answer's head."""
        again = (("x-should-retry", "true" if self.retry else "false"),)
        return (*again, ("retry-after", "1")) if self.retry else again


def invalid(message: str, *, code: str = "invalid-value", param: str | None = None) -> ApiError:
    """The caller's own mistake."""
    return ApiError(400, INVALID, code, message, param=param)


def unsupported(name: str, why: str) -> ApiError:
    """A parameter that means something we cannot do: refused, never left out."""
    return invalid(f"{name}: {why}", code="unsupported-parameter", param=name)


def said(error: Exception) -> ApiError:
    """The error a caller reads for one that the SDK raised. What nobody foresaw is a code and nothing more."""
    match error:
        case ApiError():
            return error
        case Refused():
            status, kind, retry = _REFUSALS.get(Code(error.code), (502, SERVER, False)) if _known(error) else _UNKNOWN
            return ApiError(status, kind, error.code, str(error), retry=retry, hint=error.hint)
        case RequestInvalid():
            return ApiError(413 if error.too_large else 400, INVALID, error.code, str(error), hint=error.hint)
        case AdapterNotGranted():
            return ApiError(403, PERMISSION, error.code, str(error), hint=error.hint)
        case LeaseEnded():
            return ApiError(503, AWAY, error.code, str(error), hint=error.hint)
        case Unavailable():
            return ApiError(503, AWAY, error.code, str(error), retry=True, hint="is the gateway up?")
        case Hinted():
            # The word is anybody's: it is quoted in the message, and the code says what it is.
            return ApiError(502, AWAY, "unauthenticated-hint", str(error), hint=error.hint)
        case Truncated():
            words = f"{error}; what was delivered is provisional and is not an answer"
            return ApiError(502, SERVER, error.code, words)
        case EvidenceError():
            hint = getattr(error, "hint", None) or f"anchorhold explain {error.code}"
            return ApiError(502, NOT_PROVED, error.code, str(error), hint=hint)
        case ClientError():
            return ApiError(502, NOT_PROVED, error.code, str(error), hint=error.hint)
        case _:
            # Its text may quote what was asked.
            return ApiError(500, SERVER, "internal", f"the proxy failed: {type(error).__name__}")


_UNKNOWN = (502, SERVER, False)


def _known(error: Refused) -> bool:
    return error.code in {one.value for one in Code}
