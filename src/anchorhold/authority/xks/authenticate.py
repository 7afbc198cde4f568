"""Who signs a request: Signature Version 4 for `kms-xks-proxy` under one of at most two secrets, once, in the window.

Every refusal is AuthenticationFailedException: a wrong id, a wrong secret and a signature that came before look alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from anchorhold.attestation.digest import length_prefixed
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.keystore.store import Keystore
from anchorhold.authority.xks.faults import Error, XksFault
from anchorhold.authority.xks.state import MAX_SEEN, Credential, Transaction
from anchorhold.wire import sigv4

SERVICE = "kms-xks-proxy"
CREDENTIAL_HANDLE = "credentials"
WINDOW_MS = int(sigv4.MAX_SKEW.total_seconds() * 1000)
FORGET_EVERY_MS = 10_000


@dataclass(frozen=True, slots=True)
class Signed:
    """An authenticated request: whose, by which signature, and until when it could be accepted again."""

    access_key_id: str
    signature: bytes
    until: Milliseconds


class Signatures:
    """Signatures that were accepted, for as long as each could be accepted again: twice the window at most.

    They are kept in the database with the use they stood for, so a restart and a second process know them too. When
    there are `most`, every further request is refused until some are too old: a proxy that forgot would be repeatable.
    """

    def __init__(self, most: int = MAX_SEEN) -> None:
        self._most = most
        self._kept = most  # before the first count nothing is taken on trust
        self._counted = Milliseconds(0)

    def accept(
        self, transaction: Transaction, signed: Sequence[Signed], now: Milliseconds
    ) -> Sequence[XksFault | None]:
        """What there is against each: AuthenticationFailedException for one that was seen, ThrottlingException when
        there is no room.
        """
        if not 0 <= now - self._counted < FORGET_EVERY_MS:
            self._kept, self._counted = transaction.forget_signatures(now), now
        room = max(0, self._most - self._kept)
        asked = {one.signature: one.until for one in signed[:room]}
        new = set(transaction.see(asked))
        self._kept += len(new)
        found: list[XksFault | None] = []
        for place, one in enumerate(signed):
            if place >= room:
                found.append(XksFault(Error.THROTTLING, f"{self._most} signatures are remembered: no room for more"))
            elif one.signature in new:
                new.discard(one.signature)  # a second one of the same batch was seen before, too
                found.append(None)
            else:
                found.append(XksFault(Error.AUTHENTICATION_FAILED, "the signature was used before"))
        return found


@dataclass(slots=True)
class Secrets:
    """The secrets of the stored credentials, opened once each: a token is slow, and they change by rotation alone."""

    keystore: Keystore = field(repr=False)
    _opened: dict[bytes, str] = field(default_factory=dict, repr=False)

    def of(self, credentials: tuple[Credential, ...]) -> Mapping[str, str]:
        """Secret by access key id. Raises CannotOpen. What is no longer stored is forgotten here too."""
        self._opened = {one.sealed: self._opened.get(one.sealed) or self._open(one) for one in credentials}
        return {one.access_key_id: self._opened[one.sealed] for one in credentials}

    def _open(self, credential: Credential) -> str:
        return self.keystore.open(CREDENTIAL_HANDLE, credential.sealed, secret_aad(credential.access_key_id)).decode()


def authenticate(request: sigv4.Request, secrets: Mapping[str, str], region: str, now: Milliseconds) -> Signed:
    """Who signed. Raises AuthenticationFailedException."""
    try:
        # 1. A signature in the form, for this service in this region.
        authorization = sigv4.parse_authorization(request)
        if (authorization.region, authorization.service) != (region, SERVICE):
            raise sigv4.Different("the credential scope is another region's or service's")
        # 2. A known id. An unknown one is checked too, under no secret, so that both answers take the same time.
        secret = secrets.get(authorization.access_key_id)
        # 3. Its secret over exactly this request, at most five minutes ago or ahead.
        sigv4.check(request, authorization, secret or "", at=datetime.fromtimestamp(now / 1000, UTC))
        if secret is None:
            raise sigv4.Different("the access key id is unknown")
    except sigv4.SigV4Error as error:
        raise XksFault(Error.AUTHENTICATION_FAILED, str(error)) from error
    signature = bytes.fromhex(authorization.signature)
    return Signed(authorization.access_key_id, signature, Milliseconds(_signed_at(request) + WINDOW_MS))


def _signed_at(request: sigv4.Request) -> int:
    stamp = datetime.strptime(request.header("x-amz-date") or "", "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return int(stamp.timestamp() * 1000)


def secret_aad(access_key_id: str) -> bytes:
    """What a stored secret is bound to, so that two credentials' secrets cannot be swapped in the database."""
    return length_prefixed(CREDENTIAL_HANDLE.encode(), access_key_id.encode())
