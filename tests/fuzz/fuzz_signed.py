"""Any payload and certificates under a true signature give Evidence or an EvidenceError, nothing else, in bounded time.

The fuzzer's bytes are decisions: which fields, certificates and bytes to change before the test keys sign again, so
that it reaches what stands behind the signature. Whatever gives Evidence must hold what the policy wants.
"""

from cryptography.hazmat.primitives.asymmetric import ec
from tests.fuzz.choices import Choices, edited
from tests.vectors.evidence import der
from tests.vectors.evidence.build import (
    NONCE,
    REGISTERS,
    TIMESTAMP,
    Envelope,
    Raw,
    good_fields,
    head,
    payload_of,
    signed,
)
from tests.vectors.evidence.certificates import LEVELS, START, Chain, good_chain

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.appraise import appraise
from anchorhold.attestation.batch import verify_batch
from anchorhold.attestation.chain import ChainCache
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import Policy
from anchorhold.attestation.timing import TimeEvidence, TimeSource
from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.attestation.verdict import ExitCode
from anchorhold.attestation.verify import OWN_WORD, verify_at, verify_genuine, verify_live

MAX_LEN = 512  # bytes of decisions
TOKENS: tuple[bytes, ...] = ()
GOOD = good_chain()
ROOT = Anchor("vectors", GOOD.cabundle[0])
PINNED = {index: REGISTERS[index] for index in (0, 1, 2, 16)}
POLICY = Policy(frozenset({Platform.SIMULATED}), (PINNED,))
CLOCK = TimeEvidence(TimeSource.CLOCK, START)
MAX_AGE = Milliseconds(300_000)
CACHE = ChainCache()  # one for all inputs: what one leaves there must not help the next
FIELDS = (*good_fields(GOOD), "nitrotpm_pcrs", "extra")
_MODULES = ("i-0123456789abcdef0-enc0123456789abcdef", "i-0123456789abcdef0-tpm0000000000000000", "i", "-enc")
_PROTECTED = (b"\xa1\x01\x38\x22", b"\xa1\x01\x26", b"\xa1\x01\x38\x23", b"", b"\xa0")


def seeds() -> list[bytes]:
    """No decisions at all, and one of each kind."""
    return [b"", bytes(64), *(bytes([0, 1, kind]) + bytes([9 * kind % 256]) * 40 for kind in range(8))]


def one_input(data: bytes) -> None:
    """One document made of decisions."""
    choices = Choices(data)
    raw = _document(choices)
    whole = _live(raw, good=not data.strip(b"\0"))
    verdict = appraise(raw, POLICY, [ROOT], CLOCK, NONCE)
    assert (verdict.exit_code is ExitCode.SIMULATION_ONLY) is whole, verdict.text()
    (batched,) = verify_batch([raw], POLICY, ROOT, OWN_WORD, cache=CACHE)
    try:
        kept = verify_at(raw, POLICY, ROOT, OWN_WORD)
    except EvidenceError as error:
        assert isinstance(batched, EvidenceError)
        if (type(batched), batched.code) != (type(error), error.code):
            raise AssertionError(f"in a batch {batched!r}") from error
        whole_kept = False
    else:
        assert batched == kept
        whole_kept = True
    try:
        verify_genuine(raw, [ROOT], START, max_age_ms=MAX_AGE)
    except EvidenceError as error:
        if whole:
            raise AssertionError("a key service would refuse what a client takes") from error
    assert whole_kept or not whole


def _live(raw: bytes, *, good: bool) -> bool:
    try:
        evidence = verify_live(raw, POLICY, ROOT, START, NONCE)
    except EvidenceError as error:
        if good:
            raise AssertionError("the good document is refused") from error
        return False
    assert (evidence.simulated, evidence.nonce) == (True, NONCE)
    assert all(evidence.pcrs[index] == value for index, value in PINNED.items())
    # At most five minutes old; ahead by the clock's leeway only, which is less.
    assert abs(evidence.timestamp_ms - TIMESTAMP) <= MAX_AGE
    return True


def _document(choices: Choices) -> bytes:
    indefinite = choices.byte() % 2 == 0
    fields: dict[str, object] = dict(good_fields(GOOD))
    made, envelope = GOOD, Envelope()
    for _ in range(choices.byte() % 4):
        kind = choices.byte() % 8
        if kind in (0, 1, 2):
            fields[choices.pick(FIELDS)] = _value(choices)
        elif kind == 3:
            fields.pop(choices.pick(FIELDS), None)
        elif kind in (4, 5):
            made = _chain(made, choices)
            fields |= {"certificate": made.certificate, "cabundle": list(made.cabundle)}
        elif kind == 6:
            registers = {**REGISTERS, choices.number(34): choices.chunk(48).ljust(48, b"\0")}
            fields[choices.pick(("pcrs", "nitrotpm_pcrs"))] = registers
        else:
            envelope = Envelope(protected=choices.pick(_PROTECTED), after=choices.chunk(2))
    payload = edited(payload_of(fields, indefinite=indefinite), choices, 3)
    return signed(payload, made, envelope)


def _value(choices: Choices) -> object:
    kind = choices.byte() % 9
    if kind == 0:
        return None
    if kind == 1:
        return TIMESTAMP + choices.number(1 << 24) - (1 << 23)
    if kind == 2:
        return NONCE[: choices.number(len(NONCE) + 1)]
    if kind == 3:
        return choices.chunk(64)
    if kind == 4:
        return choices.pick(_MODULES)
    if kind == 5:
        return Raw(choices.chunk(32))
    if kind == 6:
        # A head alone, often longer than needed: what it announces is not there.
        width = choices.pick((1, 2, 4, 8))
        return Raw(head(choices.byte() % 8, choices.number(1 << min(8 * width, 32)), width))
    if kind == 7:
        return [choices.chunk(16) for _ in range(choices.byte() % 7)]
    return dict(REGISTERS)


def _chain(made: Chain, choices: Choices) -> Chain:
    """One certificate edited and signed again by its issuer, or the bundle in another order."""
    ladder = [*made.cabundle, made.certificate]
    what = choices.byte() % 5
    at = choices.number(len(ladder))
    if what == 0 and len(ladder) > 2:
        del ladder[at]
    elif what == 1:
        ladder.insert(at, ladder[choices.number(len(ladder))])
    elif what == 2:
        other = choices.number(len(ladder))
        ladder[at], ladder[other] = ladder[other], ladder[at]
    else:
        ladder[at] = _reissued(ladder[at], der.key(LEVELS[max(min(at, len(LEVELS) - 1) - 1, 0)]), choices)
    return Chain(tuple(ladder[:-1]), ladder[-1], made.key)


def _reissued(certificate: bytes, issuer: ec.EllipticCurvePrivateKey, choices: Choices) -> bytes:
    """The signed part edited, then signed again."""
    start = 4  # an outer SEQUENCE of 128..65535 bytes, as all of ours
    if certificate[:1] != b"\x30" or len(certificate) < 64:
        return edited(certificate, choices, 2)
    size = 4 + int.from_bytes(certificate[start + 2 : start + 4], "big")
    inner = edited(certificate[start : start + size], choices, 3)
    algorithm = der.sequence(der.oid(der.ECDSA_WITH_SHA384))
    return der.sequence(inner, algorithm, der.tlv(0x03, b"\x00", der.sign(issuer, inner)))
