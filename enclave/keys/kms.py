"""The `kms` source: `Decrypt` with `Recipient`, at AWS KMS or whatever speaks it (DESIGN 5).

A new share is `GenerateDataKey` with `Recipient`; its further copies are `kms_copies.py`'s.

Each request has a fresh RSA key, a fresh document and a connection of its own. The parent's credentials choose who
calls; key, region, endpoint and encryption context come from the attested configuration and the signed manifest alone.
A KMS signs no lease, so the lease here is asserted by the receipt key: the enclave's own word.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from anchorhold.attestation.binding import (
    Ask,
    Release,
    encode_statement,
    nsm_nonce,
    rsa_key_digest,
    statement_digest,
)
from anchorhold.attestation.configuration import Source
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.lease import NOT_SAID, Lease, sign_lease
from anchorhold.attestation.purpose import Grant, Purpose
from anchorhold.attestation.sealed.manifest import ShareRole, WrappedShare
from anchorhold.attestation.sealed.shares import encryption_context
from anchorhold.attestation.types import Milliseconds, StatementDigest
from anchorhold.enclave.keys.envelope import EnvelopeInvalid, open_envelope
from anchorhold.enclave.keys.https import Answer, host_header, post
from anchorhold.enclave.keys.kms_copies import copies
from anchorhold.enclave.keys.secret import Secret
from anchorhold.enclave.keys.source import Fact, Refused, Released, Renewal, SourceContext, SourceUnavailable
from anchorhold.enclave.nsm.module import NsmError
from anchorhold.wire import sigv4

RSA_BITS = 2_048  # what AWS's own SDK makes; the envelope's real samples are of this size
RSA_EXPONENT = 65_537
SECRET_BYTES = 32  # a share, and a lease blob's content
CONTENT_TYPE = "application/x-amz-json-1.1"
DECRYPT, GENERATE = "Decrypt", "GenerateDataKey"
OAEP = "RSAES_OAEP_SHA_256"
SERVICE = "kms"
_NAME = re.compile(r"[A-Za-z]{1,64}")
_REQUEST_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
# A 400 that says "later", not "no".
_LATER = frozenset({"ThrottlingException", "LimitExceededException", "RequestLimitExceeded"})


@dataclass(frozen=True, slots=True)
class WrappedSecret:
    """One wrapped secret of the signed manifest, with its context and the test that proves what comes out."""

    blob: bytes = field(repr=False)
    encryption_context: Mapping[str, str]
    holds: Callable[[bytes | bytearray | memoryview], bool]
    """Whether a secret is the one that was sealed: compares its check value, in constant time."""


class KmsSource:
    """See the module. `share` and `lease` are the manifest's two blobs for this source and purpose class."""

    def __init__(
        self,
        source: Source,
        context: SourceContext,
        credentials: Callable[[], sigv4.Credentials],
        *,
        share: WrappedSecret,
        lease: WrappedSecret,
        renewal: Renewal | None = None,
    ) -> None:
        if source.kind != "kms":
            raise ValueError(f"source {source.name!r}: expected kind kms, got {source.kind!r}")
        self._source = source
        self._context = context
        self._credentials = credentials
        self._wrapped = {Ask.KEY: share, Ask.LEASE: lease}
        self._renewal = renewal

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def custodian(self) -> str:
        return self._source.custodian

    def request(self, ask: Ask, *, number: int, purposes: Sequence[Purpose]) -> Released:
        """See KeySource. The credentials are asked for anew each time, because they expire long before an enclave does.

        1. a fresh key, a `release` statement that names it, a document that carries both;
        2. `Decrypt` with this recipient, signed, to the configured endpoint; the lease's time starts before it is sent;
        3. the answer is for the configured key ARN, and has an envelope and no plaintext;
        4. the envelope opens for the fresh key, and what is in it proves itself;
        5. a new share, which nothing can prove, is wrapped for every other purpose class under the same key.
        """
        # 1. The recipient.
        credentials = self._caller()
        key = rsa.generate_private_key(RSA_EXPONENT, RSA_BITS)
        attested = self._attest(ask, key, number, purposes)
        # 2. The call.
        call = self._operation(ask)
        sent_at, sent_ms = self._context.boottime(), self._context.now_ms()
        recipient = {"KeyEncryptionAlgorithm": OAEP, "AttestationDocument": _base64(attested.document)}
        answer = self._call(call.operation, call.members | {"Recipient": recipient}, credentials, sent_ms)
        facts: dict[str, Fact] = {"key": call.key, "operation": call.operation}
        request_id = answer.headers.get("x-amzn-requestid", "")
        if _REQUEST_ID.fullmatch(request_id):
            facts["kms_request_id"] = request_id
        # 3. and 4. The answer.
        members = self._answered(answer, call.key, facts)
        secret = self._open(members, key, call.holds, facts)
        # 5. The copies of a new share.
        copies = self._copies(members, secret, credentials, sent_ms) if ask is Ask.SHARE else ()
        if ask is Ask.LEASE:
            secret.wipe()
        lease, raw_lease = self._assert_lease(attested.digest, number, purposes, sent_ms)
        return Released(
            share=None if ask is Ask.LEASE else secret,
            lease=raw_lease,
            granted=lease,
            lease_ttl_ms=self._source.lease_ttl_ms,
            sent_at_boottime=sent_at,
            statement=attested.statement,
            document=attested.document,
            facts=facts,
            wrapped=copies,
        )

    def _operation(self, ask: Ask) -> "_Call":
        if ask is Ask.SHARE:
            renewal = self._renews
            context = encryption_context(
                renewal.model_id, self._context.model, ShareRole.SHARE.value, renewal.classes[0].value
            )
            members: dict[str, object] = {"KeyId": renewal.key, "KeySpec": "AES_256", "EncryptionContext": context}
            return _Call(GENERATE, renewal.key, members, lambda _: True)
        wrapped = self._wrapped[ask]
        members = {
            "CiphertextBlob": _base64(wrapped.blob),
            "EncryptionContext": dict(wrapped.encryption_context),
            "KeyId": self._source.key,
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        }
        return _Call(DECRYPT, self._source.key, members, wrapped.holds)

    @property
    def _renews(self) -> Renewal:
        if self._renewal is None:
            raise ValueError("this boot seals nothing anew")
        return self._renewal

    def _copies(
        self, members: Mapping[str, object], share: Secret, credentials: sigv4.Credentials, now: Milliseconds
    ) -> tuple[WrappedShare, ...]:
        def call(operation: str, asked: Mapping[str, object]) -> Mapping[str, object]:
            return self._answered(self._call(operation, asked, credentials, now), self._renews.key, {})

        try:
            return copies(self._source, self._context.model, self._renews, members, share, call)
        except BaseException:
            share.wipe()
            raise

    def _caller(self) -> sigv4.Credentials:
        try:
            return self._credentials()
        except (OSError, EvidenceError) as error:
            raise SourceUnavailable(self.name, "credentials", str(error)) from error

    def _attest(self, ask: Ask, key: rsa.RSAPrivateKey, number: int, purposes: Sequence[Purpose]) -> "_Attested":
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        release = Release(
            boot_id=self._context.boot_id,
            genesis=self._context.genesis,
            source=self._source.name,
            ask=ask,
            model=self._context.model,
            purposes=tuple(purposes),
            request=number,
            challenge=b"",  # AWS KMS gives none (DESIGN 12.5); TLS is what keeps a replay from being answered to us
            release_key=None,
            rsa_key=rsa_key_digest(spki),
            adapter=self._context.adapter,
        )
        digest = statement_digest(release)
        try:
            document = self._context.nsm.attest(
                user_data=digest, nonce=nsm_nonce(Release, release.challenge), public_key=spki
            )
        except NsmError as error:
            raise SourceUnavailable(self.name, "nsm", str(error)) from error
        return _Attested(encode_statement(release), digest, document)

    def _call(
        self, operation: str, members: Mapping[str, object], credentials: sigv4.Credentials, now: Milliseconds
    ) -> Answer:
        body = json.dumps(members).encode()
        target = f"TrentService.{operation}"
        headers = (("Host", host_header(self._source)), ("Content-Type", CONTENT_TYPE), ("X-Amz-Target", target))
        signature = sigv4.sign(
            sigv4.Request("POST", "/", "", headers, body),
            credentials,
            region=self._source.region,
            service=SERVICE,
            at=datetime.fromtimestamp(now / 1000, UTC),
        )
        return post(self._source, self._context.open_stream, "/", dict((*headers, *signature)), body)

    def _answered(self, answer: Answer, key: str, facts: Mapping[str, Fact]) -> Mapping[str, object]:
        members = _members(answer)
        if answer.status != 200:
            self._refuse(answer.status, members, facts)
        # Exactly the configured key; a plaintext beside the envelope would have crossed a hop it must not.
        if members.get("KeyId") != key:
            raise Refused(self.name, "key", "the answer is for another key than the configured one", facts=facts)
        if members.get("Plaintext"):
            raise Refused(self.name, "plaintext", "the answer holds a plaintext beside the envelope", facts=facts)
        return members

    def _open(
        self,
        members: Mapping[str, object],
        key: rsa.RSAPrivateKey,
        holds: Callable[[bytes | bytearray | memoryview], bool],
        facts: Mapping[str, Fact],
    ) -> Secret:
        # 4. One refusal for whatever does not open or does not prove itself: no oracle.
        try:
            envelope = base64.b64decode(cast("str", members.get("CiphertextForRecipient")), validate=True)
            content = open_envelope(envelope, key)
        except (ValueError, TypeError, EnvelopeInvalid):
            raise Refused(self.name, "envelope", "the answer does not open", facts=facts) from None
        if len(content) != SECRET_BYTES or not holds(content):
            content[:] = bytes(len(content))
            raise Refused(self.name, "envelope", "the answer does not open", facts=facts)
        return Secret(content)

    def _refuse(self, status: int, members: Mapping[str, object], facts: Mapping[str, Fact]) -> None:
        name = str(members.get("__type", "")).rpartition("#")[2]
        code = name if _NAME.fullmatch(name) else "unknown"
        # The text of an answer is somebody else's words: only the error's name goes on.
        if status >= 500 or code in _LATER:
            raise SourceUnavailable(self.name, code, f"HTTP status {status}", facts=facts)
        raise Refused(self.name, code, f"HTTP status {status}", facts=facts)

    def _assert_lease(
        self, release: StatementDigest, number: int, purposes: Sequence[Purpose], sent: Milliseconds
    ) -> tuple[Lease, bytes]:
        # A KMS decides on no purpose: what was asked for is all that this lease can say (DESIGN 5).
        lease = Lease(
            source=self._source.name,
            boot_id=self._context.boot_id,
            genesis=self._context.genesis,
            model=self._context.model,
            purposes=tuple(Grant(one) for one in purposes),
            request=number,
            release=release,
            ttl_ms=self._source.lease_ttl_ms,
            not_after=Milliseconds(sent + self._source.lease_ttl_ms),
            keystore=NOT_SAID,
            adapter=self._context.adapter,
        )
        return lease, sign_lease(lease, self._context.receipt_key, asserted=True)


@dataclass(frozen=True, slots=True)
class _Call:
    """One operation, the key its answer must name, and what proves a secret out of it."""

    operation: str
    key: str
    members: dict[str, object]
    holds: Callable[[bytes | bytearray | memoryview], bool]


@dataclass(frozen=True, slots=True)
class _Attested:
    statement: bytes
    digest: StatementDigest
    document: bytes


def _members(answer: Answer) -> Mapping[str, object]:
    try:
        value: object = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
