"""What a client's caller has to tell apart. Evidence and channel errors keep their own family: `EvidenceError`.

Here is the rest: the enclave's own authenticated word that it did not answer, a hint that proves nothing, and no
answer at all.
"""

from anchorhold.attestation.channel.client import VerifiedReceipt
from anchorhold.attestation.channel.codes import Code
from anchorhold.attestation.release.codes import EXPLANATIONS


class ClientError(Exception):
    """Base of the family; `hint` is a next step for a person, if one is known."""

    code = "client"
    hint: str | None = None


class Refused(ClientError):
    """The enclave's own word, under its response key and with a verified receipt: it did not answer, and why."""

    def __init__(self, code: str, receipt: VerifiedReceipt) -> None:
        super().__init__(f"the enclave refused: {code}")
        self.code = code
        self.hint = f"anchorhold explain {code}"
        self.receipt = receipt


class LeaseEnded(ClientError):
    """The leave to serve is over: by the enclave's authenticated word, or because a lease it shows has expired."""

    code = Code.LEASE_ENDED.value
    hint = "the key's owner revoked or did not renew it; text delivered before is provisional and has no receipt"

    def __init__(self, message: str, receipt: VerifiedReceipt | None = None) -> None:
        super().__init__(message)
        self.receipt = receipt


class Hinted(ClientError):
    """An unauthenticated code instead of an answer, also after one re-verification and one re-seal."""

    hint = "this word is the gateway's or the network's, not the enclave's"

    def __init__(self, code: str, resealed: int) -> None:
        super().__init__(f"no answer, only an unauthenticated hint: {code!r} (re-sealed {resealed} times)")
        self.code = code
        self.resealed = resealed


class Unavailable(ClientError):
    """Nobody answered. Try again."""

    code = "unavailable"


class RequestInvalid(ClientError):
    """A request that no enclave would take; `too_large` where it is over a limit of size. Nothing of it was sent."""

    code = "request-invalid"
    hint = "the limits of a request are in docs/spec/channel.md"

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


class AdapterNotGranted(ClientError):
    """An adapter that no enclave would use for this client: no credential, or one that does not list it.

    Nothing of the request was sent.
    """

    code = "adapter-not-granted"
    hint = "ask the owner authority for a tenant credential that lists the adapter"


class TrustFileInvalid(ClientError):
    """A trust file that does not say, in the one form it has, whom to trust."""

    code = "trust-file"
    hint = "make one with: anchorhold trust init --state DIR"


def _remedy(code: str) -> str | None:
    return f"{EXPLANATIONS[code][1]} (anchorhold explain {code})" if code in EXPLANATIONS else None


class ReleaseListMissing(ClientError):
    """No release list to judge by: nothing is assumed in its place."""

    code = "release-list-missing"
    hint = "get the current list and name it: source in the trust file, or --releases FILE"


class ReleaseListRefused(ClientError):
    """A release list that may not be used, or that accepts no release: `code` says by which rule."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
        self.hint = _remedy(code)


class ReleaseMemoryInvalid(ClientError):
    """What was remembered of release lists cannot be read or kept, so a list gone back could not be told."""

    code = "release-memory"
    hint = "find out who changed it; to begin anew, check the list's version with its signers and remove the file"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class NotReleased(ClientError):
    """A genuine enclave of a release that is not accepted: revoked, expired, not yet in force. `code` says which."""

    def __init__(self, release: str, code: str) -> None:
        super().__init__(f"the enclave runs release {release!r}, which is not accepted: {code}")
        self.code = code
        self.hint = _remedy(code)
