"""A boot that asks for its model or an adapter with statements of its own making, each with a real document."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.binding import Ask, Release, encode_statement, nsm_nonce, statement_digest
from anchorhold.attestation.digest import length_prefixed
from anchorhold.attestation.lease import Lease, verify_lease
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.sealed.descriptor import Descriptor, ModelFile, descriptor_digest, encode_descriptor
from anchorhold.attestation.types import ModelDigest, Sha384, StatementDigest
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.enclave.keys.hybrid import draw_hybrid
from anchorhold.sim.owner_face import MODEL, PURPOSE, Authority, Enclave

REASON = "acme-tone"


def adapter_descriptor(model_id: str = "tone", base: ModelDigest = MODEL, version: str = "1") -> bytes:
    """A descriptor of PEFT's two files: A is its digest."""
    files = (ModelFile("adapter_config.json", 1), ModelFile("adapter_model.safetensors", 1))
    return encode_descriptor(Descriptor(model_id, version, files, Sha384(b"\x7e" * 48), base=base))


ADAPTER = descriptor_digest(adapter_descriptor())
SECOND = descriptor_digest(adapter_descriptor("second"))


@dataclass(frozen=True, slots=True)
class Answer:
    """`granted` or the code of the refusal, and what came with it."""

    code: str
    signed: bytes | None = None
    lease: Lease | None = None
    share: bytes | None = None


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of a toy enclave."""

    authority: Authority
    enclave: Enclave

    def asks(
        self,
        adapter: ModelDigest | None = None,
        number: int = 1,
        *,
        ask: Ask = Ask.LEASE,
        blob: bytes | None = None,
        model: ModelDigest = MODEL,
        genesis: StatementDigest | None = None,
        reason: str = PURPOSE,
    ) -> Answer:
        """Ask once, under a challenge of its own. Raises AdminFailed where there is no decision."""
        status, raw = self.authority.call("/v1/challenge", {})
        if status != 200:
            raise AdminFailed("unavailable", f"challenge: status {status}")
        challenge = canonical.decode_map(raw, "answer", limit=1_000, fields={"challenge": bytes, "expires": int})
        fresh = challenge["challenge"]
        assert isinstance(fresh, bytes)
        key, context = draw_hybrid(), self.enclave.context
        statement = Release(
            boot_id=context.boot_id,
            genesis=genesis or context.genesis,
            source="owner",
            ask=ask,
            model=model,
            purposes=(Purpose(reason),),
            request=number,
            challenge=fresh,
            release_key=key.public,
            rsa_key=None,
            adapter=adapter,
        )
        digest = statement_digest(statement)
        document = self.enclave.nsm.attest(user_data=digest, nonce=nsm_nonce(Release, fresh))
        body: dict[str, canonical.Value] = {
            "document": document,
            "statement": encode_statement(statement),
            "blob": blob,
        }
        status, raw = self.authority.call("/v1/release", body)
        answer = canonical.decode(raw, "answer", limit=100_000)
        assert isinstance(answer, dict)
        if status >= 500:
            raise AdminFailed(str(answer["code"]), f"release: status {status}")
        if status != 200:
            return Answer(str(answer["code"]))
        signed, sealed = answer["lease"], answer["sealed"]
        assert isinstance(signed, bytes)
        lease = verify_lease(signed, Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.authority.public.lease_key)))
        assert (lease.boot_id, lease.request, lease.release) == (context.boot_id, number, digest)
        if not isinstance(sealed, bytes):
            return Answer("granted", signed, lease)
        return Answer("granted", signed, lease, key.open(sealed, info=length_prefixed(labels.RELEASE_SEAL, digest)))

    def says(self, adapter: ModelDigest | None = None, number: int = 1, **changes: object) -> str:
        """The same, `granted` or the code alone."""
        return self.asks(adapter, number, **changes).code  # type: ignore[arg-type]  # the test names the fields


def register(authority: Authority, model_id: str = "tone", **changes: canonical.Value) -> None:
    """The adapter of this name, for everybody who may use the base."""
    fields: dict[str, canonical.Value] = {"descriptor": adapter_descriptor(model_id), "alias": model_id}
    authority.register(**(fields | changes))


def started(authority: Authority, **context: object) -> Boot:
    """A boot that has its base: request 1 was granted."""
    boot = Boot(authority, authority.enclave(**context))  # type: ignore[arg-type]  # as above
    assert boot.says() == "granted"
    return boot


def share(authority: Authority, model: ModelDigest = ADAPTER, **more: canonical.Value) -> tuple[bytes, bytes]:
    """A share of the adapter's and its blob."""
    fields: dict[str, canonical.Value] = {"model": model, "model_id": "tone", "version": "1", "purpose_class": "serve"}
    made = authority.order("shares", **(fields | more))
    assert isinstance(made["share"], bytes)
    assert isinstance(made["blob"], bytes)
    return made["share"], made["blob"]
