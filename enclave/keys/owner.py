"""The `owner` source: share and lease from the anchorhold authority's release API (docs/spec/release.md 2 to 4).

Each request has a fresh challenge, a fresh one-time hybrid key, a fresh document and connections of its own. The share
is sealed to that key and to the statement that names it; the lease counts only under the lease key of the attested
configuration, and only if it answers exactly this request.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.binding import Ask, Release, encode_statement, nsm_nonce, statement_digest
from anchorhold.attestation.channel.seal import HybridPrivateKey
from anchorhold.attestation.configuration import Source
from anchorhold.attestation.digest import length_prefixed
from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.lease import Lease, verify_lease
from anchorhold.attestation.purpose import Purpose, check_granted
from anchorhold.attestation.sealed.manifest import ShareKind, ShareRole, WrappedShare
from anchorhold.attestation.sealed.shares import share_check
from anchorhold.attestation.types import StatementDigest
from anchorhold.enclave.keys.https import MAX_ANSWER, Answer, host_header, post
from anchorhold.enclave.keys.hybrid import draw_hybrid
from anchorhold.enclave.keys.secret import Secret
from anchorhold.enclave.keys.source import Fact, Refused, Released, Renewal, SourceContext, SourceUnavailable
from anchorhold.enclave.nsm.module import NsmError

CONTENT_TYPE = "application/cbor"
CHALLENGE_PATH, RELEASE_PATH = "/v1/challenge", "/v1/release"
CHALLENGE_BYTES = 32
SHARE_BYTES = 32
MAX_CODE = 32
# The authority was restarted, or the parent held the challenge back: another one may do.
_LATER = frozenset({"challenge"})


class OwnerSource:
    """See the module. `blob` is the manifest's wrapped share, `holds` whether a secret is the share that was sealed."""

    def __init__(
        self,
        source: Source,
        context: SourceContext,
        *,
        blob: bytes,
        holds: Callable[[bytes | bytearray | memoryview], bool],
        renewal: Renewal | None = None,
    ) -> None:
        if source.kind != "owner":
            raise ValueError(f"source {source.name!r}: expected kind owner, got {source.kind!r}")
        self._source = source
        self._context = context
        self._blob = blob
        self._holds = holds
        self._renewal = renewal
        self._lease_key = Ed25519PublicKey.from_public_bytes(source.lease_key)

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def custodian(self) -> str:
        return self._source.custodian

    def request(self, ask: Ask, *, number: int, purposes: Sequence[Purpose]) -> Released:
        """See KeySource.

        1. a challenge from the authority;
        2. a fresh one-time key, a `release` statement that names both, a document that vouches for it;
        3. the request; the lease's time starts before it is sent;
        4. the lease is signed by the configured key, answers exactly this statement and grants no more than was asked;
        5. the share opens for the fresh key and this statement, and proves itself; a new one, which nothing can prove,
           comes with a copy for each purpose class, under the configured key.
        """
        # 1. The challenge.
        challenge = self._challenge()
        # 2. The statement.
        key = draw_hybrid()
        asked = self._attest(ask, key, challenge, number, purposes)
        # 3. The request.
        body = canonical.encode(
            {
                "document": asked.document,
                "statement": encode_statement(asked.release),
                "blob": self._blob if ask is Ask.KEY else None,
            }
        )
        sent_at = self._context.boottime()
        fields: dict[str, type | tuple[type, ...]] = {"sealed": (bytes, type(None)), "lease": bytes}
        if ask is Ask.SHARE:
            fields |= {"wrapped": dict, "key_id": str}
        members = self._members(self._post(RELEASE_PATH, body), fields)
        # 4. The lease.
        raw_lease = cast("bytes", members["lease"])
        lease = self._lease(raw_lease, asked)
        # 5. The share.
        share = self._share(cast("bytes | None", members["sealed"]), ask, key, asked.digest)
        wrapped = self._wrapped(members, share) if ask is Ask.SHARE else ()
        facts: dict[str, Fact] = {"operation": "release", "key": wrapped[0].key if wrapped else self._source.key}
        return Released(
            share=share,
            lease=raw_lease,
            granted=lease,
            lease_ttl_ms=min(lease.ttl_ms, self._source.lease_ttl_ms),
            sent_at_boottime=sent_at,
            statement=encode_statement(asked.release),
            document=asked.document,
            facts=facts,
            wrapped=wrapped,
        )

    def _challenge(self) -> bytes:
        answer = self._post(CHALLENGE_PATH, canonical.encode({}))
        members = self._members(answer, {"challenge": bytes, "expires": int})
        challenge = cast("bytes", members["challenge"])
        if len(challenge) != CHALLENGE_BYTES:
            raise Refused(self.name, "answer", f"challenge: expected {CHALLENGE_BYTES} bytes, got {len(challenge)}")
        return challenge

    def _attest(
        self, ask: Ask, key: HybridPrivateKey, challenge: bytes, number: int, purposes: Sequence[Purpose]
    ) -> "_Asked":
        release = Release(
            boot_id=self._context.boot_id,
            genesis=self._context.genesis,
            source=self._source.name,
            ask=ask,
            model=self._context.model,
            purposes=tuple(purposes),
            request=number,
            challenge=challenge,
            release_key=key.public,
            rsa_key=None,
            adapter=self._context.adapter,
        )
        digest = statement_digest(release)
        try:
            document = self._context.nsm.attest(user_data=digest, nonce=nsm_nonce(Release, challenge))
        except NsmError as error:
            raise SourceUnavailable(self.name, "nsm", str(error)) from error
        return _Asked(release, digest, document)

    def _post(self, path: str, body: bytes) -> Answer:
        headers = {"Host": host_header(self._source), "Content-Type": CONTENT_TYPE}
        return post(self._source, self._context.open_stream, path, headers, body)

    def _members(self, answer: Answer, fields: dict[str, type | tuple[type, ...]]) -> dict[str, canonical.Value]:
        if answer.status != 200:
            self._refuse(answer)
        try:
            return canonical.decode_map(answer.body, "answer", limit=MAX_ANSWER, fields=fields)
        except EvidenceError as error:
            raise Refused(self.name, "answer", str(error)) from error

    def _refuse(self, answer: Answer) -> None:
        try:
            members = canonical.decode(answer.body, "refusal", limit=MAX_ANSWER)
        except EvidenceError:
            members = None
        code = members.get("code") if isinstance(members, dict) else None
        if (
            not isinstance(code, str)
            or not 1 <= len(code) <= MAX_CODE
            or set(code) - set("abcdefghijklmnopqrstuvwxyz-")
        ):
            code = "unknown"
        if answer.status >= 500 or code in _LATER:
            raise SourceUnavailable(self.name, code, f"HTTP status {answer.status}")
        raise Refused(self.name, code, f"HTTP status {answer.status}")

    def _lease(self, raw: bytes, asked: "_Asked") -> Lease:
        release = asked.release
        try:
            lease = verify_lease(raw, self._lease_key)
            lease.check_boot(
                boot_id=release.boot_id, genesis=release.genesis, model=release.model, adapter=release.adapter
            )
            for what, expected, actual in (
                ("source of the lease", release.source, lease.source),
                ("request of the lease", release.request, lease.request),
                ("release of the lease", asked.digest, lease.release),
            ):
                if expected != actual:
                    raise Mismatch(what, expected=expected, actual=actual, code="lease-mismatch")
            check_granted(release.purposes, lease.purposes)
        except EvidenceError as error:
            raise Refused(self.name, "answer", str(error)) from error
        return lease

    def _share(self, sealed: bytes | None, ask: Ask, key: HybridPrivateKey, digest: StatementDigest) -> Secret | None:
        if (sealed is None) != (ask is Ask.LEASE):
            raise Refused(self.name, "answer", "expected a sealed share if and only if one was asked for")
        if sealed is None:
            return None
        try:
            share = key.open(sealed, info=length_prefixed(labels.RELEASE_SEAL, digest))
        except EvidenceError as error:
            raise Refused(self.name, "answer", "the share does not open") from error
        if len(share) != SHARE_BYTES or not (ask is Ask.SHARE or self._holds(share)):
            # The same words as above: whoever answers learns nothing from which of the two it was.
            raise Refused(self.name, "answer", "the share does not open")
        return Secret(share)

    def _wrapped(self, members: Mapping[str, canonical.Value], share: Secret | None) -> tuple[WrappedShare, ...]:
        """The copies of a new share. Raises Refused, and wipes it then."""
        renewal = self._renewal
        assert share is not None
        if renewal is None:
            share.wipe()
            raise ValueError("this boot seals nothing anew")
        blobs = cast("Mapping[str, canonical.Value]", members["wrapped"])
        try:
            if members["key_id"] != renewal.key:
                raise Mismatch("key of the new share", expected=renewal.key, actual=members["key_id"])
            made = [(one, blobs.get(one.value)) for one in renewal.classes]
            if lacking := [one.value for one, blob in made if not isinstance(blob, bytes)]:
                raise Mismatch("purpose classes of the new share", expected=lacking[0], actual=sorted(blobs))
            check = share_check(share.view(), self._context.model, self.name, ShareRole.SHARE)
            of = (self.name, ShareKind.OWNER, ShareRole.SHARE)
            return tuple(WrappedShare(*of, one, renewal.key, cast("bytes", blob), check) for one, blob in made)
        except EvidenceError as error:
            share.wipe()
            raise Refused(self.name, "answer", str(error)) from error


@dataclass(frozen=True, slots=True)
class _Asked:
    release: Release
    digest: StatementDigest
    document: bytes
