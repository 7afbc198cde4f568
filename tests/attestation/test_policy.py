"""A policy that would accept more than its author can have meant is no policy."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import cbor2
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import (
    DEFAULT_MAX_AGE_MS,
    MAX_ACCEPTED,
    MAX_POLICY_JSON,
    SERVICE_PCRS,
    UNNAMED,
    MeasurementMismatch,
    NonceRule,
    Policy,
    PolicyInvalid,
    policy_from_json,
    policy_to_json,
    release_policy,
    service_policy,
)
from anchorhold.attestation.types import Milliseconds, Platform

ONE = {index: bytes([index + 1]) * 48 for index in (0, 1, 2, 16)}
OTHER = dict.fromkeys(ONE, b"\xaa" * 48)
ZERO = bytes(48)
SIMULATED = frozenset({Platform.SIMULATED})
TPM = frozenset({Platform.NITRO_TPM})
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schema" / "policy.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_an_enclave_policy_pins_0_1_and_2(missing: int) -> None:
    with pytest.raises(PolicyInvalid, match="missing"):
        Policy(SIMULATED, ({index: value for index, value in ONE.items() if index != missing},))


def test_a_service_policy_pins_16_in_every_accepted_set() -> None:
    bare = {index: ONE[index] for index in (0, 1, 2)}
    assert Policy(SIMULATED, (bare,)).required == {0, 1, 2}
    with pytest.raises(PolicyInvalid, match="16"):
        service_policy(SIMULATED, (ONE, bare))
    assert service_policy(SIMULATED, (ONE,)).required == SERVICE_PCRS


@pytest.mark.parametrize("value", [ZERO, b"", b"\x01" * 47])
def test_a_zero_or_short_expectation_is_refused(value: bytes) -> None:
    with pytest.raises(PolicyInvalid):
        Policy(SIMULATED, ({**ONE, 2: value},))


def test_an_empty_policy_is_refused() -> None:
    for platforms, sets in ((frozenset[Platform](), (ONE,)), (SIMULATED, ()), (SIMULATED, ({},))):
        with pytest.raises(PolicyInvalid):
            Policy(platforms, sets)
    for age in (0, -1, 3_600_001):
        with pytest.raises(PolicyInvalid):
            Policy(SIMULATED, (ONE,), Milliseconds(age))
    for releases in ({}, {"a": [ONE], "b": []}):
        with pytest.raises(PolicyInvalid):
            release_policy(SIMULATED, releases)


def test_tpm_registers_are_not_mixed_with_enclave_registers() -> None:
    with pytest.raises(PolicyInvalid, match="alone"):
        Policy(frozenset({Platform.NITRO_TPM, Platform.NITRO_ENCLAVE}), (ONE,))


@pytest.mark.parametrize("pinned", [{4}, {12}, {0, 2, 12}, {0, 4}])
def test_a_tpm_boot_binary_without_its_command_line_is_refused(pinned: set[int]) -> None:
    with pytest.raises(PolicyInvalid, match="4 and 12, or 7"):
        Policy(TPM, (dict.fromkeys(pinned, b"\x01" * 48),))


@pytest.mark.parametrize("pinned", [{4, 12}, {7}, {4, 7, 12, 22}])
def test_a_tpm_policy_binds_4_and_12_or_7(pinned: set[int]) -> None:
    assert Policy(TPM, (dict.fromkeys(pinned, b"\x01" * 48),)).required == pinned


@pytest.mark.parametrize("index", [1, 16, 23, 24])
def test_a_tpm_register_that_proves_nothing_may_not_be_pinned(index: int) -> None:
    with pytest.raises(PolicyInvalid, match=f"{index}"):
        Policy(TPM, ({7: b"\x01" * 48, index: b"\x01" * 48},))


def test_only_the_tpm_command_line_may_be_zero() -> None:
    policy = Policy(TPM, ({4: b"\x01" * 48, 12: ZERO},))
    policy.match({4: b"\x01" * 48, 12: ZERO})
    with pytest.raises(MeasurementMismatch, match="12"):
        policy.match({4: b"\x01" * 48, 12: b"\x02" * 48})
    with pytest.raises(MeasurementMismatch, match="absent"):
        policy.match({4: b"\x01" * 48})
    with pytest.raises(PolicyInvalid, match="not zero"):
        Policy(TPM, ({4: ZERO, 12: ZERO},))
    with pytest.raises(PolicyInvalid, match="not zero"):
        Policy(SIMULATED, ({**ONE, 12: ZERO},))


def test_one_set_must_hold_whole_not_each_register_in_some_set() -> None:
    policy = Policy(SIMULATED, (ONE, OTHER))
    policy.match({**OTHER, 3: b"x"})
    with pytest.raises(MeasurementMismatch, match=r"16 \(configuration\)"):
        policy.match({**ONE, 16: OTHER[16]})


def test_a_match_names_the_releases_of_which_a_set_holds() -> None:
    policy = release_policy(SIMULATED, {"b 2": [OTHER], "b 1": [ONE, OTHER], "c": [{**ONE, 3: b"\x07" * 48}]})
    assert policy.match(OTHER) == ("b 1", "b 2")
    assert policy.match(ONE) == ("b 1",)
    assert policy.match({**ONE, 3: b"\x07" * 48}) == ("b 1", "c")
    assert Policy(SIMULATED, (ONE,)).match(ONE) == (UNNAMED,)


@pytest.mark.parametrize("name", ["", " a", "a ", "a\n", "\x1b[2J", "é", "n" * 130])
def test_a_release_name_is_short_and_printable(name: str) -> None:
    with pytest.raises(PolicyInvalid, match="release name"):
        release_policy(SIMULATED, {name: [ONE]})


def test_each_set_has_one_release_name() -> None:
    with pytest.raises(PolicyInvalid, match="expected 2 release names, got 1"):
        Policy(SIMULATED, (ONE, OTHER), releases=("a",))


def test_the_digest_follows_what_is_accepted_and_not_how_it_is_written() -> None:
    backwards = dict(reversed(list(ONE.items())))
    assert Policy(SIMULATED, (ONE,)).digest == Policy(SIMULATED, (backwards,)).digest
    assert Policy(SIMULATED, (ONE, OTHER)).digest == Policy(SIMULATED, (OTHER, ONE, OTHER)).digest
    different = [
        Policy(SIMULATED, (ONE,)),
        Policy(SIMULATED, ({**ONE, 0: b"z" * 48},)),
        Policy(SIMULATED, (ONE, OTHER)),
        Policy(SIMULATED, (ONE,), Milliseconds(1000)),
        Policy(SIMULATED, (ONE,), nonce=NonceRule.OPTIONAL),
        Policy(SIMULATED, (ONE,), releases=("a",)),
        Policy(frozenset({Platform.NITRO_ENCLAVE}), (ONE,)),
    ]
    assert len({policy.digest for policy in different}) == len(different)


def test_the_digest_is_the_one_that_the_specification_s_words_give() -> None:
    policy = release_policy(SIMULATED, {"b": [OTHER, ONE], "a": [ONE]}, Milliseconds(1000), NonceRule.OPTIONAL)
    one, other = ({str(index): value for index, value in which.items()} for which in (ONE, OTHER))
    # docs/spec/evidence.md 3 and 12.4, by another encoder: sets in the order of their encodings, here by register 0.
    members = {
        "v": 1,
        "platforms": ["simulated"],
        "releases": {"a": [one], "b": [one, other]},
        "max_age_ms": 1000,
        "nonce": "optional",
    }
    parts = (b"anchorhold/v1/policy", cbor2.dumps(members, canonical=True))
    by_hand = hashlib.sha384(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()
    assert policy.digest == by_hand


def test_a_policy_cannot_be_changed_after_it_was_checked() -> None:
    mutable = dict(ONE)
    policy = Policy(SIMULATED, (mutable,))
    mutable.clear()
    assert policy.required == SERVICE_PCRS


def file(**changes: object) -> dict[str, object]:
    """A good policy file with these members changed; one given as `...` is left out."""
    members = {"version": 1, "platforms": ["simulated"], "releases": {"toy 1.0": [texts(ONE)]}, **changes}
    return {name: value for name, value in members.items() if value is not ...}


def texts(registers: Mapping[int, bytes]) -> dict[str, str]:
    return {str(index): value.hex() for index, value in registers.items()}


def test_a_file_gives_the_policy_it_says() -> None:
    policy = policy_from_json(json.dumps(file(required=[16, 0], max_age_s=60, nonce="optional")).encode())
    assert policy == Policy(SIMULATED, (ONE,), Milliseconds(60_000), ("toy 1.0",), NonceRule.OPTIONAL)
    plain = policy_from_json(json.dumps(file()).encode())
    assert (plain.max_age_ms, plain.nonce) == (DEFAULT_MAX_AGE_MS, NonceRule.REQUIRED)


BAD: dict[str, dict[str, object]] = {
    "no version": file(version=...),
    "version 2": file(version=2),
    "version true": file(version=True),
    "version as text": file(version="1"),
    "an unknown member": file(debug=True),
    "the form without releases": file(releases=..., measurements=[texts(ONE)]),
    "no platforms": file(platforms=...),
    "empty platforms": file(platforms=[]),
    "an unknown platform": file(platforms=["nitro"]),
    "a platform twice": file(platforms=["simulated", "simulated"]),
    "a platform as text": file(platforms="simulated"),
    "nitro-tpm beside another": file(platforms=["nitro-tpm", "nitro-enclave"]),
    "no releases": file(releases=...),
    "empty releases": file(releases={}),
    "releases as a list": file(releases=[[texts(ONE)]]),
    "a release without sets": file(releases={"a": [texts(ONE)], "b": []}),
    "a release that is a set": file(releases={"a": texts(ONE)}),
    "an unprintable release name": file(releases={"a\n": [texts(ONE)]}),
    "an empty release name": file(releases={"": [texts(ONE)]}),
    "a set twice": file(releases={"a": [texts(ONE), texts(ONE)]}),
    "a set that is a list": file(releases={"a": [[]]}),
    "an empty set": file(releases={"a": [{}]}),
    "a zero value": file(releases={"a": [{**texts(ONE), "2": "00" * 48}]}),
    "a zero value beyond the image": file(releases={"a": [{**texts(ONE), "16": "00" * 48}]}),
    "a short value": file(releases={"a": [{**texts(ONE), "2": "ab" * 47}]}),
    "a value and a newline": file(releases={"a": [{**texts(ONE), "2": "ab" * 48 + "\n"}]}),
    "upper-case hex": file(releases={"a": [{**texts(ONE), "2": "AB" * 48}]}),
    "a number as value": file(releases={"a": [{**texts(ONE), "2": 7}]}),
    "null as value": file(releases={"a": [{**texts(ONE), "3": None}]}),
    "register 32": file(releases={"a": [{**texts(ONE), "32": "ab" * 48}]}),
    "register 03": file(releases={"a": [{**texts(ONE), "03": "ab" * 48}]}),
    "register PCR3": file(releases={"a": [{**texts(ONE), "PCR3": "ab" * 48}]}),
    "no register 1": file(releases={"a": [{"0": "ab" * 48, "2": "ab" * 48}]}),
    "tpm: 4 alone": file(platforms=["nitro-tpm"], releases={"a": [{"4": "ab" * 48}]}),
    "tpm: register 1": file(platforms=["nitro-tpm"], releases={"a": [{"7": "ab" * 48, "1": "ab" * 48}]}),
    "tpm: register 23": file(platforms=["nitro-tpm"], releases={"a": [{"7": "ab" * 48, "23": "ab" * 48}]}),
    "tpm: register 24": file(platforms=["nitro-tpm"], releases={"a": [{"7": "ab" * 48, "24": "ab" * 48}]}),
    "tpm: zero in 4": file(platforms=["nitro-tpm"], releases={"a": [{"4": "00" * 48, "12": "00" * 48}]}),
    "tpm: an enclave's set": file(platforms=["nitro-tpm"]),
    "empty required": file(required=[]),
    "required null": file(required=None),
    "required 32": file(required=[32]),
    "required true": file(required=[True]),
    "required twice": file(required=[0, 0]),
    "age 0": file(max_age_s=0),
    "age over an hour": file(max_age_s=3601),
    "age as text": file(max_age_s="300"),
    "age true": file(max_age_s=True),
    "age null": file(max_age_s=None),
    "a nonce rule that is neither": file(nonce="none"),
    "nonce rule null": file(nonce=None),
}
GOOD: dict[str, dict[str, object]] = {
    "plain": file(),
    "everything": file(required=[0, 1, 2, 16], max_age_s=3600, nonce="optional"),
    "two platforms": file(platforms=["nitro-enclave", "simulated"]),
    "tpm 4 and 12": file(platforms=["nitro-tpm"], releases={"a": [{"4": "ab" * 48, "12": "00" * 48}]}),
    "tpm 7": file(
        platforms=["nitro-tpm"], releases={"a": [{"7": "ab" * 48}], "b": [{"7": "cd" * 48, "22": "ff" * 48}]}
    ),
    "one set in two releases": file(releases={"a": [texts(ONE)], "b": [texts(ONE), texts(OTHER)]}),
}


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("members", BAD.values(), ids=BAD)
def test_reader_and_schema_both_refuse(members: dict[str, object]) -> None:
    with pytest.raises(EvidenceError):
        policy_from_json(json.dumps(members).encode())
    assert not VALIDATOR.is_valid(members)


@pytest.mark.parametrize("members", GOOD.values(), ids=GOOD)
def test_reader_and_schema_both_take(members: dict[str, object]) -> None:
    policy = policy_from_json(json.dumps(members).encode())
    VALIDATOR.validate(members)
    assert policy_from_json(policy_to_json(policy)).digest == policy.digest


MANY = {f"r{at}": [{**texts(ONE), "3": f"{at + 1:096x}"}] for at in range(MAX_ACCEPTED + 1)}
BEYOND = {
    "not UTF-8": json.dumps(file()).encode("utf-16"),
    "a name twice": json.dumps(file()).replace('"version": 1', '"version": 1, "version": 1').encode(),
    "a register twice": json.dumps(file()).replace('"0": "', f'"0": "{"ee" * 48}", "0": "').encode(),
    "a fraction": json.dumps(file(max_age_s=300.0)).encode(),
    "too long": json.dumps(file()).encode().ljust(MAX_POLICY_JSON + 1),
    "too many sets": json.dumps(file(releases=MANY)).encode(),
    "a required register that is not pinned": json.dumps(file(required=[3])).encode(),
    "deep": b"[" * 100_000,
    "not JSON": b"{",
}


@pytest.mark.parametrize("raw", BEYOND.values(), ids=BEYOND)
def test_the_reader_refuses_what_a_schema_cannot_say(raw: bytes) -> None:
    with pytest.raises(EvidenceError):
        policy_from_json(raw)


def test_a_file_of_exactly_the_limit_is_read() -> None:
    raw = json.dumps(file()).encode()
    assert policy_from_json(raw + b" " * (MAX_POLICY_JSON - len(raw))).releases == ("toy 1.0",)


def test_an_age_that_is_no_whole_number_of_seconds_has_no_file() -> None:
    with pytest.raises(PolicyInvalid, match="whole seconds"):
        policy_to_json(Policy(SIMULATED, (ONE,), Milliseconds(1500)))


HEX = st.sampled_from(["ab" * 48, "cd" * 48, "0" * 95 + "1"])
ENCLAVE_SETS = st.dictionaries(st.sampled_from(["3", "8", "16", "31"]), HEX, max_size=2).map(
    lambda more: texts(ONE) | more
)
TPM_SETS = st.dictionaries(st.sampled_from(["0", "7", "22"]), HEX, max_size=2).map(
    lambda more: {"4": "ab" * 48, "12": "00" * 48} | more
)
NAMES = st.one_of(st.sampled_from(["a", "toy 1.0", "n" * 129]), st.text(st.characters(max_codepoint=127), max_size=4))
RULES: dict[str, st.SearchStrategy[object]] = {
    "required": st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True),
    "max_age_s": st.integers(1, 3600),
    "nonce": st.sampled_from(["required", "optional"]),
}


def written(
    platforms: list[list[str]], sets: st.SearchStrategy[dict[str, str]]
) -> st.SearchStrategy[dict[str, object]]:
    releases = st.dictionaries(NAMES, st.lists(sets, min_size=1, max_size=3), min_size=1, max_size=3)
    needed: dict[str, st.SearchStrategy[object]] = {
        "version": st.just(1),
        "platforms": st.sampled_from(platforms),
        "releases": releases,
    }
    return st.fixed_dictionaries(needed, optional=RULES)


REGISTERS = st.sampled_from([str(index) for index in range(33)] + ["00", "PCR0", ""])
ODD: st.SearchStrategy[object] = st.one_of(
    HEX, st.sampled_from(["00" * 48, "AB" * 48, "ab" * 47, 1, None, True, [], {}, -1, 3601, 0]), st.text(max_size=3)
)
ODD_SETS = st.dictionaries(REGISTERS, ODD, max_size=3)
SPOILT = st.one_of(
    st.tuples(st.sampled_from(["version", "platforms", "releases", "required", "max_age_s", "nonce", "extra"]), ODD),
    st.tuples(st.just("releases"), st.dictionaries(NAMES, st.lists(ODD_SETS, max_size=2), max_size=2)),
    st.tuples(st.just("required"), st.lists(st.integers(-1, 33), max_size=3)),
    st.tuples(st.just("platforms"), st.lists(st.sampled_from(["simulated", "nitro-enclave", "nitro-tpm", "x"]))),
)
GOODISH = st.one_of(
    written([["simulated"], ["nitro-enclave", "simulated"]], ENCLAVE_SETS), written([["nitro-tpm"]], TPM_SETS)
)
FILES = st.one_of(GOODISH, st.tuples(GOODISH, SPOILT).map(lambda both: both[0] | {both[1][0]: both[1][1]}))


def required_is_pinned(members: dict[str, object]) -> bool:
    """The one rule a generated file can break that the schema does not hold (it says so)."""
    required, releases = members.get("required", []), members["releases"]
    if not isinstance(required, list) or not isinstance(releases, dict):
        return True
    return all({str(index) for index in required} <= one.keys() for sets in releases.values() for one in sets)


@settings(max_examples=400, deadline=None)
@given(FILES)
def test_reader_and_schema_agree_about_any_file(members: dict[str, object]) -> None:
    try:
        policy = policy_from_json(json.dumps(members).encode())
    except EvidenceError:
        assert not (VALIDATOR.is_valid(members) and required_is_pinned(members))
        return
    VALIDATOR.validate(members)
    assert policy_from_json(policy_to_json(policy)).digest == policy.digest
    VALIDATOR.validate(json.loads(policy_to_json(policy)))
