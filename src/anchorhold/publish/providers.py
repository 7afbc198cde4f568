"""Where shares come from while sealing: a KMS, or the owner's authority.

A share is made by its source and wrapped once for each purpose class wanted; the publisher keeps the plaintext only
until the model key exists.
"""

import http.client
import json
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from anchorhold.attestation.canonical import decode, decode_map, encode
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.manifest import MAX_BLOB, PurposeClass, ShareKind, ShareRole, WrappedShare
from anchorhold.attestation.sealed.shares import SHARE_BYTES, encryption_context, share_check
from anchorhold.attestation.types import ModelDigest
from anchorhold.publish.errors import ProviderUnavailable, PublishError, ShareRefused

MAX_ANSWER = 64 << 10  # bytes of an owner authority's answer; a share with its blob takes about 300
MAX_WORDS = 400  # characters of its refusal that are shown
TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Subject:
    """What a share is for."""

    model: ModelDigest
    model_id: str
    version: str


@dataclass(frozen=True, slots=True)
class NewShare:
    """A fresh share, to be wiped by who asked for it, and its wrapped copies."""

    source: str
    share: bytearray
    wrapped: tuple[WrappedShare, ...]

    def __repr__(self) -> str:
        return f"NewShare({self.source!r})"  # never the share


class ShareProvider(Protocol):
    """One source of shares, under the name that deployments give it."""

    source: str

    def new_share(self, subject: Subject, purposes: Sequence[PurposeClass]) -> NewShare:
        """A share nobody had before, wrapped for each purpose. Raises ShareRefused or ProviderUnavailable."""
        ...


class KmsShares:
    """Shares by `GenerateDataKey` of a KMS, further copies and the lease secret by `Encrypt` under the same key."""

    def __init__(self, source: str, key: str, client: Any) -> None:
        self.source = source
        self._key = key
        self._client = client

    def new_share(self, subject: Subject, purposes: Sequence[PurposeClass]) -> NewShare:
        """See ShareProvider."""
        first, *others = purposes
        context = _context(subject, ShareRole.SHARE, first)
        made = self._call("generate_data_key", KeySpec="AES_256", EncryptionContext=context)
        share, key = bytearray(made["Plaintext"]), str(made["KeyId"])
        if len(share) != SHARE_BYTES:
            raise ShareRefused(f"source {self.source!r}: expected a share of {SHARE_BYTES} bytes, got {len(share)}")
        wrapped = [self._wrapped(subject, ShareRole.SHARE, first, key, bytes(made["CiphertextBlob"]), share)]
        wrapped += [self._encrypt(subject, ShareRole.SHARE, purpose, share) for purpose in others]
        # Every class is one that a boot is started for, resealing too, and every boot renews its lease.
        for purpose in purposes:
            lease = bytearray(secrets.token_bytes(SHARE_BYTES))
            wrapped.append(self._encrypt(subject, ShareRole.LEASE, purpose, lease))
        if any(one.key != key for one in wrapped):
            raise ShareRefused(f"source {self.source!r}: expected every copy under {key!r}")
        return NewShare(self.source, share, tuple(wrapped))

    def _encrypt(self, subject: Subject, role: ShareRole, purpose: PurposeClass, secret: bytearray) -> WrappedShare:
        context = _context(subject, role, purpose)
        made = self._call("encrypt", Plaintext=bytes(secret), EncryptionContext=context)
        return self._wrapped(subject, role, purpose, str(made["KeyId"]), bytes(made["CiphertextBlob"]), secret)

    def _wrapped(
        self, subject: Subject, role: ShareRole, purpose: PurposeClass, key: str, blob: bytes, secret: bytearray
    ) -> WrappedShare:
        check = share_check(secret, subject.model, self.source, role)
        return WrappedShare(self.source, ShareKind.KMS, role, purpose, key, blob, check)

    def _call(self, operation: str, **arguments: object) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(KeyId=self._key, **arguments)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            raise ShareRefused(f"source {self.source!r}: {operation}: {code}") from error
        except BotoCoreError as error:
            raise ProviderUnavailable(f"source {self.source!r}: {operation}: {type(error).__name__}") from error
        return answer


class OwnerShares:
    """Shares by the owner authority's admin API: canonical CBOR over HTTPS, under its bearer token and its own CA.

    `tenant`: whose the model is, whose key wraps the share.
    """

    def __init__(self, source: str, url: str, *, token: str, ca: Path, tenant: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or parts.hostname is None:
            raise PublishError(f"source {source!r}: expected an https address, got {url!r}")
        self.source = source
        self._host, self._port = parts.hostname, parts.port or 443
        self._token = token
        self._tenant = tenant
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.load_verify_locations(cafile=ca)

    def new_share(self, subject: Subject, purposes: Sequence[PurposeClass]) -> NewShare:
        """See ShareProvider. The first purpose makes the share, the others have the same one wrapped again."""
        share: bytearray | None = None
        wrapped: list[WrappedShare] = []
        for purpose in purposes:
            got, blob, key = self._ask(subject, purpose, share)
            if share is not None and got != share:
                raise ShareRefused(f"source {self.source!r}: the copy for {purpose} is not of the same share")
            share = got
            check = share_check(share, subject.model, self.source, ShareRole.SHARE)
            wrapped.append(WrappedShare(self.source, ShareKind.OWNER, ShareRole.SHARE, purpose, key, blob, check))
        assert share is not None
        return NewShare(self.source, share, tuple(wrapped))

    def _ask(self, subject: Subject, purpose: PurposeClass, share: bytearray | None) -> tuple[bytearray, bytes, str]:
        request: dict[str, str | bytes] = {
            "model": bytes(subject.model),
            "model_id": subject.model_id,
            "version": subject.version,
            "purpose_class": purpose.value,
        }
        if self._tenant is not None:
            request["tenant"] = self._tenant
        if share is not None:
            request["share"] = bytes(share)
        answer = self._post("/v1/admin/shares", encode(request))
        shape: dict[str, type | tuple[type, ...]] = {"share": bytes, "blob": bytes, "key_id": str}
        try:
            value = decode_map(answer, f"source {self.source!r}: answer", limit=MAX_ANSWER, fields=shape)
        except EvidenceError as error:
            raise ShareRefused(str(error)) from error
        made, blob, key = value["share"], value["blob"], value["key_id"]
        assert isinstance(made, bytes)
        assert isinstance(blob, bytes)
        if len(made) != SHARE_BYTES or not 0 < len(blob) <= MAX_BLOB:
            raise ShareRefused(f"source {self.source!r}: expected a share of {SHARE_BYTES} bytes and a blob")
        return bytearray(made), blob, str(key)

    def _post(self, path: str, body: bytes) -> bytes:
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=self._tls)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/cbor"}
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            raw = answer.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            raise ProviderUnavailable(f"source {self.source!r}: {type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise ShareRefused(f"source {self.source!r}: expected 200, got {answer.status}{_words(raw)}")
        return raw


def _words(raw: bytes) -> str:
    """What an owner authority says of its refusal; nothing where it is not in its form."""
    try:
        said = decode(raw, "answer", limit=MAX_ANSWER)
    except EvidenceError:
        return ""
    members = said if isinstance(said, dict) else {}
    told = [one for one in (members.get("code"), members.get("detail")) if isinstance(one, str) and one]
    text = "".join(f": {one}" for one in told)[:MAX_WORDS]
    return "".join(one if one.isprintable() else "?" for one in text)  # on its way to a terminal


def kms_client(*, endpoint: str | None, region: str, ca: Path | None, credentials: Path | None) -> Any:
    """A boto3 KMS client. `credentials` is the JSON file of a deployment; without it boto3's own chain decides."""
    keys: dict[str, str | None] = {}
    if credentials is not None:
        try:
            given = json.loads(credentials.read_bytes())
            keys = {
                "aws_access_key_id": given["access_key_id"],
                "aws_secret_access_key": given["secret_access_key"],
                "aws_session_token": given.get("session_token"),
            }
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise PublishError(f"credentials: {credentials} is not readable") from error
    session = boto3.session.Session(region_name=region, **keys)
    return session.client("kms", endpoint_url=endpoint, verify=str(ca) if ca else None)


def _context(subject: Subject, role: ShareRole, purpose: PurposeClass) -> dict[str, str]:
    return encryption_context(subject.model_id, subject.model, role.value, purpose.value)
