"""What a client's caller has to tell apart. Evidence and channel errors keep their own family: `EvidenceError`.

Here is the rest: the enclave's own authenticated word that it did not answer, a hint that proves nothing, and no
answer at all.
"""

from anchorhold.attestation.channel.client import VerifiedReceipt
from anchorhold.attestation.channel.codes import Code


class ClientError(Exception):
    """Base of the family; `hint` is a next step for a person, if one is known."""

    code = "client"
    hint: str | None = None


class Refused(ClientError):
    """The enclave's own word, under its response key and with a verified receipt: it did not answer, and why."""

    def __init__(self, code: str, receipt: VerifiedReceipt) -> None:
        super().__init__(f"the enclave refused: {code}")
        self.code = code
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


class TrustFileInvalid(ClientError):
    """A trust file that does not say, in the one form it has, whom to trust."""

    code = "trust-file"
    hint = "make one with: anchorhold trust init --state DIR"


class ReleaseListMissing(ClientError):
    """No release list to judge by: nothing is assumed in its place."""

    code = "release-list-missing"
    hint = "get the current list and name it: source in the trust file, or --releases FILE"


class ReleaseListRefused(ClientError):
    """A release list that may not be used, or that accepts no release: `code` says by which rule."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
        self.hint = _HINTS.get(code)


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
        self.hint = _HINTS.get(code)


_HINTS = {
    "list-too-old": "get a list signed since then: an old one could hide a revocation, so nothing is assumed",
    "list-rolled-back": "somebody handed out an older list than this client has seen; get the current one",
    "list-forked": "two lists of one version are signed: ask the signers which they meant",
    "list-unrevokes": "somebody took a revocation out of the list; get the list from its signers",
    "list-in-future": "is this machine's clock right?",
    "list-threshold": "too few of the signers in the trust file signed it",
    "list-product": "this is another product's list",
    "list-incomplete": "part of it was left out; get it whole",
    "no-accepted-release": "its signers accept nothing now; get the current list, or ask them",
    "release-revoked": "its signers took it back; the operator must deploy an accepted release",
    "release-expired": "the operator must deploy a release in force, or its signers sign it again",
    "release-not-yet": "its public delay is not over",
    "release-not-logged": "a release counts once it is in the log of the trust file: anchorhold release log",
    "release-not-listed": "its signers left it out of the list",
    "release-threshold": "too few of the signers in the trust file signed it",
}
