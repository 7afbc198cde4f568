"""Who signs a request: Signature Version 4 under a known principal's secret, for this realm, within five minutes."""

from datetime import UTC, datetime

from anchorhold.attestation.digest import length_prefixed
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.keystore import Keystore
from anchorhold.authority.kms.faults import KmsFault
from anchorhold.authority.kms.state import Principal, Realm, Transaction
from anchorhold.wire import sigv4

SERVICE = "kms"
PRINCIPAL_HANDLE = "principals"
_DIFFERENT = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)


def authenticate(
    request: sigv4.Request, transaction: Transaction, realm: Realm, keystore: Keystore, now: Milliseconds
) -> Principal:
    """The principal whose secret signed `request`. Raises KmsFault with AWS's names for each fault."""
    try:
        # 1. A signature in the form.
        authorization = sigv4.parse_authorization(request)
        # 2. A known caller. Access keys here are long-lived: a session token names no session of ours.
        principal = _principal(request, authorization, transaction)
        # 3. That caller's secret over exactly this request, for this service in this realm.
        secret = keystore.open(PRINCIPAL_HANDLE, principal.secret, secret_aad(principal.access_key_id)).decode()
        sigv4.check(request, authorization, secret, at=datetime.fromtimestamp(now / 1000, UTC))
        _check_scope(authorization, realm)
    except sigv4.Missing as error:
        raise KmsFault("MissingAuthenticationTokenException", "Request is missing Authentication Token") from error
    except sigv4.Incomplete as error:
        raise KmsFault("IncompleteSignatureException", str(error)) from error
    except sigv4.Skewed as error:
        raise KmsFault("InvalidSignatureException", str(error)) from error
    except sigv4.Different as error:
        raise KmsFault("InvalidSignatureException", _DIFFERENT) from error
    return principal


def _principal(request: sigv4.Request, authorization: sigv4.Authorization, transaction: Transaction) -> Principal:
    principal = transaction.principal(authorization.access_key_id)
    if principal is None or request.header("x-amz-security-token") is not None:
        raise KmsFault("UnrecognizedClientException", "The security token included in the request is invalid.")
    return principal


def _check_scope(authorization: sigv4.Authorization, realm: Realm) -> None:
    if (authorization.region, authorization.service) != (realm.region, SERVICE):
        raise sigv4.Different("the credential scope is another region's or service's")


def secret_aad(access_key_id: str) -> bytes:
    """What a stored secret is bound to, so that two principals' secrets cannot be swapped in the database."""
    return length_prefixed(PRINCIPAL_HANDLE.encode(), access_key_id.encode())
