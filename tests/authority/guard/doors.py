"""What the tests of every door share: the cases of one face, an act at a desk, and the latest denial it shows."""

from pathlib import Path

from starlette.testclient import TestClient
from starlette.types import ASGIApp
from tests.authority.guard.cases import CASES, Case

from anchorhold.attestation import canonical
from anchorhold.authority.guard import Face
from anchorhold.authority.guard.operators import TOKEN_FILE


def at(face: Face) -> list[Case]:
    """The cases that concern this face."""
    return [case for case in CASES if face in case.faces]


def asked(
    app: ASGIApp, folder: Path, act: str, token: str | None = None, **fields: canonical.Value
) -> dict[str, canonical.Value]:
    """One act at the desk of the face in `folder`, by the administrator unless a token says otherwise."""
    bearer = token or (folder / TOKEN_FILE).read_text().strip()
    answer = TestClient(app).post(
        f"/v1/admin/guard/{act}", content=canonical.encode(fields), headers={"Authorization": f"Bearer {bearer}"}
    )
    members = canonical.decode(answer.content, "answer", limit=1 << 20)
    assert isinstance(members, dict)
    assert answer.status_code == 200, members
    return members


def last_rule(answer: dict[str, canonical.Value]) -> object:
    """The rule of the latest denial that a desk shows."""
    denials = answer["denials"]
    assert isinstance(denials, list)
    return denials[0]["rule"] if denials else None
