"""Every rule through the door of the XKS face: requests signed as KMS signs them, to the face as it is served.

KMS hears the error's name alone; which rule it was is in the face's journal, and at its desk.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from tests.authority.guard.cases import Case, entries
from tests.authority.guard.conftest import SIGNER, hex_of
from tests.authority.guard.doors import asked, at, last_rule
from tests.authority.xks.conformance.proxy import Answer, Proxy, decrypt_body, encrypt_body, request_metadata
from tests.authority.xks.conftest import KEYS, PATIENCE_S, Stage, make_stage, now_ms, served_plain

from anchorhold.attestation import canonical
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Face, Use
from anchorhold.authority.guard.reading import read_policy
from anchorhold.authority.guard.switch import KillFile, Latch
from anchorhold.authority.guard.tickets import Ticket, sign_ticket
from anchorhold.authority.xks.app import make_app
from anchorhold.authority.xks.desk_app import make_desk_app

APP = "arn:aws:iam::123456789012:role/app"
PUBLISHER = "arn:aws:iam::123456789012:role/publisher"
IMAGE = "a0" * 48
OPEN = {
    "version": 1,
    "allow": [{
        "name": "one", "faces": ["xks"], "principals": [APP, PUBLISHER, "operator:*"],
        "operations": ["xks:Encrypt", "xks:Decrypt"], "keys": [KEYS.full],
    }],
}  # fmt: skip
ERRORS = {
    "guard-kill": "InvalidStateException",
    "guard-log": "InvalidStateException",
    "guard-rate": "ThrottlingException",
    "guard-budget": "ThrottlingException",
    "guard-burst": "ThrottlingException",
}
# The role of a person is the test below: KMS's callers are no people.
OF_CALLS = [one for one in at(Face.XKS) if one.code != "guard-role"]


@dataclass
class Door:
    """A face that is served, its desk, and a ciphertext that somebody else had made."""

    stage: Stage
    proxy: Proxy
    desk: Starlette
    encrypted: dict[str, Any]
    later_ms: int = 0

    def now(self) -> Milliseconds:
        return Milliseconds(now_ms() + self.later_ms)

    def asked(self, act: str, token: str | None = None, **fields: canonical.Value) -> dict[str, canonical.Value]:
        return asked(self.desk, self.stage.folder, act, token, **fields)

    def guard_by(self, policy: dict[str, object]) -> None:
        self.asked("put", policy=json.dumps(policy))

    def decrypt(self, principal: str = APP) -> Answer:
        told = {"kmsRecipientAttestationPCR0": IMAGE}
        meta = request_metadata("Decrypt", awsPrincipalArn=principal, **told)
        return self.proxy.call(KEYS.full, "decrypt", decrypt_body(self.encrypted) | {"requestMetadata": meta})


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    stage = make_stage(tmp_path / "state", json.dumps(OPEN))
    made = Door(stage, stage.proxy(""), make_desk_app(stage.folder, now_ms), {})
    with served_plain(stage, make_app(stage.folder, made.now, budget_s=PATIENCE_S)) as made.proxy:
        meta = request_metadata("Encrypt", awsPrincipalArn=PUBLISHER)
        made.encrypted = made.proxy.call(KEYS.full, "encrypt", encrypt_body() | {"requestMetadata": meta}).succeeds()
        yield made
    stage.desk.close()


def _ticketed(door: Door, policy: dict[str, object], use: Use) -> None:
    """The proxy protocol carries no reason code: a ticket does, and the tuple asks for one."""
    assert use.purpose is not None
    entries(purpose=True)(policy, use)
    policy["ticket_signers"] = [{"name": "plane", "key": hex_of(SIGNER)}]
    door.guard_by(policy)
    token = door.asked("operator-add", name="olga", role="operator")["token"]
    now = door.now()
    ticket = Ticket(APP, use.key, use.operation, use.purpose, now, Milliseconds(now + 60_000), 9, b"n" * 16)
    door.asked("ticket", str(token), ticket=sign_ticket(ticket, SIGNER))


@pytest.mark.parametrize("case", OF_CALLS, ids=lambda case: case.code)
def test_the_xks_face_denies_by_the_rule_and_serves_again_without_it(door: Door, case: Case) -> None:
    use = case.use(Use(Face.XKS, APP, "xks:Decrypt", KEYS.full))
    policy = json.loads(json.dumps(OPEN))
    case.change(policy, use)
    if use.purpose is not None:
        _ticketed(door, policy, use)
    door.guard_by(policy)
    for _ in range(case.before):
        door.decrypt().succeeds()
    if case.code == "guard-kill":
        KillFile(door.stage.folder).set("drill")
    if case.code == "guard-log":
        Latch(door.stage.folder).shut("drill")
    door.later_ms = 2_000
    door.decrypt().fails(ERRORS.get(case.code, "AccessDeniedException"))
    entry = door.stage.last()
    assert (entry["allowed"], entry["rule"], entry["guard"]["rule"]) == (False, case.code, case.code)
    assert entry["guard"]["policy"] == read_policy(json.dumps(policy)).digest
    assert last_rule(door.asked("denials")) == case.code
    if case.alone:
        door.guard_by(OPEN)
        door.decrypt().succeeds()


def test_kms_cannot_call_somebody_an_operator_of_this_authority(door: Door) -> None:
    """A tuple for every operator is no tuple for whoever is called one: no role has a use of a key."""
    door.asked("operator-add", name="eve", role="administrator")
    for name in ("operator:eve", "operator:nobody"):
        door.decrypt(name).fails("AccessDeniedException")
        assert door.stage.last()["rule"] == "guard-role"
        assert last_rule(door.asked("denials")) == "guard-role"
    door.decrypt().succeeds()
