"""From nothing to KEYED: the driver of the phase table up to the model key (DESIGN 2, 5, 6, 8). Straight-line code.

Order is the promise: the configuration is in a locked register before it is parsed, genesis is in the log before a key
is asked for, the model's signature holds before that too, and every share proves itself before it counts.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from anchorhold import __version__
from anchorhold.attestation.anchors import AWS_NITRO_G1
from anchorhold.attestation.binding import Genesis, encode_statement, nsm_nonce, statement_digest
from anchorhold.attestation.configuration import (
    SERVE_CLASS,
    Configuration,
    configuration_digest,
    decode_configuration,
    pcr16,
)
from anchorhold.attestation.document import parse_document
from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.lease import MIN_PRODUCTION_TTL_MS
from anchorhold.attestation.sealed.manifest import Manifest, PurposeClass, ShareRole, WrappedShare
from anchorhold.attestation.sealed.signature import MAX_BUNDLE, verify_manifest
from anchorhold.attestation.transcript import bodies
from anchorhold.attestation.transcript.checkpoint import Vkey, checkpoint_nonce
from anchorhold.attestation.transcript.entry import SigningKeys
from anchorhold.attestation.types import BootId, ConfigDigest, Sha384, StatementDigest
from anchorhold.enclave.distributions import locked_names, recorded
from anchorhold.enclave.keys.clock import TOLERANCE_MS, ClockDoubt, EnclaveClock, ObservedModule
from anchorhold.enclave.nsm.module import SecurityModule
from anchorhold.enclave.parent_ports import Records, boot_bytes, fetch_small, heartbeat
from anchorhold.enclave.phases import Phases, Step
from anchorhold.enclave.refusal import offer_refusal
from anchorhold.enclave.serve.egress import EgressClass, Ledger
from anchorhold.enclave.serve.scribe import Scribe, ScribeContext
from anchorhold.enclave.serve.transport import Window

LOCKED_REGISTERS = 32  # 0..31: nothing may be extended after the configuration
CONFIGURATION_REGISTER = 16
MAX_MANIFEST = 1 << 20  # bytes; one frame
RECEIPT_SEED = 32
MAX_CALL_MS = 30_000  # for the first document; none takes so long on a machine that could serve


def boottime() -> float:
    """CLOCK_BOOTTIME in seconds: it runs on while the machine is paused or asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def system_ms() -> int:
    """The system clock, read once at boot to be compared with the module's."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000


@dataclass(frozen=True, slots=True)
class Launch:
    """What init hands over."""

    image: Path
    nsm: SecurityModule
    window: Window


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one boot; none of them ever leaves."""

    transcript: SigningKeys = field(repr=False)
    receipt: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def draw(cls) -> "Keys":
        return cls(
            SigningKeys(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate()), Ed25519PrivateKey.generate()
        )


@dataclass(frozen=True, slots=True)
class Booted:
    """An enclave in phase LOGGED whose model is verified: everything a key may now be asked for with."""

    launch: Launch
    phases: Phases
    ledger: Ledger
    clock: EnclaveClock
    nsm: ObservedModule
    raw_configuration: bytes
    configuration: Configuration
    digest: ConfigDigest
    boot_id: BootId
    genesis: StatementDigest
    keys: Keys
    scribe: Scribe
    manifest: Manifest
    manifest_digest: bytes
    """SHA-256 of the manifest's bytes, as the transcript names it."""


def boot(launch: Launch, phases: Phases, ledger: Ledger, on_doubt: Callable[[str], None]) -> Booted:
    """BOOT to LOGGED. Raises the typed error of whatever did not hold; the process then ends."""
    heartbeat(launch.window)
    # 1. MEASURED: the configuration's bytes are in a locked register before anything reads them.
    raw = boot_bytes(launch.window, "configuration")
    digest = lock_configuration(launch.nsm, raw)
    phases.take(Step.CONFIGURATION_LOCKED)
    configuration = decode_configuration(raw)
    # 2. Time comes from the module's documents from here on; each is a reading of its clock.
    clock = EnclaveClock(boottime)
    nsm = ObservedModule(launch.nsm, clock, boottime, on_doubt)
    # 3. LOGGED: who we are is in the log, and the log proved it.
    keys, boot_id = Keys.draw(), BootId(secrets.token_bytes(32))
    records = Records(launch.window)
    append = _counted(records, ledger)
    vkey = Vkey.parse(configuration.log.key)
    scribe = Scribe(ScribeContext(keys.transcript, append, vkey, clock.now_ms, boottime))
    checkpoint = records.checkpoint()
    scribe.open_checkpoint(checkpoint)
    statement = Genesis(
        boot_id=boot_id,
        transcript_key=keys.transcript.ed25519.public_key().public_bytes_raw(),
        transcript_key_pq=keys.transcript.mldsa65.public_key().public_bytes_raw(),
        receipt_key=keys.receipt.public_key().public_bytes_raw(),
        configuration=digest,
        policy_digest=_policy_digest(configuration.release_policy),
    )
    genesis = statement_digest(statement)
    asked_ms = system_ms()
    document = nsm.attest(user_data=genesis, nonce=nsm_nonce(Genesis, checkpoint_nonce(checkpoint)))
    check_system_clock(document, asked_ms, system_ms())
    check_production(document, configuration)
    _write_genesis(scribe, launch.image, statement, document, raw, checkpoint)
    phases.take(Step.GENESIS_INCLUDED)
    # 4. The model is the one of the configuration and signed, before any key is asked for.
    try:
        manifest, manifest_digest = _verified_model(launch.window, configuration, scribe)
    except Exception as error:
        offer_refusal(scribe, error, wiped_ms=clock.now_ms(), lease_ttl_ms=configuration.sources[0].lease_ttl_ms)
        raise
    return Booted(
        launch=launch,
        phases=phases,
        ledger=ledger,
        clock=clock,
        nsm=nsm,
        raw_configuration=raw,
        configuration=configuration,
        digest=digest,
        boot_id=boot_id,
        genesis=genesis,
        keys=keys,
        scribe=scribe,
        manifest=manifest,
        manifest_digest=manifest_digest,
    )


def lock_configuration(nsm: SecurityModule, raw: bytes) -> ConfigDigest:
    """Extend register 16 once with C, lock all, read it back. Raises Mismatch if it is not what that must give."""
    digest = configuration_digest(raw)
    nsm.extend_pcr(CONFIGURATION_REGISTER, digest)
    nsm.lock_pcrs(LOCKED_REGISTERS)
    register = nsm.describe_pcr(CONFIGURATION_REGISTER)
    if register.value != pcr16(digest) or not register.locked:
        raise Mismatch("register 16 (configuration)", expected=pcr16(digest), actual=register.value)
    return digest


def check_production(document: bytes, configuration: Configuration) -> None:
    """Raises Mismatch for what exists in simulation only, under a document that AWS's root begins (DESIGN 5, 6).

    The document is this enclave's own, out of its module: where it comes from is not what it has to prove here.
    """
    if parse_document(document).cabundle[0] != AWS_NITRO_G1.root_der:
        return
    if configuration.log.quorum == "none":
        raise Mismatch("witness quorum", expected="a quorum outside simulation", actual="none", code="quorum")
    for source in configuration.sources:
        if source.lease_ttl_ms < MIN_PRODUCTION_TTL_MS:
            what = f"lease of {source.name!r}"
            raise Mismatch(
                what, expected=f"at least {MIN_PRODUCTION_TTL_MS} ms", actual=source.lease_ttl_ms, code="ttl"
            )


def _policy_digest(policy: bytes | None) -> Sha384 | None:
    # DESIGN 12.4: of the policy as given, null if none.
    return None if policy is None else Sha384(hashlib.sha384(policy).digest())


def check_system_clock(document: bytes, asked_ms: int, answered_ms: int) -> None:
    """Raises ClockDoubt unless the document was made between these two moments of the system clock, give or take 2 s.

    DESIGN 12.16: TLS reads the system clock. A module that takes seconds is no wrong clock; over 30 s it is doubted.
    """
    took, after = answered_ms - asked_ms, parse_document(document).timestamp_ms - asked_ms
    if not 0 <= took <= MAX_CALL_MS:
        raise ClockDoubt(f"first document: expected within {MAX_CALL_MS} ms by the system clock, got {took} ms")
    if not -TOLERANCE_MS <= after <= took + TOLERANCE_MS:
        expected = f"expected {-TOLERANCE_MS} to {took + TOLERANCE_MS} ms after the call by the system clock"
        raise ClockDoubt(f"module clock: {expected}, got {after} ms")


def _counted(records: Records, ledger: Ledger) -> Callable[[bytes], bytes]:
    def append(body: bytes) -> bytes:
        ledger.count(EgressClass.RECORDS, len(body))
        return records.append(body)

    return append


def _write_genesis(
    scribe: Scribe, image: Path, statement: Genesis, document: bytes, configuration: bytes, checkpoint: bytes
) -> None:
    raw_statement = encode_statement(statement)
    distributions = recorded(locked_names((image / "enclave.lock").read_text()))
    attachments = (document, raw_statement, configuration, distributions)
    digests = [hashlib.sha256(attachment).digest() for attachment in attachments]
    body = bodies.Genesis(
        document=digests[0],
        statement=digests[1],
        configuration=digests[2],
        checkpoint=checkpoint,
        runtime=f"anchorhold {__version__}",
        distributions=digests[3],
    )
    scribe.genesis(statement_digest(statement), body, attachments)


def serving_shares(manifest: Manifest, configuration: Configuration) -> tuple[WrappedShare, ...]:
    """The shares of this configuration's purpose class: one of each of its sources. Raises Mismatch."""
    shares = manifest.wrapped(ShareRole.SHARE, PurposeClass(configuration.purpose_class))
    if {share.source for share in shares} != {source.name for source in configuration.sources}:
        named = sorted(share.source for share in shares)
        raise Mismatch("sources", expected=sorted(one.name for one in configuration.sources), actual=named)
    return shares


def _verified_model(window: Window, configuration: Configuration, scribe: Scribe) -> tuple[Manifest, bytes]:
    raw = fetch_small(window, "manifest", MAX_MANIFEST)
    bundle = fetch_small(window, "signature", MAX_BUNDLE)
    manifest, _signed_by = verify_manifest(raw, bundle, configuration.signers, configuration.model)
    if manifest.descriptor.base is not None and configuration.purpose_class == SERVE_CLASS:
        raise Mismatch("model of the configuration", expected="a model", actual="an adapter", code="base")
    shares = serving_shares(manifest, configuration)
    body = bodies.Model(
        model=manifest.digest,
        model_id=manifest.descriptor.model_id,
        manifest=hashlib.sha256(raw).digest(),
        signature=hashlib.sha256(bundle).digest(),
        keys=tuple(share.key for share in shares),
    )
    scribe.write(body, (raw, bundle))
    return manifest, body.manifest
