"""No entry is committed that a reader of the journal would refuse: one too large would end the journal for good."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import Mismatch, TooLarge
from anchorhold.attestation.journal import MAX_ENTRY_BYTES
from anchorhold.authority.journal import MAX_LISTED, Journal, check_journal, listed
from anchorhold.authority.owner.authority import DATABASE
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.state import SCHEMA, State
from anchorhold.sim.owner_face import MODEL, Authority, measurements


def test_a_denied_order_s_entry_does_not_repeat_a_model_of_any_length(authority: Authority) -> None:
    token = str(authority.order("guard/operator-add", name="anna", role="auditor")["token"])
    for length in (0, 47, 49, 40_000):
        body: dict[str, canonical.Value] = {"model": b"m" * length, "reason": "why not"}
        assert authority.call("/v1/admin/revoke", body, token)[0] == 403
        assert authority.journal()[-1].body["key"] == "*"
    assert authority.call("/v1/admin/revoke", {"model": MODEL, "reason": "why not"}, token)[0] == 403
    entries = authority.journal()  # verifies every entry from the first
    assert max(len(canonical.encode(dict(entry.body))) for entry in entries) < 2_048
    assert (entries[-1].type, entries[-1].body["key"]) == ("order-deny", MODEL.hex())


def test_an_entry_over_the_limit_is_refused_and_nothing_is_committed(authority: Authority) -> None:
    authority.served.stop()
    key = Ed25519PrivateKey.generate()
    journal, state = Journal(SCHEMA, key), State.load(authority.state_dir / DATABASE)
    with state.transaction() as transaction:
        before = journal.signed_entries(transaction.connection)
    # The chain of one entry of the right size and one that is too large is not begun.
    entries = [("deny", {"detail": "x"}), ("deny", {"detail": "x" * MAX_ENTRY_BYTES})]
    with (
        pytest.raises(TooLarge, match=f"expected at most {MAX_ENTRY_BYTES}, got 65"),
        state.transaction() as transaction,
    ):
        journal.append_all(transaction.connection, authority.clock.ms(), entries)
    with state.transaction() as transaction:
        assert journal.signed_entries(transaction.connection) == before
    state.close()


def test_the_largest_entry_is_read_again(authority: Authority) -> None:
    journal, state = Journal(SCHEMA, key := Ed25519PrivateKey.generate()), State.load(authority.state_dir / DATABASE)
    size = MAX_ENTRY_BYTES
    with state.transaction() as transaction:
        before = len(journal.signed_entries(transaction.connection))
        while True:
            try:
                journal.append(transaction.connection, authority.clock.ms(), "deny", {"detail": "x" * size})
            except TooLarge:
                size -= 1
            else:
                break
        (raw,) = journal.signed_entries(transaction.connection)[before:]
        assert len(raw) == MAX_ENTRY_BYTES
    state.close()
    with pytest.raises(Mismatch, match="seq of journal entry 0"):
        check_journal([raw], key.public_key())  # read up to its place in the chain: it is not the first


def test_a_reseal_order_has_the_limit_of_a_registration(authority: Authority) -> None:
    authority.register()
    many = [
        {str(index): hashlib.sha384(bytes([index, number])).digest() for index in range(24)} for number in range(63)
    ]
    sets: list[canonical.Value] = [measurements(), *many]
    with pytest.raises(AdminFailed, match="expected at most 49152 bytes in all"):
        authority.order(
            "reseal", model=MODEL, measurements=sets, expires=authority.clock.ms() + 1_000, reason="incident"
        )
    with pytest.raises(AdminFailed, match="no order"):
        authority.order("reseal-end", model=MODEL, reason="none was given")


def test_a_list_of_digests_in_an_entry_is_cut_and_says_how_long_it_was() -> None:
    digests = [number.to_bytes(48, "big") for number in range(2_000)]
    assert listed("lost", digests[:2]) == {"lost": digests[:2], "lost_count": 2}
    cut = listed("lost", digests)
    assert (cut["lost"], cut["lost_count"]) == (digests[:MAX_LISTED], 2_000)
    assert len(canonical.encode(cut)) < MAX_ENTRY_BYTES // 2
