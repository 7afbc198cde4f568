"""A guard policy is one document in one form: what a reader takes the schema takes, and nothing unknown gets by."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.authority.guard.cases import CASES
from tests.authority.guard.conftest import ANN, BEN, USES, everything, hex_of, with_people

from anchorhold.authority.guard.defaults import Approving, kms_policy, owner_policy
from anchorhold.authority.guard.fields import PolicyMalformed
from anchorhold.authority.guard.policy import MAX_POLICY
from anchorhold.authority.guard.reading import read_policy

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schema/guard.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
USE = next(iter(USES.values()))
HOURS = {"open": [{"days": ["mon", "tue"], "from": "08:00", "to": "24:00"}], "action": "hold"}
FREEZE = {"from": "2026-12-24T00:00:00+01:00", "to": "2026-12-27T00:00:00+01:00", "reason": "holidays"}
WHOLE: dict[str, Any] = with_people(everything(USE)) | {
    "about": "everything that a policy can say",
    "partitions": ["aws"],
    "dedicated_tags": ["high-risk"],
    "regions": ["eu-central-1"],
    "purposes": {"CUSTOMER_INITIATED_ACCESS": "serve", "PROVIDER_INITIATED_SERVICE": "reseal"},
    "separation": {"use": ["kms:Decrypt"], "administer": ["kms:PutKeyPolicy"]},
    "buckets": [{"name": "b", "per": "principal", "operations": ["kms:*"], "uses": 5, "seconds": 60}],
    "budgets": [{"name": "d", "per": "tenant", "uses": 50}],
    "zone": "Europe/Berlin",
    "hours": HOURS,
    "freeze": [FREEZE],
    "anomalies": {
        "new_principal": "alert",
        "new_measurement": "hold",
        "burst": {"uses": 9, "seconds": 60, "action": "kill"},
        "unknown_start": "deny",
        "unmatched_request": {"after_s": 900, "action": "alert"},
    },
}
WHOLE["allow"][0].update(
    via_service=["s3.*"], vpc=["vpc-1"], vpce=["vpce-1"], measured=[{"PCR0": "a0" * 48}], told=[{"PCR16": "c0" * 48}],
    purpose=True, ticket=True, approval=True,
)  # fmt: skip


def objects(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every object within."""
    found = [path] if isinstance(value, dict) else []
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        found += objects(member, (*path, name))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


def test_the_schema_is_one_and_takes_the_fullest_policy() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(WHOLE)
    read_policy(json.dumps(WHOLE))


def test_the_schema_names_every_member_that_a_policy_can_have() -> None:
    assert SCHEMA["properties"].keys() == WHOLE.keys()
    assert SCHEMA["$defs"]["allow"]["properties"].keys() == WHOLE["allow"][0].keys()


@pytest.mark.parametrize("path", objects(WHOLE), ids=str)
def test_an_unknown_member_is_refused_wherever_it_stands(path: tuple[Any, ...]) -> None:
    policy = copy.deepcopy(WHOLE)
    at(policy, path)["extra member"] = "x"
    with pytest.raises(PolicyMalformed):
        read_policy(json.dumps(policy))
    assert not VALIDATOR.is_valid(policy)


WRONG: list[tuple[tuple[Any, ...], Any]] = [
    (("version",), 2), (("version",), True), (("allow",), {}), (("allow", 0, "faces"), ["gcp"]),
    (("allow", 0, "faces"), []), (("allow", 0, "principals"), []), (("allow", 0, "principals"), "*"),
    (("allow", 0, "measured"), []), (("allow", 0, "measured"), [{}]),
    (("allow", 0, "measured"), [{"PCR0": "0" * 96}]), (("allow", 0, "measured"), [{"PCR0": "A0" * 48}]),
    (("allow", 0, "measured"), [{"PCR32": "a0" * 48}]), (("allow", 0, "ticket"), 1), (("allow", 0, "name"), ""),
    (("purposes",), {}), (("purposes", "CUSTOMER_INITIATED_ACCESS"), "other"),
    (("purposes", "CUSTOMER_INITIATED_ACCESS"), ["serve", "reseal"]),
    (("buckets", 0, "per"), "host"), (("buckets", 0, "uses"), 0), (("buckets", 0, "uses"), 1_000_001),
    (("buckets", 0, "seconds"), 86_401), (("budgets", 0, "uses"), "5"), (("hours", "action"), "shout"),
    (("hours", "open"), []), (("hours", "open", 0, "days"), ["monday"]), (("hours", "open", 0, "to"), "24:01"),
    (("anomalies", "burst", "uses"), 0), (("anomalies", "new_principal"), "ignore"), (("quorum",), 0),
    (("approvers", 0, "key"), "00"), (("separation", "use"), []), (("partitions",), []),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), WRONG, ids=str)
def test_a_wrong_value_is_refused_by_reader_and_schema_alike(path: tuple[Any, ...], value: Any) -> None:
    policy = copy.deepcopy(WHOLE)
    at(policy, path[:-1])[path[-1]] = value
    with pytest.raises(PolicyMalformed):
        read_policy(json.dumps(policy))
    assert not VALIDATOR.is_valid(policy)


READER_ALONE: list[tuple[tuple[Any, ...], Any]] = [
    (("zone",), "Mars/Olympus"), (("zone",), "../../etc/passwd"), (("hours", "open", 0, "to"), "08:00"),
    (("freeze", 0, "to"), FREEZE["from"]), (("freeze", 0, "from"), "2026-12-24T00:00:00"),
    (("freeze", 0, "from"), "soon"), (("quorum",), 4), (("approvers",), []),
    (("approvers", 1, "key"), hex_of(ANN)), (("approvers", 1, "name"), "ann"), (("about",), "a\x00b"),
    (("allow",), [WHOLE["allow"][0], WHOLE["allow"][0]]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), READER_ALONE, ids=str)
def test_the_reader_refuses_what_a_schema_cannot_say(path: tuple[Any, ...], value: Any) -> None:
    policy = copy.deepcopy(WHOLE)
    at(policy, path[:-1])[path[-1]] = value
    with pytest.raises(PolicyMalformed):
        read_policy(json.dumps(policy))


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b'{"version":1,"version":1,"allow":[]}', b'{"version":1,"allow":[NaN]}', b"\xff", b"[" * 9_999],
)
def test_what_is_not_one_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(PolicyMalformed):
        read_policy(raw)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_bytes_are_a_policy_or_refused_in_its_own_words(raw: bytes | str) -> None:
    with pytest.raises(PolicyMalformed):
        read_policy(raw)


def test_a_policy_over_the_limit_is_not_parsed() -> None:
    with pytest.raises(PolicyMalformed, match="at most"):
        read_policy(json.dumps(WHOLE) + " " * MAX_POLICY)


def test_the_digest_is_of_what_it_says_not_of_how_it_is_spelled() -> None:
    spelled = json.dumps(WHOLE, indent=7, sort_keys=True)
    assert read_policy(spelled).digest == read_policy(json.dumps(WHOLE)).digest
    assert read_policy(read_policy(spelled).raw).digest == read_policy(spelled).digest
    assert read_policy(json.dumps(WHOLE | {"regions": ["eu-central-2"]})).digest != read_policy(spelled).digest


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_every_case_of_the_rules_is_a_policy_by_the_schema_too(case: Any) -> None:
    policy = everything(USE)
    case.change(policy, USE)
    VALIDATOR.validate(policy)


def test_what_init_writes_is_a_policy_with_and_without_approvers() -> None:
    people = Approving({"ann": hex_of(ANN), "ben": hex_of(BEN)}, 1)
    arns = {name: f"arn:aws:iam::000000000001:user/{name}" for name in ("admin", "publisher", "enclave")}
    for text in (
        owner_policy(), owner_policy(people), kms_policy("aws", "eu-central-1", arns),
        kms_policy("aws", "eu-central-1", arns, people),
    ):  # fmt: skip
        VALIDATOR.validate(json.loads(text))
        read_policy(text)
    assert read_policy(owner_policy(people)).quorum == 1
    assert [one.approval for one in read_policy(owner_policy(people)).allow] == [False, False, True]
