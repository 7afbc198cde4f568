"""Every rule that concerns a face has a case through that face's own door: read off the tests themselves."""

from collections.abc import Callable

import pytest
from tests.authority.guard import test_faces, test_xks_face
from tests.authority.guard.cases import CASES

from anchorhold.authority.guard import Face
from anchorhold.authority.guard.rules import RULES

CONCERNS_NOT = {
    ("guard-role", Face.KMS): "its callers are the credentials of its own file, each with an ARN: none is a person",
    ("guard-unmatched-request", Face.OWNER): "an enclave asks the owner face itself; nobody between has a record",
}


# A rule about people, or about an order instead of a release, has a test of its own beside the table's.
DOORS: dict[Face, dict[str | None, Callable[..., None]]] = {
    Face.KMS: {None: test_faces.test_the_kms_face_denies_by_the_rule_and_serves_again_without_it},
    Face.OWNER: {
        None: test_faces.test_the_owner_face_denies_by_the_rule_and_serves_again_without_it,
        "guard-role": test_faces.test_each_role_does_its_own_acts_and_no_others,
        "guard-purpose-missing": test_faces.test_an_order_without_a_purpose_is_denied_where_the_tuple_asks_for_one,
    },
    Face.XKS: {
        None: test_xks_face.test_the_xks_face_denies_by_the_rule_and_serves_again_without_it,
        "guard-role": test_xks_face.test_kms_cannot_call_somebody_an_operator_of_this_authority,
    },
}


def _codes(face: Face) -> set[str]:
    """The rules that the tests of this face's door are run with."""
    marks: list[pytest.Mark] = getattr(DOORS[face][None], "pytestmark", [])
    table = {case.code for mark in marks if mark.name == "parametrize" for case in mark.args[1]}
    return table | {code for code in DOORS[face] if code is not None}


@pytest.mark.parametrize("face", list(Face), ids=lambda face: face.value)
def test_every_rule_that_concerns_a_face_is_put_through_its_door(face: Face) -> None:
    concerned = {rule.code for rule in RULES if (rule.code, face) not in CONCERNS_NOT}
    assert _codes(face) == concerned
    assert {case.code for case in CASES if face in case.faces} == concerned
