"""Behind the signature: whatever fields, certificates and times a trusted key signed, the verdict follows from them.

The vectors show each rule broken alone; here several things change at once, and an oracle in a few words says what
must come of it.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import cbor2
from hypothesis import given
from hypothesis import strategies as st
from tests.vectors.evidence.build import NONCE, REGISTERS, TIMESTAMP, document
from tests.vectors.evidence.certificates import CERTIFIES, LEVELS, SIGNS, START, chain, good_chain

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.appraise import appraise
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.nsm_cbor import read
from anchorhold.attestation.policy import Policy
from anchorhold.attestation.timing import TimeEvidence, TimeSource
from anchorhold.attestation.types import Platform
from anchorhold.attestation.verdict import ExitCode, Status
from anchorhold.attestation.verify import OWN_WORD, Evidence, verify_at, verify_live

ROOT = Anchor("vectors", good_chain().cabundle[0])
PINNED = {index: REGISTERS[index] for index in (0, 1, 2, 16)}
POLICY = Policy(frozenset({Platform.SIMULATED}), (PINNED,))
CLOCK = TimeEvidence(TimeSource.CLOCK, START)
GOOD = document()
OTHER = b"\xee" * 48
AGE_MS, AHEAD_MS, LEEWAY_S = 300_000, 30_000, 5

# A value for a field, and whether a verifier may take it.
NONCES = st.sampled_from([(NONCE, True), (NONCE[:-1], False), (b"", False), (None, False), (OTHER, False)])
TIMES = st.integers(-AGE_MS - 2_000, AHEAD_MS + 2_000)
REGISTER = st.tuples(st.integers(0, 31), st.sampled_from([OTHER, bytes(48), None]))
FAULTS: Mapping[str, Mapping[str, Any]] = {
    "no CA": {"ca": False, "path_length": None},
    "no keyCertSign": {"usage": (SIGNS,)},
    "forged": {"signer": "stranger"},
    "another issuer": {"issuer": "somebody"},
    "over": {"ends": START - timedelta(seconds=1), "begins": START - timedelta(days=400)},
    "to come": {"begins": START + timedelta(seconds=LEEWAY_S + 1)},
    "no constraints": {"ca": None},
}
LEAF_FAULTS: Mapping[str, Mapping[str, Any]] = {
    "a CA": {"ca": True},
    "keyCertSign": {"usage": (SIGNS, CERTIFIES)},
    "another name": {"subject": "somebody"},
    **{name: FAULTS[name] for name in ("forged", "another issuer", "over", "to come", "no constraints")},
}


def live(raw: bytes) -> Evidence | EvidenceError:
    try:
        return verify_live(raw, POLICY, ROOT, START, NONCE)
    except EvidenceError as error:
        return error


@given(nonce=NONCES, moved=TIMES, changed=st.lists(REGISTER, max_size=3), indefinite=st.booleans())
def test_a_document_is_taken_exactly_when_nonce_age_and_registers_hold(
    nonce: tuple[bytes | None, bool], moved: int, changed: list[tuple[int, bytes | None]], indefinite: bool
) -> None:
    registers: dict[int, bytes | None] = {**REGISTERS, **dict(changed)}
    fields = {
        "nonce": nonce[0],
        "timestamp": TIMESTAMP + moved,
        "pcrs": {index: value for index, value in registers.items() if value is not None},
    }
    outcome = live(document(fields, indefinite=indefinite))
    pinned = all(registers[index] == value for index, value in PINNED.items())
    assert isinstance(outcome, Evidence) is (nonce[1] and -AGE_MS <= moved <= AHEAD_MS and pinned)


@given(nonce=NONCES, moved=TIMES, changed=st.lists(REGISTER, max_size=2), flipped=st.integers(0, len(GOOD) * 16))
def test_the_claims_are_all_proved_exactly_when_there_is_evidence(
    nonce: tuple[bytes | None, bool], moved: int, changed: list[tuple[int, bytes | None]], flipped: int
) -> None:
    registers: dict[int, bytes | None] = {**REGISTERS, **dict(changed)}
    kept = {index: value for index, value in registers.items() if value is not None}
    raw = bytearray(document({"nonce": nonce[0], "timestamp": TIMESTAMP + moved, "pcrs": kept}))
    if flipped < len(raw):
        raw[flipped] ^= 0x04
    outcome = live(bytes(raw))
    verdict = appraise(bytes(raw), POLICY, [ROOT], CLOCK, NONCE)
    assert (verdict.exit_code is ExitCode.SIMULATION_ONLY) is isinstance(outcome, Evidence)
    if isinstance(outcome, EvidenceError):
        assert outcome.code in {claim.code for claim in verdict.claims if claim.status in (Status.FAILED, Status.STALE)}
        proved = {claim.name for claim in verdict.claims if claim.status is Status.PROVED}
        if not {"signature", "chain"} <= proved:
            assert proved <= {"document", "signature", "chain"}


@given(data=st.data())
def test_a_chain_is_taken_exactly_when_no_certificate_of_it_has_a_fault(data: st.DataObject) -> None:
    broken: dict[str, Mapping[str, Any]] = {}
    for level in LEVELS[1:]:
        faults = LEAF_FAULTS if level == "leaf" else FAULTS
        chosen = data.draw(st.sampled_from(["", "", "", *faults]), label=level)
        if chosen:
            broken[level] = faults[chosen]
    outcome = live(document(made=chain(**broken)))
    assert isinstance(outcome, Evidence) is (not broken)


@given(level=st.sampled_from(LEVELS[1:]), edge=st.sampled_from(["begins", "ends"]), seconds=st.integers(-8, 8))
def test_a_chain_holds_from_its_last_beginning_less_the_leeway_to_its_first_end(
    level: str, edge: str, seconds: int
) -> None:
    life = {"begins": START} if edge == "begins" else {"begins": START - timedelta(days=1), "ends": START}
    raw = document(made=chain(**{level: life}))
    at = TimeEvidence(TimeSource.CALLER, START + timedelta(seconds=seconds))
    inside = seconds >= -LEEWAY_S if edge == "begins" else seconds <= 0
    try:
        taken = isinstance(verify_at(raw, POLICY, ROOT, at), Evidence)
    except EvidenceError as error:
        taken = False
        wanted = "not-yet-valid" if edge == "begins" else "expired"
        if error.code != wanted:
            raise
    assert taken is inside


@given(extra=st.lists(st.sampled_from([OTHER, b"\xdd" * 48]), min_size=1, max_size=4), place=st.integers(0, 4))
def test_another_accepted_set_never_takes_acceptance_away(extra: list[bytes], place: int) -> None:
    others = [{**PINNED, 0: value} for value in extra]
    sets = (*others[:place], PINNED, *others[place:])
    wider = Policy(frozenset({Platform.SIMULATED}), sets)
    assert verify_at(GOOD, wider, ROOT, OWN_WORD) == verify_at(GOOD, POLICY, ROOT, OWN_WORD)
    without = Policy(frozenset({Platform.SIMULATED}), tuple(others))
    try:
        verify_at(GOOD, without, ROOT, OWN_WORD)
    except EvidenceError as error:
        if error.code != "measurement":
            raise
    else:
        raise AssertionError("a set that does not hold was enough")


_KEYS = st.text(max_size=6) | st.integers(0, 2**64 - 1)
_LEAVES = st.none() | st.booleans() | st.integers(0, 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20)
_INNER = st.lists(_LEAVES, max_size=5) | st.dictionaries(_KEYS, _LEAVES, max_size=5)


@given(value=_LEAVES | st.lists(_LEAVES | _INNER, max_size=5) | st.dictionaries(_KEYS, _LEAVES | _INNER, max_size=5))
def test_what_the_nsm_could_write_reads_back_and_cbor2_reads_the_same(value: object) -> None:
    raw = cbor2.dumps(value)
    assert read(raw, "value") == value == cbor2.loads(raw)
    if isinstance(value, dict):
        # The outermost map may be indefinite; no other may.
        inside = b"".join(cbor2.dumps(key) + cbor2.dumps(member) for key, member in value.items())
        assert read(b"\xbf" + inside + b"\xff", "value") == value
