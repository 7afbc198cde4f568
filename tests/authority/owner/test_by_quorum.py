"""What gives back what was taken away, or takes every share out, waits for the quorum of the policy in force."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.authority.guard.conftest import ANN, BEN, hex_of

from anchorhold.attestation import canonical
from anchorhold.authority.escrow.recipient import make_recipient, read_recipient
from anchorhold.authority.guard.defaults import Approving, owner_policy
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.reading import read_policy
from anchorhold.authority.guard.requests import decode_request, sign_request
from anchorhold.authority.owner.authority import DATABASE, TOKEN_FILE
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.state import SCHEMA, State
from anchorhold.authority.tls import TlsFiles
from anchorhold.cli.main import main
from anchorhold.sim.owner_face import (
    MODEL,
    MODEL_ID,
    PURPOSE,
    TTL_MS,
    Authority,
    measurements,
    owner_face,
    registration,
)

PEOPLE = Approving({"ann": hex_of(ANN), "ben": hex_of(BEN)}, 2)


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    """An authority whose policy is what `init` writes with two approvers, who must both agree."""
    with owner_face(tmp_path) as running:
        adopt(running, owner_policy(PEOPLE))
        yield running


def adopt(running: Authority, policy: str) -> None:
    state = State.load(running.state_dir / DATABASE)
    with state.connection() as connection:
        read = read_policy(policy)
        Memory(SCHEMA, connection).put_policy(read.digest, read.raw, running.clock.ms())
    state.close()


def refused(authority: Authority, act: str, **body: canonical.Value) -> str:
    with pytest.raises(AdminFailed) as refusal:
        authority.order(act, **body)
    return refusal.value.code


def agreed(authority: Authority) -> dict[str, str]:
    """Both approvers sign the one request that waits; what they read in it."""
    waiting = authority.order("guard/approvals")["waiting"]
    assert isinstance(waiting, list)
    assert len(waiting) == 1
    one = waiting[0]
    assert isinstance(one, dict)
    raw = one["request"]
    assert isinstance(raw, bytes)
    for voice in (ANN, BEN):
        authority.order("guard/approve", id=one["id"], signature=sign_request(raw, voice))
    return dict(decode_request(raw).details)


def recipients(folder: Path, *names: str) -> list[canonical.Value]:
    folder.mkdir(exist_ok=True)
    return [read_recipient(make_recipient(folder / name)) for name in names]


def test_a_backup_takes_the_quorum_once_and_for_these_recipients_alone(authority: Authority, tmp_path: Path) -> None:
    authority.register()
    authority.share()
    wanted: dict[str, canonical.Value] = {"recipients": recipients(tmp_path / "safe", "ada", "bob"), "threshold": 2}
    assert refused(authority, "backup", **wanted) == "guard-approval"
    read = agreed(authority)
    assert read["operation"] == "owner:Backup"
    assert read["key"].startswith(f"{authority.public.key_id} 2 of ")
    # Whoever hands in the order cannot have the shares sealed to keys of his own, or to fewer.
    own = recipients(tmp_path / "own", "eve", "mal")
    assert refused(authority, "backup", recipients=own, threshold=2) == "guard-approval"
    assert refused(authority, "backup", **(wanted | {"threshold": 1})) == "guard-approval"
    assert authority.order("backup", **wanted)["file"]
    last = authority.journal()[-1]
    assert last.type == "backup"
    guard = last.body["guard"]
    assert isinstance(guard, dict)
    assert guard["approval"] is not None
    assert refused(authority, "backup", **wanted) == "guard-approval"
    assert [entry.type for entry in authority.journal()].count("backup") == 1


def test_a_floor_goes_down_by_the_quorum_and_to_the_version_they_read(authority: Authority) -> None:
    authority.order("floor", model_id=MODEL_ID, version="2", reason="CVE-1")
    assert refused(authority, "floor", model_id=MODEL_ID, version="1.5", reason="back") == "floor"
    assert refused(authority, "lower-floor", model_id=MODEL_ID, version="1.5", reason="back") == "guard-approval"
    assert agreed(authority)["key"] == f"{MODEL_ID} 1.5"
    assert refused(authority, "lower-floor", model_id=MODEL_ID, version="1", reason="back") == "guard-approval"
    authority.order("lower-floor", model_id=MODEL_ID, version="1.5", reason="back")
    floors = authority.order("status")["floors"]
    assert floors == [{"model_id": MODEL_ID, "version": "1.5", "at": authority.clock.ms()}]
    last = authority.journal()[-1]
    assert (last.type, last.body["before"], last.body["approved"]) == ("floor", "2", True)
    assert refused(authority, "lower-floor", model_id=MODEL_ID, version="1.5", reason="back") == "guard-approval"


def test_a_tenant_is_shredded_by_the_quorum_and_no_other_with_it(authority: Authority) -> None:
    for tenant in ("acme", "other"):
        authority.order("tenant-keys", tenant=tenant, tag="low", keeping=None, reason="contract")
    assert refused(authority, "shred", tenant="acme", reason="ended") == "guard-approval"
    read = agreed(authority)
    assert (read["operation"], read["key"]) == ("owner:Shred", "tenant acme")
    assert refused(authority, "shred", tenant="other", reason="ended") == "guard-approval"
    authority.order("shred", tenant="acme", reason="ended")
    kinds = [entry.type for entry in authority.journal()]
    assert (kinds.count("tenant-shred"), kinds.count("tenant-shredded")) == (1, 1)


def test_a_policy_without_approvers_lowers_no_floor(tmp_path: Path) -> None:
    with owner_face(tmp_path) as authority:
        authority.order("floor", model_id=MODEL_ID, version="2", reason="CVE-1")
        assert refused(authority, "lower-floor", model_id=MODEL_ID, version="1", reason="back") == "guard-quorum"
        last = authority.journal()[-1]
        assert (last.type, last.body["operation"]) == ("order-deny", "owner:LowerFloor")
        guard = last.body["guard"]
        assert isinstance(guard, dict)
        assert (guard["allowed"], guard["rule"]) == (False, "guard-quorum")
        floors = authority.order("status")["floors"]
        assert isinstance(floors, list)
        assert [one["version"] for one in floors if isinstance(one, dict)] == ["2"]


@pytest.mark.parametrize("named", ["model_id", "version"])
def test_a_name_that_no_database_keeps_is_refused_as_it_is_read(authority: Authority, named: str) -> None:
    before = len(authority.journal())
    body: dict[str, canonical.Value] = {"model_id": MODEL_ID, "version": "1", "reason": "back"}
    status, raw = authority.call("/v1/admin/lower-floor", body | {named: "1\0"}, authority.token)
    assert (status, b"printable" in raw) == (400, True)
    assert len(authority.journal()) == before


def test_an_operator_lowers_no_floor(authority: Authority) -> None:
    token = str(authority.order("guard/operator-add", name="olga", role="operator")["token"])
    body: dict[str, canonical.Value] = {"model_id": MODEL_ID, "version": "1", "reason": "back"}
    status, raw = authority.call("/v1/admin/lower-floor", body, token)
    assert (status, b"guard-role" in raw) == (403, True)


def test_the_command_says_that_it_waits_and_does_it_once_they_have_signed(
    authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    authority.order("floor", model_id=MODEL_ID, version="2", reason="CVE-1")
    ca = TlsFiles.within(authority.state_dir).authority
    command = ["authority", "floor", "--owner-url", f"https://localhost:{authority.served.port}", "--owner-ca", str(ca)]
    command += ["--token-file", str(authority.state_dir / TOKEN_FILE)]
    command += ["--model-id", MODEL_ID, "--version", "1", "--reason", "back"]
    assert main([*command, "--lower"]) == 1
    assert "held for approval" in capsys.readouterr().err
    agreed(authority)
    assert main(command) == 1
    assert main([*command, "--lower"]) == 0
    assert "version 1 or later" in capsys.readouterr().out


def test_a_key_is_retired_by_the_quorum_and_loses_what_they_read_and_nothing_else(authority: Authority) -> None:
    authority.share()
    old, middle = authority.public.key_id, str(authority.order("rotate", reason="yearly")["key_id"])
    authority.order("rotate", reason="yearly")
    plain: dict[str, canonical.Value] = {"key_id": old, "reason": "incident", "lose": False}
    assert refused(authority, "retire", **plain) == "guard-approval"
    assert agreed(authority)["key"] == old
    # Nobody agreed to lose anything, or to another key.
    assert refused(authority, "retire", **(plain | {"lose": True})) == "guard-approval"
    assert refused(authority, "retire", **(plain | {"lose": [MODEL]})) == "guard-approval"
    assert refused(authority, "retire", **(plain | {"key_id": middle})) == "guard-approval"
    assert refused(authority, "retire", **plain) == "key", "they were had for this very act, which would lose a share"
    keys = authority.order("status")["wrapping_keys"]
    assert isinstance(keys, list)
    assert [isinstance(one, dict) and one["retired"] for one in keys] == [None, None, None]


def test_what_a_quorum_agrees_to_lose_is_named_to_it(authority: Authority) -> None:
    authority.share()
    old = authority.public.key_id
    authority.order("rotate", reason="yearly")
    body: dict[str, canonical.Value] = {"key_id": old, "reason": "incident", "lose": [MODEL]}
    assert refused(authority, "retire", **body) == "guard-approval"
    assert agreed(authority)["key"] == f"{old} lose {MODEL.hex()}"
    assert authority.order("retire", **body)["lost"] == [MODEL]


def test_an_approval_to_reinstate_one_subject_reinstates_no_other(authority: Authority) -> None:
    subjects: tuple[dict[str, canonical.Value], ...] = (
        {"tenant": "acme"},
        {"tenant": "other"},
        {"purpose": "acme"},
        {"boot": b"\xb0" * 32},
    )
    for one in subjects:
        authority.order("revoke", reason="incident-1", **one)
    assert refused(authority, "reinstate", reason="checked", **subjects[0]) == "guard-approval"
    assert agreed(authority)["key"] == "tenant acme"
    for one in subjects[1:]:
        assert refused(authority, "reinstate", reason="checked", **one) == "guard-approval"
    authority.order("reinstate", reason="checked", **subjects[0])
    assert [entry.body.get("tenant") for entry in authority.journal() if entry.type == "reinstate"] == ["acme"]


def test_an_approval_to_seal_anew_is_for_these_measurements_alone(authority: Authority) -> None:
    authority.register()
    own, other = measurements() | {"16": b"\x11" * 48}, measurements() | {"16": b"\x22" * 48}
    body: dict[str, canonical.Value] = {"model": MODEL, "measurements": [own], "reason": "incident"}
    body["expires"] = authority.clock.ms() + 3_600_000
    assert refused(authority, "reseal", **body) == "guard-approval"
    read = agreed(authority)["key"]
    assert refused(authority, "reseal", **(body | {"measurements": [other]})) == "guard-approval"
    assert refused(authority, "reseal", **(body | {"measurements": [own, other]})) == "guard-approval"
    authority.order("reseal", **body)
    entry = authority.journal()[-1]
    policy = entry.body["policy"]
    assert isinstance(policy, bytes)
    assert (entry.type, read) == ("reseal-order", f"{MODEL.hex()} {policy.hex()}")


def test_an_order_that_nobody_can_read_is_none_for_approvers(authority: Authority) -> None:
    for path in ("retire", "reinstate", "reseal"):
        assert refused(authority, path, reason="incident") == "malformed"
    assert authority.order("guard/approvals")["waiting"] == []


def test_a_model_is_reinstated_by_the_quorum(authority: Authority) -> None:
    authority.register()
    authority.order("revoke", model=MODEL, reason="incident-1")
    assert refused(authority, "reinstate", model=MODEL, reason="checked") == "guard-approval"
    assert agreed(authority)["key"] == MODEL.hex()
    authority.order("reinstate", model=MODEL, reason="checked")


KEY = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
D = MODEL.hex()
LATER = 4_000_000_000_000  # ms; in 2096
CREDENTIAL: dict[str, canonical.Value] = {
    "tenant": "acme",
    "key": KEY,
    "model": MODEL,
    "purposes": [PURPOSE],
    "adapters": [],
    "not_after": LATER,
}
SHARE: dict[str, canonical.Value] = {
    "model": MODEL,
    "model_id": MODEL_ID,
    "version": "1",
    "purpose_class": "serve",
}
TENANT_KEY: dict[str, canonical.Value] = {"tenant": "acme", "tag": "low", "keeping": None, "reason": "contract"}
OTHERS: dict[str, tuple[dict[str, canonical.Value], str, dict[str, canonical.Value]]] = {
    "models": (
        registration(),
        rf"{D} [0-9a-f]{{96}} as tiny serve {TTL_MS} ms for {PURPOSE} to anybody",
        {
            "alias": "other",
            "measurements": [measurements() | {"0": b"\x66" * 48}],
            "purposes": ["evaluation"],
            "tenants": ["eve"],
            "purpose_class": "evaluate",
            "ttl_ms": TTL_MS + 1,
        },
    ),
    "tenants": (
        CREDENTIAL,
        rf"{D} tenant acme [0-9a-f]{{32}} for {PURPOSE} until {LATER}",
        {
            "tenant": "eve",
            "key": b"e" * 32,
            "purposes": ["evaluation"],
            "adapters": [b"\xae" * 48],
            "not_after": LATER + 1,
            "quota": {"requests": 1, "seconds": 60},
        },
    ),
    "tenant-keys": (TENANT_KEY, "tenant acme low as tagged", {"tenant": "eve", "tag": "high", "keeping": "dedicated"}),
    "shares": (
        SHARE,
        rf"{D} {MODEL_ID} 1 serve new",
        {
            "model_id": "other",
            "version": "2",
            "purpose_class": "evaluate",
            "share": b"s" * 32,
            "tenant": "eve",
        },
    ),
    "floor": (
        {"model_id": MODEL_ID, "version": "2", "reason": "CVE-1"},
        f"{MODEL_ID} 2",
        {"model_id": "other", "version": "3"},
    ),
}


def everything_by_quorum() -> str:
    policy = json.loads(owner_policy(PEOPLE))
    for one in policy["allow"]:
        one["approval"] = one["name"] != "enclaves"
    return json.dumps(policy)


@pytest.mark.parametrize("path", OTHERS)
def test_where_a_policy_asks_for_it_voices_for_an_order_are_for_that_very_act(authority: Authority, path: str) -> None:
    """A registration says which enclaves get the shares: approvers of one set would let in any other."""
    body, subject, changes = OTHERS[path]
    adopt(authority, everything_by_quorum())
    assert refused(authority, path, **body) == "guard-approval"
    assert re.fullmatch(subject, agreed(authority)["key"])
    for name, value in changes.items():
        assert refused(authority, path, **(body | {name: value})) == "guard-approval", name
    authority.order(path, **body)


def test_a_list_too_long_to_read_is_its_digest(authority: Authority) -> None:
    adopt(authority, everything_by_quorum())
    tenants: list[canonical.Value] = [f"{'tenant-' * 8}{number:02}" for number in range(64)]
    assert refused(authority, "models", **(registration() | {"tenants": tenants})) == "guard-approval"
    assert re.fullmatch(
        rf"{D} [0-9a-f]{{96}} as tiny serve .* to tenants sha384:[0-9a-f]{{96}}", agreed(authority)["key"]
    )
    assert refused(authority, "models", **(registration() | {"tenants": tenants[1:]})) == "guard-approval"
    authority.order("models", **(registration() | {"tenants": tenants}))


@pytest.mark.parametrize(
    ("read", "used"),
    [
        ({"tenants": []}, {"tenants": ["anybody"]}),
        ({"tenants": ["a,b"]}, {"tenants": ["a", "b"]}),
        ({"purposes": [f"{PURPOSE} to tenants x"], "tenants": ["y"]}, {"tenants": ["x to tenants y"]}),
    ],
)
def test_no_two_acts_have_the_same_words(
    authority: Authority, read: dict[str, canonical.Value], used: dict[str, canonical.Value]
) -> None:
    adopt(authority, everything_by_quorum())
    assert refused(authority, "models", **(registration() | read)) == "guard-approval"
    agreed(authority)
    assert refused(authority, "models", **(registration() | used)) == "guard-approval"


def test_voices_for_wrapping_one_share_again_wrap_no_other(authority: Authority) -> None:
    """Who could hand in a share of his own would know one share of the key."""
    adopt(authority, everything_by_quorum())
    share, other = bytes(range(32)), bytes(reversed(range(32)))
    assert refused(authority, "shares", **(SHARE | {"share": share})) == "guard-approval"
    read = agreed(authority)["key"]
    assert re.fullmatch(rf"{D} {MODEL_ID} 1 serve [0-9a-f]{{32}}", read)
    assert share.hex()[:16] not in read
    assert refused(authority, "shares", **(SHARE | {"share": other})) == "guard-approval"
    authority.order("shares", **(SHARE | {"share": share}))


def test_a_name_with_spaces_is_one_name_to_approvers(authority: Authority) -> None:
    body: dict[str, canonical.Value] = {"model_id": f"{MODEL_ID} 1", "version": "2", "reason": "back"}
    assert refused(authority, "lower-floor", **body) == "guard-approval"
    assert agreed(authority)["key"] == f'"{MODEL_ID} 1" 2'
    assert refused(authority, "lower-floor", model_id=MODEL_ID, version="1 2", reason="back") == "guard-approval"


def test_a_limit_per_key_counts_every_credential_of_a_model_together(authority: Authority) -> None:
    policy = json.loads(owner_policy(PEOPLE))
    policy["budgets"] = [{"name": "few", "per": "key", "operations": ["owner:Tenant"], "uses": 2}]
    adopt(authority, json.dumps(policy))
    authority.register()
    for name in ("acme", "other"):
        authority.order("tenants", **(CREDENTIAL | {"tenant": name}))
    assert refused(authority, "tenants", **(CREDENTIAL | {"tenant": "third"})) == "guard-budget"
