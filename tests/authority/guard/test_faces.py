"""Every rule again, through the doors themselves: signed calls to a KMS face, attested requests to an owner face.

What the caller gets says little; which rule it was is asked at the desk, over the same administration on both faces.
"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.authority.guard.cases import Case, entries
from tests.authority.guard.conftest import SIGNER, hex_of
from tests.authority.guard.doors import asked as at_desk
from tests.authority.guard.doors import at, last_rule
from tests.authority.kms.conftest import Kms, KmsError

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import Ask
from anchorhold.attestation.lease import verify_lease
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Face, Use
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.reading import read_policy
from anchorhold.authority.guard.switch import KillFile, Latch
from anchorhold.authority.guard.tickets import Ticket, sign_ticket
from anchorhold.authority.owner.authority import DATABASE
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.state import SCHEMA, State
from anchorhold.enclave.keys.source import Refused
from anchorhold.sim.owner_face import MODEL, PURPOSE, Authority, owner_face, registration
from anchorhold.sim.pki import SimulatedPki

FAULTS = {
    "guard-kill": "KMSInvalidStateException",
    "guard-log": "KMSInvalidStateException",
    "guard-rate": "ThrottlingException",
    "guard-budget": "ThrottlingException",
    "guard-burst": "ThrottlingException",
}


# A release always has a purpose and no role: those two rules are about orders, below.
OF_RELEASES = [one for one in at(Face.OWNER) if one.code not in ("guard-role", "guard-purpose-missing")]


@pytest.fixture
def kms(tmp_path: Path) -> Kms:
    now = time.time_ns() // 1_000_000
    pki = SimulatedPki.create(datetime.fromtimestamp(now / 1000, UTC))
    return Kms(tmp_path / "kms", pki, now, guarded=True)


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    with owner_face(tmp_path) as running:
        yield running


def asked(kms: Kms, act: str, token: str | None = None, **fields: canonical.Value) -> dict[str, canonical.Value]:
    """One act at the KMS face's desk."""
    return at_desk(kms.app, kms.folder, act, token, **fields)


def _ticketed(kms: Kms, policy: dict[str, object], arn: str, purpose: str) -> None:
    """The KMS protocol carries no reason code: a ticket does, and the tuple asks for one."""
    policy["ticket_signers"] = [{"name": "plane", "key": hex_of(SIGNER)}]
    kms.guard_by(policy)
    token = asked(kms, "operator-add", name="olga", role="operator")["token"]
    now = Milliseconds(kms.now)
    ticket = Ticket(kms.arn("enclave"), arn, "kms:Decrypt", purpose, now, Milliseconds(now + 60_000), 9, b"n" * 16)
    asked(kms, "ticket", str(token), ticket=sign_ticket(ticket, SIGNER))


@pytest.mark.parametrize("case", at(Face.KMS), ids=lambda case: case.code)
def test_the_kms_face_denies_by_the_rule_and_serves_again_without_it(kms: Kms, case: Case) -> None:
    arn, blob = kms.attested_key()
    written = json.loads(str(asked(kms, "show")["policy"]))
    use = case.use(Use(Face.KMS, kms.arn("enclave"), "kms:Decrypt", arn))
    policy = json.loads(json.dumps(written))
    case.change(policy, use)
    if use.purpose is not None:
        entries(purpose=True)(policy, use)
        _ticketed(kms, policy, arn, use.purpose)
    kms.guard_by(policy)
    for _ in range(case.before):
        kms.decrypt(arn, blob, kms.document())
    if case.code == "guard-kill":
        KillFile(kms.folder).set("drill")
    if case.code == "guard-log":
        Latch(kms.folder).shut("drill")
    kms.now += 2_000
    with pytest.raises(KmsError) as refusal:
        kms.decrypt(arn, blob, kms.document())
    assert refusal.value.name == FAULTS.get(case.code, "AccessDeniedException")
    assert last_rule(asked(kms, "denials")) == case.code
    event = json.loads(str(kms.journal()[-1].body["event"]))
    assert [record["rule"] for record in event["anchorholdGuard"]] == [case.code]
    assert event["anchorholdGuard"][0]["policy"] == read_policy(json.dumps(policy)).digest.hex()
    if case.alone:
        kms.guard_by(written)
        assert kms.decrypt(arn, blob, kms.document())["CiphertextForRecipient"]


def _put(authority: Authority, policy: dict[str, object]) -> None:
    state = State.load(authority.state_dir / DATABASE)
    with state.connection() as connection:
        read = read_policy(json.dumps(policy))
        Memory(SCHEMA, connection).put_policy(read.digest, read.raw, authority.clock.ms())
    state.close()


@pytest.mark.parametrize("case", OF_RELEASES, ids=lambda case: case.code)
def test_the_owner_face_denies_by_the_rule_and_serves_again_without_it(authority: Authority, case: Case) -> None:
    use = case.use(Use(Face.OWNER, "enclave:*", "owner:Lease", MODEL.hex(), purpose=PURPOSE))
    assert use.purpose is not None
    authority.register(purposes=[PURPOSE, "chat", "THIRD_PARTY_DATA_REQUEST"])
    written = json.loads(str(authority.order("guard/show")["policy"]))
    policy = json.loads(json.dumps(written))
    case.change(policy, use)
    _put(authority, policy)
    for _ in range(case.before):
        authority.enclave().source().request(Ask.LEASE, number=1, purposes=(Purpose(use.purpose),))
    if case.code == "guard-kill":
        KillFile(authority.state_dir).set("drill")
    if case.code == "guard-log":
        Latch(authority.state_dir).shut("drill")
    with pytest.raises(Refused) as refusal:
        authority.enclave().source().request(Ask.LEASE, number=1, purposes=(Purpose(use.purpose),))
    assert refusal.value.code == "guard"
    assert last_rule(authority.order("guard/denials")) == case.code
    last = authority.journal()[-1]
    guard = last.body["guard"]
    assert isinstance(guard, dict)
    assert (last.type, guard["rule"]) == ("deny", case.code)
    assert guard["policy"] == read_policy(json.dumps(policy)).digest
    if case.alone:
        _put(authority, written)
        authority.enclave().source().request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))


def test_an_order_without_a_purpose_is_denied_where_the_tuple_asks_for_one(authority: Authority) -> None:
    policy = json.loads(str(authority.order("guard/show")["policy"]))
    entries(purpose=True)(policy, Use(Face.OWNER, "", "", ""))
    _put(authority, policy)
    with pytest.raises(AdminFailed) as refusal:
        authority.register()
    assert refusal.value.code == "guard-purpose-missing"


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("operator", ["revoke", "status", "guard/denials"], ["models", "shares", "tenants", "reinstate", "guard/put"]),
        ("auditor", ["status", "journal", "guard/show"], ["revoke", "models", "shares", "guard/kill", "guard/rearm"]),
        ("approver", ["status", "guard/approvals"], ["revoke", "models", "guard/kill", "guard/propose"]),
        ("administrator", ["revoke", "status", "models"], ["guard/ticket", "guard/starts", "guard/requests"]),
    ],
)
def test_each_role_does_its_own_acts_and_no_others(
    authority: Authority, role: str, may: list[str], may_not: list[str]
) -> None:
    authority.register()
    token = str(authority.order("guard/operator-add", name="somebody", role=role)["token"])
    bodies: dict[str, dict[str, canonical.Value]] = {
        "revoke": {"model": MODEL, "reason": "drill"},
        "reinstate": {"model": MODEL, "reason": "drill"},
        "models": registration(),
        "tenants": {
            "tenant": "acme", "key": b"k" * 32, "model": MODEL, "purposes": [PURPOSE], "adapters": [], "not_after": 0,
        },
        "shares": {"model": MODEL, "model_id": "tiny", "version": "1", "purpose_class": "serve"},
        "journal": {"first": 0},
        "guard/put": {"policy": "{}"}, "guard/kill": {"reason": "drill"}, "guard/ticket": {"ticket": b""},
        "guard/starts": {"subject": "x", "valid_ms": 1}, "guard/requests": {"ids": []},
        "guard/propose": {"kind": "rearm", "details": {}, "valid_ms": 1, "max_uses": 1},
    }  # fmt: skip
    for act in may:
        status, raw = authority.call(f"/v1/admin/{act}", bodies.get(act, {}), token)
        assert b"guard-role" not in raw, act
        assert status == 200, act
    for act in may_not:
        status, raw = authority.call(f"/v1/admin/{act}", bodies.get(act, {}), token)
        assert (status, b"guard-role" in raw) == (403, True), act


def test_a_principal_that_uses_keys_cannot_administer_them_nor_the_reverse(kms: Kms) -> None:
    """As `init` writes it: even where the key's own policy would allow both."""
    arn = kms.key({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:*", "Resource": "*"})
    for name, operation, more in (
        ("admin", "GenerateDataKey", {"KeySpec": "AES_256"}),
        ("enclave", "DisableKey", {}),
        ("publisher", "PutKeyPolicy", {"Policy": "{}"}),
    ):
        with pytest.raises(KmsError, match="guard policy"):
            kms.call(name, operation, KeyId=arn, **more)
    assert kms.call("publisher", "GenerateDataKey", KeyId=arn, KeySpec="AES_256")["Plaintext"]
    kms.call("admin", "DisableKey", KeyId=arn)


def test_nobody_without_a_token_is_at_the_desk(kms: Kms) -> None:
    for header in ({}, {"Authorization": "Bearer " + "x" * 43}, {"Authorization": "Bearer "}):
        answer = TestClient(kms.app).post("/v1/admin/guard/show", content=canonical.encode({}), headers=header)
        assert answer.status_code == 401


def test_every_purpose_of_one_release_is_judged(authority: Authority) -> None:
    """A lease for two reasons is one use, and a third party's does not come along with an ordinary one."""
    authority.register(purposes=[PURPOSE, "THIRD_PARTY_DATA_REQUEST"])
    both = (Purpose(PURPOSE), Purpose("THIRD_PARTY_DATA_REQUEST"))
    with pytest.raises(Refused) as refusal:
        authority.enclave().source().request(Ask.LEASE, number=1, purposes=both)
    assert refusal.value.code == "guard"
    assert last_rule(authority.order("guard/denials")) == "guard-third-party"
    authority.enclave().source().request(Ask.LEASE, number=1, purposes=both[:1])


def test_a_ticket_backs_the_purpose_it_names_in_the_lease(authority: Authority) -> None:
    authority.register(purposes=[PURPOSE, "chat"])
    policy = json.loads(str(authority.order("guard/show")["policy"]))
    entries(ticket=True)(policy, Use(Face.OWNER, "", "", ""))
    policy["allow"][1]["ticket"] = policy["allow"][2]["ticket"] = False
    policy["ticket_signers"] = [{"name": "plane", "key": hex_of(SIGNER)}]
    _put(authority, policy)
    token = str(authority.order("guard/operator-add", name="olga", role="operator")["token"])
    enclave, now = authority.enclave(), authority.clock.ms()
    who = "enclave:" + "a0" * 48
    ticket = Ticket(who, MODEL.hex(), "owner:Lease", PURPOSE, now, Milliseconds(now + 60_000), 1, b"n" * 16)
    raw = sign_ticket(ticket, SIGNER)
    assert authority.call("/v1/admin/guard/ticket", {"ticket": raw}, token)[0] == 200
    asked = (Purpose(PURPOSE, ticket="4711"), Purpose("chat", ticket="4712"))
    source = enclave.source()
    released = source.request(Ask.LEASE, number=1, purposes=asked)
    granted = verify_lease(released.lease, source._lease_key).purposes
    assert [(one.purpose.reason, one.backed) for one in granted] == [(PURPOSE, True), ("chat", False)]
    with pytest.raises(Refused, match="guard"):
        source.request(Ask.LEASE, number=2, purposes=asked)
