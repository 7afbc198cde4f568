"""The first entry of a boot, judged under the auditor's trust: numbered steps (docs/spec/transcript.md 6.1)."""

from anchorhold.attestation.binding import Genesis as GenesisStatement
from anchorhold.attestation.binding import bind, nsm_nonce, statement_digest
from anchorhold.attestation.configuration import Configuration, configuration_digest, decode_configuration, pcr16
from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.transcript.bodies import Genesis
from anchorhold.attestation.transcript.boot import Boot, Context
from anchorhold.attestation.transcript.checkpoint import checkpoint_nonce
from anchorhold.attestation.transcript.contradiction import Contradiction
from anchorhold.attestation.transcript.entry import UnverifiedRecord, VerifyingKeys
from anchorhold.attestation.transcript.report import Code
from anchorhold.attestation.transcript.trust import Deployment
from anchorhold.attestation.verify import Evidence


def open_boot(index: int, record: UnverifiedRecord, context: Context) -> Boot:
    """The boot that begins with this record. Raises Contradiction; a genesis without its evidence is one too."""
    entry = record.unverified_entry
    body = entry.body
    if not isinstance(body, Genesis) or entry.seq != 0:
        raise Contradiction(
            Code.STRAY, f"entry {entry.seq} ({body.TYPE}) of boot {entry.boot.hex()[:16]}: no genesis in the log"
        )
    try:
        # 1. The document verifies under a trusted deployment.
        deployment, evidence = context.trust.find(context.store.fetch(body.document))
        # 2. It binds the statement, whose digest is the boot's name.
        statement = bind(evidence, context.store.fetch(body.statement), GenesisStatement)
        _same("boot", statement_digest(statement), entry.boot)
        # 3. Its nonce comes from the checkpoint the entry shows, which is a past state of this very log.
        _same("nonce", nsm_nonce(GenesisStatement, checkpoint_nonce(body.checkpoint)), evidence.nonce)
        _check_checkpoint(index, body.checkpoint, context)
        # 4. The statement's keys sign this record.
        keys = VerifyingKeys.of(statement.transcript_key, statement.transcript_key_pq)
        record.verify(keys)
        # 5. The configuration is the one attested, and the one the auditor trusts.
        configuration = _configuration(
            context.store.fetch(body.configuration), statement, evidence, deployment, context
        )
    except Contradiction:
        raise
    except EvidenceError as error:
        raise Contradiction(Code.GENESIS_REFUSED, f"genesis: {error}") from error
    return Boot(index, statement, evidence, configuration, deployment, keys, record.head, context, entry)


def _configuration(
    raw: bytes, statement: GenesisStatement, evidence: Evidence, deployment: Deployment, context: Context
) -> Configuration:
    digest = configuration_digest(raw)
    _same("configuration", statement.configuration, digest)
    _same("measurement 16 (configuration)", pcr16(digest), evidence.pcrs.get(16))
    _same("trusted configuration", deployment.configuration, digest)
    configuration = decode_configuration(raw)
    _same("trusted model", deployment.model, configuration.model)
    _same("log origin", context.trust.log.name, configuration.log.origin)
    _same("log key", str(context.trust.log), configuration.log.key)
    if configuration.log.quorum == "none" and not evidence.simulated:
        raise Contradiction(Code.CONFIGURATION_DIFFERS, "witness quorum: none exists in simulation only")
    return configuration


def _check_checkpoint(index: int, note: bytes, context: Context) -> None:
    if not note:
        return
    checkpoint = context.trust.log.open_checkpoint(note)
    if checkpoint.size > index:
        raise Contradiction(
            Code.FORK, f"genesis checkpoint: expected at most {index} records before it, got {checkpoint.size}"
        )
    if (root := context.root_at(checkpoint.size)) != checkpoint.root:
        detail = (
            f"log root at size {checkpoint.size}: expected {root.hex()}, the enclave was shown {checkpoint.root.hex()}"
        )
        raise Contradiction(Code.FORK, detail)


def _same(what: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise Mismatch(what, expected=expected, actual="absent" if actual is None else actual)
