"""The published form of a status: each state has one, and none that says more than was checked fits it."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from .statuses import STATES, claim, sha384, status

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schema" / "status.schema.json").read_text())
FORM = Draft202012Validator(SCHEMA)
GOOD, TOY, BAD = "verified", "verified-simulated", "refused"


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_state_of_the_schema_has_a_status_here_that_fits() -> None:
    assert set(STATES) == set(SCHEMA["properties"]["state"]["enum"])
    for name in STATES:
        FORM.validate(status(name))


_CLAIM = [claim("software", "words")]
SESSION = status(GOOD)["session"]
OVERSTATED: list[tuple[str, str, dict[str, Any]]] = [
    ("verified under a simulated trust file", GOOD, {"simulated": True}),
    ("verified with a simulated session", GOOD, {"session": SESSION | {"simulated": True}}),
    ("verified on a simulated platform", GOOD, {"session": SESSION | {"platform": "simulated"}}),
    ("a simulation on hardware", TOY, {"session": SESSION}),
    ("a simulation that does not say what that means", TOY, {"not_proved": status(GOOD)["not_proved"]}),
    ("verified, nothing proved", GOOD, {"proved": []}),
    ("verified, and a reason why not", GOOD, {"code": "measurement-mismatch"}),
    ("verified without a session", GOOD, {"session": None}),
    ("verified at no time", GOOD, {"verified_at": None}),
    ("everything proved", GOOD, {"not_proved": []}),
    ("refused, with a proof", BAD, {"proved": _CLAIM}),
    ("refused, with somebody's word", BAD, {"asserted": _CLAIM}),
    ("refused, sealed to an enclave", BAD, {"session": SESSION}),
    ("refused, with hops", BAD, {"hops": status(GOOD)["hops"]}),
    ("refused without a reason", BAD, {"code": None}),
    ("starting, with a proof", "starting", {"proved": _CLAIM}),
    ("a state nobody knows", GOOD, {"state": "excellent"}),
    ("a field nobody knows", GOOD, {"prompt": "what was asked"}),
    ("a digest cut short", GOOD, {"session": SESSION | {"statement": sha384("statement")[:64]}}),
    ("a receipt with text in it", GOOD, {"receipts": [status(GOOD)["receipts"][0] | {"answer": "text"}]}),
    ("a hop that has failed", GOOD, {"hops": [status(GOOD)["hops"][0] | {"status": "failed"}]}),
]


@pytest.mark.parametrize(("state", "changed"), [case[1:] for case in OVERSTATED], ids=[case[0] for case in OVERSTATED])
def test_what_says_too_much_does_not_fit(state: str, changed: dict[str, Any]) -> None:
    assert not FORM.is_valid(status(state) | changed)
