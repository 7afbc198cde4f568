"""Where the owner face cannot tell, it says no: an administrator without a token, a database that does not answer."""

import sqlite3

import pytest

from anchorhold.attestation import canonical
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.owner.authority import DATABASE, TOKEN_FILE, StateDamaged, load_owner
from anchorhold.sim.owner_face import Authority


def test_a_state_that_nobody_administers_is_not_served(authority: Authority) -> None:
    with sqlite3.connect(authority.state_dir / DATABASE) as database:
        database.execute("DELETE FROM guard_operators")
    with pytest.raises(StateDamaged, match="administrator"):
        load_owner(authority.state_dir, lambda: Milliseconds(0))


@pytest.mark.parametrize("token", [b"", b"short", b"x" * 43])
def test_a_token_written_into_the_folder_is_nobodys(authority: Authority, token: bytes) -> None:
    (authority.state_dir / TOKEN_FILE).write_bytes(token)
    authority.restart()
    assert authority.call("/v1/admin/status", {}, authority.token)[0] == 401


@pytest.mark.parametrize("token", ["", " ", "x", "\xe9"])
def test_no_other_token_is_the_administrators(authority: Authority, token: str) -> None:
    status, body = authority.call("/v1/admin/status", {}, token)
    assert (status, canonical.decode(body, "answer", limit=1_000)) == (401, {"code": "unauthorized"})


def test_a_database_that_does_not_answer_is_a_code_and_grants_nothing(authority: Authority) -> None:
    authority.register()
    with sqlite3.connect(authority.state_dir / DATABASE) as connection:
        connection.execute("DROP TABLE models")
    status, body = authority.call("/v1/admin/status", {}, authority.token)
    assert (status, canonical.decode(body, "answer", limit=1_000)) == (503, {"code": "unavailable"})
