"""Silence is proved by entries or not at all, and a report holds every use that the journals hold."""

import json
import secrets
import shutil
from dataclasses import replace

import pytest

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import Ask
from anchorhold.attestation.journal import JournalEntry
from anchorhold.attestation.lease import MAX_TTL_MS
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.incident.report import Ended, Head, Incident, Step, as_json, as_markdown
from anchorhold.authority.incident.silence import Silence, kms_silence, owner_silence, proved
from anchorhold.authority.incident.uses import KmsEvent, kms_events, kms_uses, owner_uses
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.restore import accept_rollback
from anchorhold.enclave.keys.source import Refused
from anchorhold.sim.owner_face import MODEL, PURPOSE, TTL_MS, Authority

KEY, OTHER = "arn:aws:kms:eu-central-1:000000000001:key/old", "arn:aws:kms:eu-central-1:000000000001:key/new"
TTL = 5_000


def silence(authority: Authority) -> Silence:
    return owner_silence(authority.whole_journal(), MODEL, authority.clock.ms())


def test_an_owner_s_silence_needs_the_revocation_and_the_last_lease_s_end(authority: Authority) -> None:
    authority.register()
    share, blob = authority.share()
    running = authority.enclave()
    running.source(blob, share).request(Ask.KEY, number=1, purposes=(Purpose(PURPOSE),))
    assert silence(authority).why == "no revocation stands"
    authority.order("revoke", model=MODEL, reason="incident")
    early = silence(authority)
    assert not early.proved
    assert f"{TTL_MS} ms away" in early.why
    authority.clock.passed += TTL_MS / 1000 - 0.001
    assert not silence(authority).proved
    authority.clock.passed += 0.001
    # Refusals after the revocation are no renewals.
    with pytest.raises(Refused):
        running.source(blob, share).request(Ask.LEASE, number=2, purposes=(Purpose(PURPOSE),))
    done = silence(authority)
    assert done.proved
    kinds = {entry.seq: entry.type for entry in authority.whole_journal()}
    assert done.revoked_seq is not None
    assert done.last_grant_seq is not None
    assert (kinds[done.revoked_seq], kinds[done.last_grant_seq]) == ("revoke", "release")
    assert done.entries == len(kinds)


def test_a_reinstatement_undoes_the_proof(authority: Authority) -> None:
    authority.register()
    authority.order("revoke", model=MODEL, reason="incident")
    assert silence(authority).proved
    authority.order("reinstate", model=MODEL, reason="mistake")
    assert not silence(authority).proved
    authority.order("revoke", model=MODEL, reason="no mistake")
    assert silence(authority).proved


def test_a_lease_after_the_revocation_contradicts_silence_for_good() -> None:
    """No honest owner writes this: the proof does not take its word that it revoked."""

    def entry(seq: int, kind: str, **body: object) -> JournalEntry:
        return JournalEntry(seq, Milliseconds(seq), kind, {"model": MODEL, **body})  # type: ignore[dict-item]

    revoked = [entry(0, "release", not_after_ms=10, purpose_class="serve"), entry(1, "revoke")]
    assert owner_silence(revoked, MODEL, Milliseconds(100)).proved
    renewed = [*revoked, entry(2, "release", not_after_ms=20, purpose_class="serve")]
    found = owner_silence(renewed, MODEL, Milliseconds(100))
    assert not found.proved
    assert found.renewed_seqs == (2,)
    silent_kms = kms_silence([event(0, "DisableKey")], KEY, TTL, 0, 1, Milliseconds(100))
    assert silent_kms.proved
    assert not proved([found, silent_kms]), "one authority's proof does not outweigh the other's contradiction"
    # For a resealing, which its own order allows.
    resealing = [*revoked, entry(2, "release", not_after_ms=20, purpose_class="reseal")]
    allowed = owner_silence(resealing, MODEL, Milliseconds(15))
    assert allowed.proved
    assert allowed.resealing_seqs == (2,)


def said(seq: int, kind: str, **body: canonical.Value) -> JournalEntry:
    return JournalEntry(seq, Milliseconds(seq), kind, body)


GAPS = (said(1, "accept-rollback", lost="2 entries"), said(1, "init", name="owner", restored={"shares": 2}))


@pytest.mark.parametrize("gap", GAPS, ids=lambda one: one.type)
def test_where_entries_may_be_missing_a_revocation_stands_only_after_them_and_the_longest_lease(
    gap: JournalEntry,
) -> None:
    """What is missing may be a reinstatement and a lease, given at the last moment before that entry."""
    revoked = said(0, "revoke", model=MODEL)
    late = Milliseconds(gap.t + MAX_TTL_MS)
    assert owner_silence([revoked], MODEL, late).proved
    before = owner_silence([revoked, gap], MODEL, late)
    assert (before.proved, before.why) == (False, "no revocation stands")
    again = [revoked, gap, said(2, "revoke", model=MODEL)]
    assert not owner_silence(again, MODEL, Milliseconds(late - 1)).proved
    assert owner_silence(again, MODEL, late).proved
    assert owner_silence(again, MODEL, late).last_lease_end == late


def test_a_first_entry_that_began_with_nothing_hides_nothing() -> None:
    entries = [said(0, "init", name="owner"), said(1, "revoke", model=MODEL)]
    assert owner_silence(entries, MODEL, Milliseconds(2)).proved


def test_a_kms_s_journal_with_entries_missing_proves_silence_only_after_the_longest_lease() -> None:
    def call(seq: int, name: str) -> JournalEntry:
        raw = json.dumps({"eventName": name, "resources": [{"ARN": KEY}]})
        return said(seq, "call", event=raw)

    late = Milliseconds(1 + MAX_TTL_MS)
    before = kms_events([call(0, "DisableKey"), GAPS[0]])
    assert not kms_silence(before, KEY, TTL, 0, 2, late).proved
    again = kms_events([call(0, "DisableKey"), GAPS[0], call(2, "DisableKey")])
    assert not kms_silence(again, KEY, TTL, 0, 3, Milliseconds(late - 1)).proved
    assert kms_silence(again, KEY, TTL, 0, 3, late).proved
    # A caller has the name of a call written as it likes: that is no gap.
    called = kms_events([call(0, "DisableKey"), call(1, "accept-rollback")])
    assert kms_silence(called, KEY, TTL, 0, 2, Milliseconds(100)).proved


def test_after_an_accepted_rollback_a_real_journal_proves_nothing_for_the_longest_lease(authority: Authority) -> None:
    authority.register()
    authority.order("revoke", model=MODEL, reason="incident")
    assert silence(authority).proved
    authority.served.stop()
    shutil.copy(authority.state_dir / "owner.sqlite", kept := authority.state_dir / "kept")
    authority.restart()
    authority.order("reinstate", model=MODEL, reason="mistake")
    authority.served.stop()
    shutil.copy(kept, authority.state_dir / "owner.sqlite")
    for file in authority.state_dir.glob("owner.sqlite-*"):
        file.unlink()
    accept_rollback(authority.state_dir, "disk lost", authority.clock.ms())
    assert not silence(authority).proved
    authority.restart()
    authority.order("revoke", model=MODEL, reason="incident")
    assert not silence(authority).proved
    authority.clock.passed += MAX_TTL_MS / 1000
    assert silence(authority).proved


def event(seq: int, name: str, purpose: str = "", *, key: str = KEY, code: str = "") -> KmsEvent:
    fields: dict[str, object] = {
        "eventName": name,
        "requestID": f"id-{seq}",
        "userIdentity": {"arn": "arn:aws:iam::000000000001:user/enclave"},
        "sourceIPAddress": "127.0.0.1",
        "resources": [{"ARN": key}],
        "requestParameters": {"encryptionContext": {"purpose": purpose}} if purpose else {},
    }
    return KmsEvent(seq, Milliseconds(seq * 1_000), fields | ({"errorCode": code} if code else {}))


DECRYPT, DISABLE = event(1, "Decrypt", "serve"), event(2, "DisableKey")


@pytest.mark.parametrize(
    ("events", "now", "holds"),
    [
        ([DECRYPT], 60_000, False),
        ([DECRYPT, DISABLE], 5_999, False),
        ([DECRYPT, DISABLE], 6_000, True),
        ([DECRYPT, DISABLE, event(3, "Decrypt", "serve", code="Disabled")], 6_000, True),
        ([DECRYPT, DISABLE, event(3, "Decrypt", "serve")], 60_000, False),
        ([DECRYPT, event(2, "DisableKey", code="AccessDenied")], 60_000, False),
        ([DECRYPT, event(2, "DisableKey", key=OTHER)], 60_000, False),
        ([DECRYPT, DISABLE, event(3, "EnableKey"), event(4, "Decrypt", "reseal")], 60_000, True),
        ([DECRYPT, DISABLE, event(3, "EnableKey"), event(4, "Decrypt", "serve")], 60_000, False),
        ([DECRYPT, DISABLE, event(3, "EnableKey"), event(4, "Decrypt", "serve"), event(5, "DisableKey")], 60_000, True),
        ([DECRYPT, DISABLE, event(3, "EnableKey"), event(4, "Decrypt", "serve"), event(5, "DisableKey")], 8_999, False),
    ],
)
def test_a_kms_s_silence_counts_from_the_last_decrypt_that_was_not_for_a_resealing(
    events: list[KmsEvent], now: int, *, holds: bool
) -> None:
    assert kms_silence(events, KEY, TTL, 0, len(events), Milliseconds(now)).proved is holds


def test_propagation_makes_a_kms_s_silence_later() -> None:
    events = [DECRYPT, DISABLE]
    assert not kms_silence(events, KEY, TTL, 1_000, 2, Milliseconds(6_999)).proved
    assert kms_silence(events, KEY, TTL, 1_000, 2, Milliseconds(7_000)).proved


def test_every_use_is_listed_with_who_when_and_how_it_ended(authority: Authority) -> None:
    authority.register()
    share, blob = authority.share()
    enclave = authority.enclave()
    enclave.source(blob, share).request(Ask.KEY, number=1, purposes=(Purpose(PURPOSE),))
    with pytest.raises(Refused):
        enclave.source(secrets.token_bytes(60), share).request(Ask.KEY, number=2, purposes=(Purpose(PURPOSE),))
    uses = owner_uses(authority.whole_journal(), MODEL)
    assert [(one.operation, one.allowed, one.code) for one in uses] == [
        ("share", True, ""),
        ("release key", True, ""),
        ("deny key", False, "blob"),
    ]
    released = uses[1]
    assert released.principal == f"enclave:{'a0' * 48}"
    assert released.boot == enclave.context.genesis.hex()
    assert released.lease_end == authority.clock.ms() + TTL_MS
    found = kms_uses([DECRYPT, event(3, "Decrypt", "serve", key=OTHER)], KEY, {"id-1": "b007"})
    assert [(one.seq, one.boot, one.principal) for one in found] == [
        (1, "b007", "arn:aws:iam::000000000001:user/enclave")
    ]


@pytest.fixture
def incident() -> Incident:
    use = kms_uses([event(1, "Decrypt | <b>\n", "serve"), event(2, "Decrypt", code="Disabled")], KEY, {})
    return Incident(
        incident="INC-1",
        model=MODEL.hex(),
        key=KEY,
        made=Milliseconds(0),
        steps=(Step(3, Milliseconds(0), "open", "lost", {}),),
        silences=(kms_silence([DISABLE], KEY, TTL, 0, 1, Milliseconds(100)),),
        ends=(Ended("b0", "", None),),
        uses=use,
        heads=(Head("kms", 7, "d1" * 48, "aa" * 32),),
        not_checked=("something",),
    )


def test_the_report_says_the_same_twice_and_names_the_journals_heads(incident: Incident) -> None:
    said = json.loads(as_json(incident))
    assert (said["silent"], said["denials"], len(said["uses"])) == (True, 1, 2)
    text = as_markdown(incident)
    for words in ("**proved**", "d1" * 48, "no record of its end", "refused: Disabled", KEY, "something"):
        assert words in text
    assert "Decrypt \\| &lt;b>? |" in text, "what a caller wrote cannot leave its cell"
    unproved = as_markdown(replace(incident, silences=()))
    assert "**NOT PROVED**" in unproved


def test_a_step_of_an_incident_is_journaled_and_an_unknown_one_is_not(authority: Authority) -> None:
    fields: dict[str, canonical.Value] = {
        "incident": "INC-1",
        "step": "open",
        "model": MODEL,
        "key": "",
        "reason": "lost",
        "facts": {"n": 1},
    }
    seq = authority.order("incident", **fields)["seq"]
    (entry,) = [one for one in authority.journal() if one.type == "incident"]
    assert (entry.seq, entry.body["facts"]) == (seq, {"n": 1})
    wrong: list[dict[str, canonical.Value]] = [
        {"step": "forget"},
        {"incident": ""},
        {"reason": "x" * 129},
        {"facts": {"n": "x" * 9_000}},
    ]
    for changes in wrong:
        with pytest.raises(AdminFailed, match=r"incident|reason"):
            authority.order("incident", **(fields | changes))
    assert len([one for one in authority.journal() if one.type == "incident"]) == 1
