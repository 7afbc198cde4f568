"""The trust file's published schema and its reader: what the reader takes the schema takes, and faults both refuse."""

import contextlib
import copy
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.client.desk import ORIGIN, Desk

from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.client.errors import TrustFileInvalid
from anchorhold.client.tiers import STANDARD
from anchorhold.client.trust import LogPin, encode_trust, parse_trust
from anchorhold.sim.link import loopback_trust
from anchorhold.sim.loopback import LoopbackEnclave, ManualClock
from anchorhold.sim.pki import SimulatedPki

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schema" / "trust.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
BY_HAND_TRUST = loopback_trust(LoopbackEnclave(SimulatedPki.create(NOW), ManualClock(NOW)))
LOG = LogPin(ORIGIN, str(Vkey.of(ORIGIN, Ed25519PrivateKey.generate().public_key())))
BY_HAND: dict[str, Any] = json.loads(encode_trust(BY_HAND_TRUST))
RELEASED: dict[str, Any] = json.loads(
    encode_trust(replace(BY_HAND_TRUST, measurements=None, releases=Desk.pin_of_all(), log=LOG))
)
PIN: dict[str, Any] = RELEASED["releases"]
SIGNER: dict[str, Any] = PIN["signers"][0]
TIER: dict[str, Any] = STANDARD["secret"].as_json()
TLS: dict[str, Any] = {"server": "gateway.example", "certificates": BY_HAND["root"]}


def pinned(**changes: object) -> dict[str, Any]:
    return {"releases": {**PIN, **changes}}


OPTIONAL: dict[str, Any] = {"tls": TLS, "require_pq": "all", "tiers": {"secret": TIER}}
WHOLE: dict[str, Any] = {**BY_HAND, **OPTIONAL}


def tiered(**changes: object) -> dict[str, Any]:
    return {**BY_HAND, "tiers": {"secret": {**TIER, **changes}}}


def without(members: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key != name}


def refuses(members: object) -> bool:
    try:
        parse_trust(json.dumps(members).encode())
    except TrustFileInvalid:
        return True
    return False


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "members",
    [
        BY_HAND,
        {**BY_HAND, "version": 1},
        RELEASED,
        {**RELEASED, "releases": without(PIN, "max_list_age_s")},
        {**RELEASED, **pinned(source="releases.cbor")},
        {**RELEASED, **pinned(threshold=3, revocation_threshold=3)},
        {**RELEASED, "tls": TLS, "require_pq": "all", "tiers": {"secret": TIER}},
        {**BY_HAND, "require_pq": "none"},
        {**BY_HAND, "tls": {**TLS, "certificates": 2 * TLS["certificates"]}},
        tiered(regions=["eu-central-1"], time_grade="T3", padding="off", require_pq="none", split=False),
        {**BY_HAND, "tiers": {f"t{index}": TIER for index in range(16)}},
    ],
)
def test_reader_and_schema_both_take(members: dict[str, Any]) -> None:
    assert not refuses(members)
    VALIDATOR.validate(members)


@pytest.mark.parametrize(
    "members",
    [
        {**RELEASED, "measurements": BY_HAND["measurements"]},
        without(RELEASED, "releases"),
        {**RELEASED, "version": 1},
        {**RELEASED, "version": 3},
        {**RELEASED, "more": 1},
        without(RELEASED, "log"),
        {**RELEASED, "platforms": []},
        {**RELEASED, "platforms": ["simulated", "simulated"]},
        {**RELEASED, "platforms": ["nitro-enclave", "nitro-tpm"]},
        {**RELEASED, "root": None, "platforms": ["nitro-enclave", "nitro-tpm"]},
        {**RELEASED, "max_age_s": 0},
        {**RELEASED, "max_age_s": 3_601},
        {**RELEASED, "releases": None},
        {**RELEASED, "releases": without(PIN, "source")},
        {**RELEASED, "releases": {**PIN, "more": 1}},
        {**RELEASED, **pinned(product="")},
        {**RELEASED, **pinned(product="a b")},
        {**RELEASED, **pinned(threshold=0)},
        {**RELEASED, **pinned(threshold=17)},
        {**RELEASED, **pinned(threshold=True)},
        {**RELEASED, **pinned(revocation_threshold=0)},
        {**RELEASED, **pinned(signers=[])},
        {**RELEASED, **pinned(signers=[SIGNER] * 17)},
        {**RELEASED, **pinned(source="")},
        {**RELEASED, **pinned(source=7)},
        {**RELEASED, **pinned(max_list_age_s=0)},
        {**RELEASED, **pinned(max_list_age_s=7_776_001)},
        {**RELEASED, **pinned(signers=[{**SIGNER, "role": "boss"}, *PIN["signers"][1:]])},
        {**RELEASED, **pinned(signers=[{**SIGNER, "ed25519": SIGNER["ed25519"][:-2]}, *PIN["signers"][1:]])},
        {**RELEASED, **pinned(signers=[{**SIGNER, "ml_dsa_65": SIGNER["ml_dsa_65"].upper()}, *PIN["signers"][1:]])},
        {**RELEASED, **pinned(signers=[{**SIGNER, "more": 1}, *PIN["signers"][1:]])},
        *({**BY_HAND, "version": 1, name: value} for name, value in OPTIONAL.items()),
        {**BY_HAND, "tls": None},
        {**BY_HAND, "tls": without(TLS, "server")},
        {**BY_HAND, "tls": {**TLS, "more": 1}},
        {**BY_HAND, "tls": {**TLS, "server": ""}},
        {**BY_HAND, "tls": {**TLS, "certificates": ""}},
        {**BY_HAND, "require_pq": "some"},
        {**BY_HAND, "require_pq": True},
        {**BY_HAND, "tiers": {}},
        {**BY_HAND, "tiers": {f"t{index}": TIER for index in range(17)}},
        {**BY_HAND, "tiers": {"Secret": TIER}},
        {**BY_HAND, "tiers": {"secret": {**TIER, "more": 1}}},
        *({**BY_HAND, "tiers": {"secret": without(TIER, name)}} for name in TIER),
        tiered(platforms=[]),
        tiered(platforms=["nitro-enclave", "nitro-enclave"]),
        tiered(platforms=["sgx"]),
        tiered(debug="always"),
        tiered(split="yes"),
        tiered(max_lease_s=0),
        tiered(max_lease_s=3_601),
        tiered(max_log_lease_s=True),
        tiered(require_pq="some"),
        tiered(padding="lots"),
        tiered(time_grade="T0"),
        tiered(regions=[]),
        tiered(regions=["EU"]),
        tiered(regions=[7]),
        tiered(regions=["eu-central-1", "eu-central-1"]),
    ],
)
def test_reader_and_schema_both_refuse(members: dict[str, Any]) -> None:
    assert refuses(members)
    assert not VALIDATOR.is_valid(members)


@pytest.mark.parametrize(
    "members",
    [
        {**RELEASED, **pinned(signers=[SIGNER, SIGNER, SIGNER])},
        {**RELEASED, **pinned(signers=[{**PIN["signers"][1], "name": "twice"}, *PIN["signers"][1:]])},
        {**RELEASED, **pinned(threshold=4)},
        {**RELEASED, **pinned(threshold=1, revocation_threshold=2)},
        {**RELEASED, "log": {**RELEASED["log"], "origin": "another"}},
        {**RELEASED, "log": {**RELEASED["log"], "key": "x"}},
        {**RELEASED, "root": None},
        {**RELEASED, "platforms": ["nitro-enclave"]},
        {**RELEASED, **pinned(source="a\nb")},
        {**BY_HAND, "tls": {**TLS, "certificates": "none"}},
        {**BY_HAND, "tls": {**TLS, "server": "a\nb"}},
    ],
)
def test_the_reader_refuses_what_a_schema_cannot_say(members: dict[str, Any]) -> None:
    assert refuses(members)
    VALIDATOR.validate(members)


ODD: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 0, 1, 2, 17, -1, 2**70, "", "a b", "simulated", "00" * 48, [], {}, [None], ["simulated"]]
)


@given(data=st.data())
def test_whatever_the_reader_takes_the_schema_takes(data: st.DataObject) -> None:
    members = copy.deepcopy(data.draw(st.sampled_from([BY_HAND, RELEASED, WHOLE])))
    holder: dict[str, Any] = members
    step = data.draw(st.sampled_from([*sorted(holder), "version", "more"]))
    while isinstance(holder.get(step), dict) and data.draw(st.booleans()):
        holder = holder[step]
        step = data.draw(st.sampled_from([*sorted(holder), "more"]))
    if data.draw(st.booleans()):
        holder[step] = data.draw(ODD)
    else:
        holder.pop(step, None)
    with contextlib.suppress(TrustFileInvalid):
        parse_trust(json.dumps(members).encode())
        VALIDATOR.validate(members)


@pytest.mark.parametrize("members", [WHOLE, {**RELEASED, **OPTIONAL}, tiered(regions=["eu-central-1", "eu-west-1"])])
def test_what_was_written_is_read_back(members: dict[str, Any]) -> None:
    trust = parse_trust(json.dumps(members).encode())
    assert json.loads(encode_trust(trust)) == members
    assert parse_trust(encode_trust(trust)) == trust


def test_a_file_that_names_no_tiers_has_the_standard_ones() -> None:
    assert parse_trust(json.dumps(BY_HAND).encode()).tiers == STANDARD
    assert set(parse_trust(json.dumps(tiered()).encode()).tiers) == {"secret"}
