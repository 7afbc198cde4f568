"""What a replay found: one line each, with a status and a stable code. Unchecked never reads as verified.

Exit codes (DESIGN 6, 12.15): 1 if anything is contradicted, else 3 if anything is limited, else 4 if anything rests on
simulation, else 0. What simulation implies by its nature is SIMULATION, never LIMIT, so that 4 says: all else passed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

VERIFIED, CONTRADICTED, CANNOT_RUN, LIMITED, SIMULATED = 0, 1, 2, 3, 4
"""The exit codes; 2 is for a replay that could not begin."""


class Status(Enum):
    """What one line says."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    LIMIT = "LIMIT"
    SIMULATION = "SIMULATION"
    NOT_SUPPLIED = "NOT SUPPLIED"


class Code(Enum):
    """Stable names of findings; `audit explain CODE` prints what stands in `EXPLANATIONS`."""

    LOG = "P-LOG"
    CHAIN = "P-CHAIN"
    HARDWARE = "P-HARDWARE"
    KEYS = "P-KEYS"
    LEASES = "P-LEASES"
    ADAPTERS = "P-ADAPTERS"
    PURPOSES = "P-PURPOSES"
    BATCHES = "P-BATCHES"
    END = "P-END"
    RECEIPT = "P-RECEIPT"
    JOURNAL = "P-JOURNAL"
    HEARTBEAT = "P-HEARTBEAT"
    TREE_DIFFERS = "C-TREE"
    FORK = "C-FORK"
    STRAY = "C-STRAY"
    CHAIN_BROKEN = "C-CHAIN"
    SIGNATURE_WRONG = "C-SIGNATURE"
    AFTER_END = "C-AFTER-END"
    GENESIS_REFUSED = "C-GENESIS"
    EVIDENCE_DIFFERS = "C-EVIDENCE"
    CONFIGURATION_DIFFERS = "C-CONFIGURATION"
    NO_REQUEST = "C-NO-REQUEST"
    RELEASE_REFUSED = "C-RELEASE"
    LEASE_REFUSED = "C-LEASE"
    ADAPTER_DIFFERS = "C-ADAPTER"
    SERVED_WITHOUT = "C-SERVED-WITHOUT"
    BATCH_DIFFERS = "C-BATCH"
    RECEIPT_REFUSED = "C-RECEIPT"
    JOURNAL_DIFFERS = "C-JOURNAL"
    HEARTBEAT_REFUSED = "C-HEARTBEAT"
    TRUST_SUGGESTED = "L-TRUST-SUGGESTED"
    OPEN = "L-OPEN"
    TAIL = "L-TAIL"
    EVIDENCE_MISSING = "L-EVIDENCE-MISSING"
    NO_OUTCOME = "L-NO-OUTCOME"
    TIME = "L-TIME"
    CUSTODIAN = "L-CUSTODIAN"
    ASSERTED = "L-ASSERTED"
    HEARTBEAT_STALE = "L-HEARTBEAT"
    ANOMALY = "L-ANOMALY"
    EMPTY = "L-EMPTY"
    SIMULATED_ROOT = "S-ROOT"
    SIMULATED_TIME = "S-TIME"
    SIMULATED_QUORUM = "S-QUORUM"
    SIMULATED_CUSTODIAN = "S-CUSTODIAN"
    SIMULATED_ASSERTED = "S-ASSERTED"
    NO_RECEIPTS = "N-RECEIPTS"
    NO_CLOUDTRAIL = "N-CLOUDTRAIL"
    RELEASES = "N-RELEASES"
    JOURNAL_UNANCHORED = "L-JOURNAL"
    NO_JOURNALS = "N-JOURNALS"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `index` is the log index of the record it is about."""

    subject: str
    status: Status
    code: Code
    detail: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, in the order of the replay."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """See the module's rules."""
        seen = {finding.status for finding in self.findings}
        if Status.FAIL in seen:
            return CONTRADICTED
        if Status.LIMIT in seen:
            return LIMITED
        return SIMULATED if Status.SIMULATION in seen else VERIFIED

    @property
    def headline(self) -> str:
        """The verdict in words."""
        return {
            VERIFIED: "VERIFIED",
            CONTRADICTED: "CONTRADICTED",
            LIMITED: "VERIFIED WITH LIMITS",
            SIMULATED: "SIMULATION ONLY: consistent, and proves nothing about real hardware",
        }[self.exit_code]


EXPLANATIONS: Mapping[Code, str] = {
    Code.LOG: "The records hash to the root of a checkpoint signed by the trusted log key; all tiles agree.",
    Code.CHAIN: "Every record of the boot is signed, numbered without a gap and chained to the one before.",
    Code.HARDWARE: "The genesis document verifies under the trusted root and measurements, and binds the keys.",
    Code.KEYS: "Every key release and refusal follows its request; each release shows a verified document bound to it.",
    Code.LEASES: "Every lease is signed, for this boot and model, no longer than it says; log leases show the log.",
    Code.ADAPTERS: "A tenant's adapter: signed, for this model, opened under shares and leases of its own, and ended.",
    Code.PURPOSES: "What the leases granted. Ticket and approver are the operator's word unless said to be backed.",
    Code.BATCHES: "Every batch of receipts agrees with its list and was made under a lease.",
    Code.END: "The boot ended with a signed `close` or `death` record.",
    Code.RECEIPT: "The receipt is signed by a boot in this log, and its salted commitment is in a batch of that boot.",
    Code.JOURNAL: "The authority's journal is signed and chained, and is what its heads in the log say.",
    Code.TREE_DIFFERS: "Entries, tiles and checkpoint are not one tree. Ask for a fresh copy.",
    Code.FORK: "A checkpoint that an enclave was shown is no past state of this log: two histories were signed.",
    Code.STRAY: "A record belongs to no boot in this log, or is no record. Ask who writes to the log.",
    Code.CHAIN_BROKEN: "A record is missing, repeated, moved or back in time. Ask for other copies.",
    Code.SIGNATURE_WRONG: "A signature does not verify, or one that is due is absent.",
    Code.AFTER_END: "A boot went on after its signed end.",
    Code.GENESIS_REFUSED: "The boot's document, statement or nonce does not hold under your trust file.",
    Code.EVIDENCE_DIFFERS: "Content in the store does not have the digest it is filed under.",
    Code.CONFIGURATION_DIFFERS: "The boot acted outside the deployment configuration that it attested.",
    Code.NO_REQUEST: "A release or refusal without the request that must precede it.",
    Code.RELEASE_REFUSED: "The document or statement behind a key release does not hold, or is for another boot.",
    Code.LEASE_REFUSED: "A lease does not verify, is for another boot, or was stretched.",
    Code.ADAPTER_DIFFERS: "An adapter is not for this model, or something was done with one that was not open.",
    Code.SERVED_WITHOUT: "Answers were given without a model record, a key release, or a lease in force.",
    Code.BATCH_DIFFERS: "The list of commitments does not have the root or count the enclave signed.",
    Code.RECEIPT_REFUSED: "The receipt is signed by no boot here, in no batch, or for an adapter not in force then.",
    Code.JOURNAL_DIFFERS: "The authority's journal differs from the heads of it in the log. Ask what was removed.",
    Code.TRUST_SUGGESTED: "The trust file lying in the folder was used: bring your own with --trust.",
    Code.OPEN: "The boot has no end record yet: this copy cannot show what comes after. Audit a later copy.",
    Code.TAIL: "The boot stopped without an end record: up to one log lease of records may be missing.",
    Code.EVIDENCE_MISSING: "An entry names evidence that this copy does not hold. Ask the operator for the attachment.",
    Code.NO_OUTCOME: "A key request has neither a release nor a refusal.",
    Code.TIME: "The document's own word dates it (grade T0). Ask for witnessed checkpoints.",
    Code.CUSTODIAN: "The key shares have the same custodian, so one party alone can release the model key.",
    Code.ASSERTED: "No authority signs this boot's lease: it is the enclave's word; only the purpose class is proved.",
    Code.HEARTBEAT: "Enough of the quorum said, lately enough, that no measurement outside its list is authorised.",
    Code.HEARTBEAT_STALE: "The quorum's last heartbeat is older than you accept. Ask its signers why it stopped.",
    Code.HEARTBEAT_REFUSED: "The heartbeat given is no heartbeat of your quorum, or too few signed it.",
    Code.SIMULATED_ASSERTED: "In simulation no authority signs this boot's lease: it is the enclave's own word.",
    Code.ANOMALY: "The enclave recorded something that must not happen.",
    Code.EMPTY: "The log holds no boot, so nothing was verified.",
    Code.JOURNAL_UNANCHORED: "The journal holds together, but no head of it is in this log: its end could be missing.",
    Code.SIMULATED_ROOT: "The documents come from a simulated root: no hardware stands behind them.",
    Code.SIMULATED_TIME: "Simulated documents are dated by their own word only (grade T0).",
    Code.SIMULATED_QUORUM: "The log has no witnesses (quorum none), which exists in simulation only.",
    Code.SIMULATED_CUSTODIAN: "In simulation the key shares have the same custodian.",
    Code.NO_RECEIPTS: "No client receipt was given to look for.",
    Code.NO_CLOUDTRAIL: "No KMS audit events were given to compare with the key releases.",
    Code.NO_JOURNALS: "The log holds heads of authorities' journals; to compare them bring the journals (--journal).",
    Code.RELEASES: "The log holds release statements; `anchorhold release verify` judges them under your quorum.",
}
