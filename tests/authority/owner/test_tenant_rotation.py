"""A tenant's key rotates, its models come under the new one, and an older one ends as a shredding ends a key."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from tests.authority.lifecycle.test_reseal_orders import CLASSES, ask, ordered, refused, resealing, source
from tests.authority.owner.test_shredding import handles, write
from tests.authority.owner.test_tenancy import KEEPINGS, asked, entries, key, opens, share, tenants

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import Ask
from anchorhold.attestation.sealed.manifest import PurposeClass
from anchorhold.authority.escrow.recipient import make_recipient, read_recipient, read_recipient_secret
from anchorhold.authority.escrow.restore import restore
from anchorhold.authority.guard.defaults import Approving
from anchorhold.authority.keystore import KeystoreBusy, open_keystore
from anchorhold.authority.keystore.software import SoftwareKeystore
from anchorhold.authority.owner.client import AdminFailed, retire_key
from anchorhold.authority.owner.tenant_rotation import MAX_LIVE
from anchorhold.enclave.keys.source import SourceUnavailable
from anchorhold.sim.owner_face import MODEL, OTHER_MODEL, Authority, descriptor, owner_face


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    with owner_face(tmp_path) as running:
        yield running


def rotate(authority: Authority, tenant: str = "acme") -> str:
    return str(authority.order("tenant-rotate", tenant=tenant, reason="yearly")["key_id"])


def retire(authority: Authority, key_id: str, lose: canonical.Value = False, tenant: str = "acme") -> dict[str, object]:
    done = authority.order("tenant-retire", tenant=tenant, key_id=key_id, reason="old", lose=lose)
    return cast("dict[str, object]", done)


def states(authority: Authority, tenant: str = "acme") -> dict[object, object]:
    return {one["key_id"]: one["state"] for one in tenants(authority) if one["tenant"] == tenant}


def again(authority: Authority, secret: bytes, purpose_class: str = "serve") -> bytes:
    """The same share once more, under the key in force."""
    fields: dict[str, canonical.Value] = {"model_id": "tiny", "version": "1", "tenant": "acme", "share": secret}
    blob = authority.order("shares", model=MODEL, purpose_class=purpose_class, **fields)["blob"]
    assert isinstance(blob, bytes)
    return blob


def sealed(authority: Authority) -> tuple[bytes, bytes, bytes]:
    """The share of a tenant's model, and its blobs for serving and for sealing it anew."""
    secret, blob = share(authority, "acme")
    other = again(authority, secret, "reseal")
    authority.register(tenants=["acme"])
    return secret, blob, other


@pytest.mark.parametrize("keeping", KEEPINGS)
def test_new_shares_are_under_the_newest_key_and_older_ones_open(authority: Authority, keeping: str) -> None:
    first = key(authority, "acme", keeping, tag="retail")
    secret, blob, _ = sealed(authority)
    made = authority.order("tenant-rotate", tenant="acme", reason="yearly")
    second = str(made["key_id"])
    assert made["keeping"] == keeping
    assert asked(authority, blob, secret) == "opened"
    theirs, newer = share(authority, "acme", OTHER_MODEL)
    authority.register(descriptor=descriptor("other"), tenants=["acme"])
    assert asked(authority, newer, theirs, model=OTHER_MODEL) == "opened"
    assert [one.body["key_id"] for one in entries(authority, "share")] == [first, first, second]
    assert states(authority) == {first: "older", second: "in-force"}
    assert {one["tag"] for one in tenants(authority)} == {"retail"}
    (entry,) = entries(authority, "tenant-rotate")
    assert (entry.body["before"], entry.body["key_id"], entry.body["keeping"]) == (first, second, keeping)
    with pytest.raises(AdminFailed, match="that tenant and no other"):
        authority.register(tenants=["acme", "other"])


def test_the_newest_is_in_force_though_no_time_passes_and_there_are_so_many_at_most(authority: Authority) -> None:
    made = [key(authority, "acme")]
    for _ in range(MAX_LIVE - 1):
        made.append(rotate(authority))
        assert [one for one, state in states(authority).items() if state == "in-force"] == made[-1:]
    with pytest.raises(AdminFailed, match=f"at most {MAX_LIVE} keys"):
        rotate(authority)
    retire(authority, made[0])
    rotate(authority)
    for nobody in ("nobody", "other"):
        with pytest.raises(AdminFailed, match="has no key"):
            rotate(authority, nobody)


def test_a_rotated_key_is_kept_as_the_one_before_or_as_the_policy_now_asks(authority: Authority) -> None:
    key(authority, "acme", "dedicated")
    key(authority, "shop", "shared", tag="high-risk")
    policy = json.loads(str(authority.order("guard/show")["policy"]))
    authority.order("guard/put", policy=json.dumps(policy | {"dedicated_tags": ["high-risk"]}))
    assert authority.order("tenant-rotate", tenant="acme", reason="yearly")["keeping"] == "dedicated"
    assert authority.order("tenant-rotate", tenant="shop", reason="yearly")["keeping"] == "dedicated"


@pytest.mark.parametrize("keeping", KEEPINGS)
def test_a_tenant_s_model_is_sealed_anew_under_its_own_newest_key(authority: Authority, keeping: str) -> None:
    first = key(authority, "acme", keeping)
    key(authority, "other", keeping)
    secret, blob, old = sealed(authority)
    with pytest.raises(AdminFailed, match="rotate that tenant's first"):
        ordered(authority)
    rotate(authority, "other")
    authority.order("rotate", reason="the owner's, which is none of a tenant's")
    with pytest.raises(AdminFailed, match="rotate that tenant's first"):
        ordered(authority)
    second = rotate(authority)
    ordered(authority)
    ask(source(resealing(authority), old, secret, second), Ask.KEY)
    assert refused(source(resealing(authority), old, secret, first), Ask.SHARE) == "answer"
    got = ask(source(resealing(authority), old, secret, second), Ask.SHARE)
    assert got.share is not None
    drawn = bytes(got.share.view())
    assert [(one.purpose_class, one.key) for one in got.wrapped] == [(one, second) for one in CLASSES]
    served = next(one.blob for one in got.wrapped if one.purpose_class is PurposeClass.SERVE)
    assert asked(authority, served, drawn) == asked(authority, blob, secret) == "opened"
    with pytest.raises(AdminFailed, match="that tenant and no other"):
        authority.register(tenants=["other"])
    # Cut off after the draw it may be ordered again; not once all its shares are under the newest key.
    ordered(authority)
    retire(authority, first, lose=[bytes(MODEL)])
    assert asked(authority, served, drawn) == "opened"
    assert asked(authority, blob, secret) == "blob"
    with pytest.raises(AdminFailed, match="rotate that tenant's first"):
        ordered(authority)
    rotate(authority)
    ordered(authority)
    authority.order("shred", tenant="acme", reason="ended")
    with pytest.raises(AdminFailed, match="were shredded"):
        ordered(authority)


def test_a_blob_opens_under_the_key_of_its_row_alone(authority: Authority) -> None:
    first = key(authority, "acme")
    _, blob = share(authority, "acme")
    second, theirs = rotate(authority), key(authority, "other")
    for to in (second, theirs, first):
        write(authority, f"UPDATE shares SET tenant_key = '{to}'")
        assert opens(authority.state_dir, authority, blob) == (to == first)


@pytest.mark.parametrize("whose", ["other", "owner"])
def test_a_model_with_shares_under_keys_of_two_is_nobody_s(authority: Authority, whose: str) -> None:
    key(authority, "acme")
    secret, blob, _ = sealed(authority)
    theirs = key(authority, "other")
    rotate(authority)
    to = f"'{theirs}'" if whose == "other" else "NULL"
    write(authority, f"UPDATE shares SET tenant_key = {to} WHERE purpose_class = 'reseal'")
    for act in (lambda: ordered(authority), lambda: share(authority, "acme"), authority.register):
        with pytest.raises(AdminFailed, match="unavailable"):
            act()
    with pytest.raises(SourceUnavailable):
        asked(authority, blob, secret)


def test_what_only_that_key_opens_is_not_lost_unless_it_is_named(authority: Authority) -> None:
    first, theirs = key(authority, "acme"), key(authority, "other")
    secret, blob, old = sealed(authority)
    second = rotate(authority)
    for wrong in (second, theirs, authority.public.key_id, "tenant-none"):
        with pytest.raises(AdminFailed, match=r"in force|no key of"):
            retire(authority, wrong, lose=True)
    share(authority, "acme")  # another share of the same model is no copy
    for lose in (False, [bytes(OTHER_MODEL)]):
        with pytest.raises(AdminFailed, match="lost for good"):
            retire(authority, first, lose=lose)
    copies = [again(authority, secret)]
    with pytest.raises(AdminFailed, match="lost for good"):
        retire(authority, first)  # the other class
    copies.append(again(authority, secret, "reseal"))
    assert asked(authority, blob, secret) == "opened"
    assert not handles(authority, "pool") - {cast("str", entries(authority, "tenant-rotate")[0].body["pool"])}
    done = retire(authority, first)
    assert (done["lost"], done["shares"], done["tried"]) == ([], 2, 2)
    assert states(authority) == {first: "ended", second: "in-force"}
    assert [asked(authority, one, secret) for one in (blob, copies[0])] == ["blob", "opened"]
    assert not opens(authority.state_dir, authority, old)


@pytest.mark.parametrize("keeping", KEEPINGS)
def test_a_key_ends_as_in_a_shredding_and_the_others_of_its_pool_stay(authority: Authority, keeping: str) -> None:
    first = key(authority, "acme", keeping)
    key(authority, "other", keeping)
    secret, blob, _ = sealed(authority)
    second, theirs = share(authority, "other", OTHER_MODEL)
    authority.register(descriptor=descriptor("other"), tenants=["other"])
    rotate(authority)
    newer = again(authority, secret)
    before = handles(authority, "tenant-", "pool-")
    done = retire(authority, first, lose=True)
    assert done["lost"] == [MODEL]
    (order,), (proof,) = entries(authority, "tenant-retire"), entries(authority, "tenant-retired")
    gone = order.body["handle"]
    assert (order.body["found"], order.body["lost"], order.body["moved"]) == (True, [MODEL], 2 * (keeping == "shared"))
    assert (proof.body["tried"], proof.body["opened"], proof.body["blobs"]) == (2, 0, order.body["blobs"])
    assert proof.body["handle"] == gone
    assert before - handles(authority, "tenant-", "pool-") == {gone}
    assert asked(authority, newer, secret) == "opened", "another key of its tenant opens it: it is not revoked"
    assert asked(authority, blob, secret) == "blob"
    assert asked(authority, theirs, second, model=OTHER_MODEL) == "opened"


def test_a_model_is_its_tenant_s_as_long_as_one_of_its_keys_opens_it(authority: Authority) -> None:
    first = key(authority, "acme")
    secret, blob, _ = sealed(authority)
    second = rotate(authority)
    again(authority, secret)
    rotate(authority)
    retire(authority, second)
    assert asked(authority, blob, secret) == "opened"
    retire(authority, first, lose=True)
    assert asked(authority, blob, secret) == "revoked"
    authority.order("reinstate", model=MODEL, reason="mistake")
    assert asked(authority, blob, secret) == "tenant"
    with pytest.raises(AdminFailed, match="shredded with the key before"):
        share(authority, "acme")
    with pytest.raises(AdminFailed, match="that tenant and no other"):
        authority.register()


def busy(_: SoftwareKeystore, __: str) -> None:
    raise KeystoreBusy("no session came free")


@pytest.mark.parametrize("finish", ["tenant-retire", "shred"])
@pytest.mark.parametrize("keeping", KEEPINGS)
def test_a_retirement_cut_off_is_finished_by_repeating_it_or_with_the_tenant(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, keeping: str, finish: str
) -> None:
    first = key(authority, "acme", keeping)
    _, blob, _ = sealed(authority)
    rotate(authority)
    with monkeypatch.context() as patched:
        patched.setattr(SoftwareKeystore, "destroy", busy)
        with pytest.raises(AdminFailed, match="unavailable"):
            retire(authority, first, lose=True)
    (order,) = entries(authority, "tenant-retire")
    assert order.body["handle"] in handles(authority, "tenant-", "pool-")
    assert not entries(authority, "tenant-retired")
    assert not opens(authority.state_dir, authority, blob)
    if finish == "shred":
        assert len(cast("list[str]", authority.order("shred", tenant="acme", reason="ended")["keys"])) == 2
    else:
        assert retire(authority, first)["tried"] == 2
        assert len(entries(authority, "tenant-retired")) == 1
    assert order.body["handle"] not in handles(authority, "tenant-", "pool-")


@pytest.mark.parametrize("keeping", KEEPINGS)
def test_shredding_ends_every_key_of_the_tenant_and_tries_every_blob(authority: Authority, keeping: str) -> None:
    made = [key(authority, "acme", keeping)]
    key(authority, "other", keeping)
    secret, blob, old = sealed(authority)
    made.append(rotate(authority))
    second, newer = share(authority, "acme", OTHER_MODEL)
    authority.register(descriptor=descriptor("other"), tenants=["acme"])
    done = authority.order("shred", tenant="acme", reason="ended")
    assert (done["keys"], done["tried"], done["key_id"]) == (made, 3, made[-1])
    assert done["models"] == sorted([MODEL, OTHER_MODEL])
    assert asked(authority, blob, secret) == asked(authority, newer, second, model=OTHER_MODEL) == "revoked"
    assert not any(opens(authority.state_dir, authority, one) for one in (blob, old))
    assert not opens(authority.state_dir, authority, newer, OTHER_MODEL)
    for kind in ("tenant-shred", "tenant-shredded"):
        assert [one.body["key_id"] for one in entries(authority, kind)] == made
    assert set(states(authority).values()) == {"ended"}
    gone = {one.body["handle"] for one in entries(authority, "tenant-shred")}
    assert not gone & handles(authority, "tenant-", "pool-")
    share(authority, "other", b"\x07" * 48)
    with pytest.raises(AdminFailed, match="has no key"):
        rotate(authority)
    assert authority.order("shred", tenant="acme", reason="again")["tried"] == 3


def test_a_row_that_says_it_ended_takes_nobody_with_it(authority: Authority) -> None:
    """Whoever writes the database has no pool destroyed under those who are in it."""
    first = key(authority, "acme", "shared")
    key(authority, "other", "shared")
    rotate(authority)
    before = handles(authority, "pool-")
    write(authority, f"UPDATE tenant_keys SET shredded = 1 WHERE key_id = '{first}'")
    with pytest.raises(AdminFailed, match="unavailable"):
        retire(authority, first)
    assert handles(authority, "pool-") == before
    assert not entries(authority, "fault")


def test_a_key_that_the_keystore_lost_is_rotated_away_and_retired(authority: Authority) -> None:
    first = key(authority, "acme", "dedicated")
    share(authority, "acme")
    store = open_keystore(authority.state_dir)
    store.destroy(first)
    store.close()
    rotate(authority)
    with pytest.raises(AdminFailed, match="lost for good"):
        retire(authority, first)
    assert retire(authority, first, lose=True)["lost"] == [MODEL]
    assert entries(authority, "tenant-retire")[0].body["found"] is False


def test_a_backup_holds_what_every_key_opens_and_a_restore_keeps_which_is_in_force(
    authority: Authority, tmp_path: Path
) -> None:
    public = read_recipient(make_recipient(tmp_path / "ada"))
    secret_key = read_recipient_secret(tmp_path / "ada")
    journal_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(authority.public.journal_key))
    first = key(authority, "acme")
    _, blob = share(authority, "acme")
    authority.order("backup", recipients=[public], threshold=1)
    made = [first, rotate(authority), rotate(authority)]
    _, newer = share(authority, "acme", OTHER_MODEL)
    assert [one["backups"] for one in tenants(authority)] == [1, 1, 1], "it holds what is wrapped anew, too"
    retire(authority, made[1])
    file = authority.order("backup", recipients=[public], threshold=1)["file"]
    assert isinstance(file, bytes)
    restored = restore(file, [secret_key], journal_key, tmp_path / "again", now=authority.clock.ms())
    assert restored.tenants == ("acme",)
    authority.served.stop()
    authority.state_dir.rename(tmp_path / "gone")
    (tmp_path / "again").rename(authority.state_dir)
    assert opens(authority.state_dir, authority, blob)
    assert opens(authority.state_dir, authority, newer, OTHER_MODEL)


def test_where_approvers_are_named_ending_a_key_takes_their_quorum_for_that_very_act(tmp_path: Path) -> None:
    keys = {name: Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex() for name in ("ann", "ben")}
    with owner_face(tmp_path, approving=Approving(keys, 2)) as authority:
        first = key(authority, "acme")
        rotate(authority)
        for lose, words in ((False, ""), (True, " lose all"), ([bytes(MODEL)], f" lose {MODEL.hex()}")):
            with pytest.raises(AdminFailed) as held:
                retire(authority, first, lose=lose)
            assert held.value.code == "guard-approval"
            assert authority.journal()[-1].body["key"] == f"tenant acme {first}{words}"
        assert not entries(authority, "tenant-retire")


def test_an_older_key_is_ended_by_the_order_for_whoever_s_it_is(authority: Authority) -> None:
    """As an incident ends what a model was under before."""
    first, house = key(authority, "acme"), str(authority.order("status")["key_id"])
    sealed(authority)
    rotate(authority)
    authority.order("rotate", reason="yearly")
    for one in (first, house):
        retire_key(authority.client(authority.token), one, "incident", lose=MODEL)
    assert [one.body["key_id"] for one in entries(authority, "tenant-retire")] == [first]
    assert [one.body["key_id"] for one in entries(authority, "retire")] == [house]
    with pytest.raises(AdminFailed, match="in force"):
        retire_key(authority.client(authority.token), next(reversed(states(authority))), "x", lose=MODEL)  # type: ignore[arg-type]  # names of keys
