"""A parent that relays the authority's challenge to the public `Attest`: it gets a genuine document, and no key for it.

Everything here is what a parent has: the window, the sources' addresses and CA certificates, the KMS credentials and
the sealed folder with its wrapped shares.
"""

import asyncio
import hashlib
import json
import secrets
from dataclasses import dataclass, replace
from typing import Any

import pytest
from botocore.exceptions import ClientError as KmsError
from tests.e2e.cell import Base, Cell, Cells

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import Ask, Release, Serve, decode_statement, encode_statement
from anchorhold.attestation.channel.seal import HYBRID_SEED, HybridPrivateKey
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.sealed.manifest import PurposeClass, ShareRole, WrappedShare, decode_manifest
from anchorhold.attestation.sealed.shares import encryption_context
from anchorhold.authority.owner.client import AdminClient
from anchorhold.client.gateway import GrpcGateway
from anchorhold.client.releases import Releases
from anchorhold.client.sdk import utc_now
from anchorhold.client.session import AttestAnswer, open_session
from anchorhold.sim.deploy import PURPOSE, Face, KmsDesk

pytestmark = pytest.mark.slow
FORBIDDEN = 403


@pytest.fixture
def cell(cells: Cells) -> Cell:
    return cells.start().serving()


@dataclass
class HostileParent:
    """Asks in its own name, with what it has."""

    base: Base
    cell: Cell

    def __post_init__(self) -> None:
        self.record: dict[str, Any] = json.loads((self.base.state / "stack.json").read_text())
        owner = self.record["owner"]
        self._owner = AdminClient(owner["url"], Face(owner["url"], self.base.state / "owner").ca, token="")
        self.manifest = decode_manifest((self.base.state / "model/signed/manifest").read_bytes())

    def challenge(self) -> bytes:
        status, raw = self._owner.post("/v1/challenge", canonical.encode({}))
        members = canonical.decode(raw, "challenge", limit=1_024)
        assert (status, isinstance(members, dict)) == (200, True)
        assert isinstance(members, dict)
        challenge = members["challenge"]
        assert isinstance(challenge, bytes)
        return challenge

    def attest(self, nonce: bytes) -> AttestAnswer:
        """The public `Attest`, as any client reaches it."""

        async def run() -> AttestAnswer:
            gateway = GrpcGateway(self.cell.trust.gateway)
            try:
                return await gateway.attest(nonce, with_configuration=True)
            finally:
                await gateway.close()

        return asyncio.run(run())

    def release(self, document: bytes, statement: bytes) -> tuple[int, str]:
        """Status and code of a release request, and that nothing else was in the answer."""
        body = {"document": document, "statement": statement, "blob": self.share("owner").blob}
        status, raw = self._owner.post("/v1/release", canonical.encode(body))
        members = canonical.decode(raw, "answer", limit=65_536)
        assert isinstance(members, dict)
        assert members.keys() == {"code"}
        return status, str(members["code"])

    def share(self, source: str) -> WrappedShare:
        shares = self.manifest.wrapped(ShareRole.SHARE, PurposeClass.SERVE)
        return next(share for share in shares if share.source == source)

    def decrypt(self, document: bytes | None) -> str:
        """The name of the KMS's error: the parent's own call, under the enclave's credentials."""
        share = self.share("kms")
        wanted: dict[str, object] = {
            "KeyId": share.key,
            "CiphertextBlob": share.blob,
            "EncryptionContext": encryption_context(
                self.manifest.descriptor.model_id, self.manifest.digest, share.role.value, share.purpose_class.value
            ),
        }
        if document is not None:
            wanted["Recipient"] = {
                "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
                "AttestationDocument": document,
            }
        client = KmsDesk(Face(self.record["kms"]["url"], self.base.state / "kms")).client("enclave")
        with pytest.raises(KmsError) as refusal:
            client.decrypt(**wanted)
        return str(refusal.value.response["Error"]["Code"])


@pytest.fixture
def parent(base: Base, cell: Cell) -> HostileParent:
    return HostileParent(base, cell)


def test_the_owners_challenge_at_the_public_attest_gains_nothing(base: Base, parent: HostileParent) -> None:
    challenge = parent.challenge()
    answer = parent.attest(challenge)
    # 1. What came back is genuine and for that very challenge: a client would take it.
    trust, now = parent.cell.trust, utc_now()
    assert trust.releases is not None
    open_session(answer, trust, nonce=challenge, now=now, releases=Releases(trust, trust.releases).accepted(now))
    serve = decode_statement(answer.statement, Serve)
    before = len(base.journal("owner"))
    # 2. It says `serve`, and the authority takes `release` alone.
    assert parent.release(answer.document, answer.statement) == (FORBIDDEN, "statement")
    # 3. A `release` statement of the parent's own making, for its own key: the document does not vouch for it.
    key = HybridPrivateKey(secrets.token_bytes(HYBRID_SEED))
    forged = Release(
        boot_id=serve.boot_id,
        genesis=serve.genesis,
        source="owner",
        ask=Ask.KEY,
        model=serve.model,
        purposes=(Purpose(PURPOSE),),
        request=1_000,
        challenge=challenge,
        release_key=key.public,
        rsa_key=None,
    )
    assert parent.release(answer.document, encode_statement(forged)) == (FORBIDDEN, "evidence")
    # 4. With the enclave's real number of requests, as a renewal would look.
    assert parent.release(answer.document, encode_statement(replace(forged, request=2))) == (FORBIDDEN, "evidence")
    # 5. The journal has each refusal with its reason, and no grant for that document.
    document = hashlib.sha256(answer.document).digest()
    mine = [entry for entry in base.journal("owner")[before:] if entry.body.get("document") == document]
    assert [(entry.type, entry.body["code"]) for entry in mine] == [
        ("deny", "statement"),
        ("deny", "evidence"),
        ("deny", "evidence"),
    ]
    assert "nonce: nonce differs" in str(mine[-1].body["detail"])


def test_the_public_document_opens_nothing_at_the_kms(parent: HostileParent) -> None:
    answer = parent.attest(secrets.token_bytes(32))
    # A genuine document with the right measurements, but no key in it for an answer to be sealed to.
    assert parent.decrypt(answer.document) == "ValidationException"
    assert parent.decrypt(None) == "AccessDeniedException"
