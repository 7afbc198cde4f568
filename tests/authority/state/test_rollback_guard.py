"""The guard of a state whose rollback was accepted: shut, with nothing approved, until the quorum opens it."""

import pytest
from tests.authority.guard.conftest import ANN, BEN, hex_of
from tests.authority.state.test_rollback import DATABASE, copied, put_back, revocations, revoked

from anchorhold.attestation import canonical
from anchorhold.authority.guard.defaults import Approving, owner_policy
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.reading import read_policy
from anchorhold.authority.guard.requests import request_id, sign_request
from anchorhold.authority.guard.switch import KILL_FILE
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.state import SCHEMA, State
from anchorhold.authority.restore import accept_rollback
from anchorhold.sim.owner_face import MODEL, OTHER_MODEL, Authority


def guarded(authority: Authority) -> None:
    """The policy that `init` writes where two approvers must both agree."""
    people = Approving({"ann": hex_of(ANN), "ben": hex_of(BEN)}, 2)
    state = State.load(authority.state_dir / DATABASE)
    with state.connection() as connection:
        read = read_policy(owner_policy(people))
        Memory(SCHEMA, connection).put_policy(read.digest, read.raw, authority.clock.ms())
    state.close()


def signed(authority: Authority, raw: canonical.Value) -> None:
    assert isinstance(raw, bytes)
    for voice in (ANN, BEN):
        authority.order("guard/approve", id=request_id(raw), signature=sign_request(raw, voice))


def test_an_accepted_rollback_sets_the_kill_switch_and_the_quorum_alone_ends_it(stopped: Authority) -> None:
    guarded(stopped)
    before = copied(stopped, "before")
    revoked(stopped)
    put_back(stopped, before)
    accept_rollback(stopped.state_dir, "disk lost", stopped.clock.ms())
    assert (stopped.state_dir / KILL_FILE).exists()
    assert stopped.journal()[-1].body["killed"] is True
    stopped.restart()
    shown = stopped.order("guard/show")
    assert shown["killed"] == "a rollback was accepted"
    for act, body in (
        ("reinstate", {"model": OTHER_MODEL, "reason": "checked"}),
        ("guard/rearm", {}),
        ("guard/put", {"policy": owner_policy()}),
    ):
        with pytest.raises(AdminFailed, match="guard-kill" if act == "reinstate" else "guard-quorum"):
            stopped.order(act, **body)
    details = {"killed": str(shown["killed_since"])}
    asked = stopped.order("guard/propose", kind="rearm", details=details, valid_ms=60_000, max_uses=1)
    signed(stopped, asked["request"])
    stopped.order("guard/rearm")
    # And it opens nothing by itself: what was closed is opened one by one, each by the quorum.
    assert revocations(stopped) == {MODEL: True, OTHER_MODEL: True}
    with pytest.raises(AdminFailed, match="guard-approval"):
        stopped.order("reinstate", model=OTHER_MODEL, reason="checked")


def test_an_approval_that_was_used_does_not_come_back_with_a_rollback(stopped: Authority) -> None:
    guarded(stopped)
    revoked(stopped)
    stopped.restart()
    with pytest.raises(AdminFailed, match="guard-approval"):
        stopped.order("reinstate", model=MODEL, reason="checked")
    waiting = stopped.order("guard/approvals")["waiting"]
    assert isinstance(waiting, list)
    assert isinstance(waiting[0], dict)
    signed(stopped, waiting[0]["request"])
    stopped.served.stop()
    before = copied(stopped, "before")
    stopped.restart()
    stopped.order("reinstate", model=MODEL, reason="checked")
    stopped.served.stop()
    put_back(stopped, before)
    accept_rollback(stopped.state_dir, "disk lost", stopped.clock.ms())
    stopped.restart()
    details = {"killed": str(stopped.order("guard/show")["killed_since"])}
    asked = stopped.order("guard/propose", kind="rearm", details=details, valid_ms=60_000, max_uses=1)
    signed(stopped, asked["request"])
    stopped.order("guard/rearm")
    with pytest.raises(AdminFailed, match="guard-approval"):
        stopped.order("reinstate", model=MODEL, reason="checked")


def test_without_approvers_an_accepted_rollback_closes_everything_and_kills_nothing(stopped: Authority) -> None:
    """Nobody could end it: the state would be lost with every share in it."""
    before = copied(stopped, "before")
    revoked(stopped)
    put_back(stopped, before)
    accept_rollback(stopped.state_dir, "disk lost", stopped.clock.ms())
    assert not (stopped.state_dir / KILL_FILE).exists()
    assert stopped.journal()[-1].body["killed"] is False
