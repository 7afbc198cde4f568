"""Shredding cut off, given twice, over a database that was put back, beside copies that hold the shares."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.authority.owner.test_tenancy import KEEPINGS, asked, entries, key, opens, share, tenants

from anchorhold.attestation.types import ModelDigest
from anchorhold.authority.escrow.recipient import make_recipient, read_recipient, read_recipient_secret
from anchorhold.authority.escrow.restore import restore
from anchorhold.authority.journal import MAX_LISTED
from anchorhold.authority.keystore import KeystoreBusy, open_keystore
from anchorhold.authority.keystore.software import SoftwareKeystore
from anchorhold.authority.owner import tenant_wrap
from anchorhold.authority.owner.authority import DATABASE, load_owner
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.desk import status
from anchorhold.authority.owner.kept import keep_share
from anchorhold.authority.owner.tenant_table import TenantKey
from anchorhold.authority.owner.tenants import shred
from anchorhold.sim.owner_face import MODEL, OTHER_MODEL, Authority, owner_face

NEW_MODEL = b"\x07" * 48


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    with owner_face(tmp_path) as running:
        yield running


def handles(authority: Authority, *kinds: str) -> set[str]:
    store = open_keystore(authority.state_dir)
    assert isinstance(store, SoftwareKeystore)
    found = set(store._current())
    return {one for one in found if one.startswith(kinds)}


def write(authority: Authority, statement: str) -> None:
    engine = sql.create_engine(f"sqlite:///{authority.state_dir / DATABASE}")
    with engine.begin() as connection:
        connection.execute(sql.text(statement))
    engine.dispose()


@pytest.mark.parametrize("keeping", KEEPINGS)
def test_no_new_key_hides_one_whose_shredding_was_cut_off(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, keeping: str
) -> None:
    """With a new key in force, repeating the order would end that one, and nobody would ever destroy the old."""
    key(authority, "acme", keeping)
    share(authority, "acme")

    def busy(_: SoftwareKeystore, __: str) -> None:
        raise KeystoreBusy("no session came free")

    with monkeypatch.context() as patched:
        patched.setattr(SoftwareKeystore, "destroy", busy)
        with pytest.raises(AdminFailed, match="unavailable"):
            authority.order("shred", tenant="acme", reason="contract ended")
    with pytest.raises(AdminFailed, match="cut off"):
        key(authority, "acme", keeping)
    authority.order("shred", tenant="acme", reason="contract ended")
    assert not handles(authority, "tenant", "pool")
    key(authority, "acme", keeping)


@pytest.mark.parametrize("keeping", KEEPINGS)
def test_what_another_worker_has_destroyed_meanwhile_is_destroyed(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, keeping: str
) -> None:
    key(authority, "acme", keeping)
    share(authority, "acme")
    destroy = SoftwareKeystore.destroy

    def twice(store: SoftwareKeystore, handle: str) -> None:
        destroy(store, handle)
        destroy(store, handle)

    monkeypatch.setattr(SoftwareKeystore, "destroy", twice)
    authority.order("shred", tenant="acme", reason="contract ended")
    assert len(entries(authority, "tenant-shredded")) == 1
    assert not entries(authority, "fault")


@pytest.mark.parametrize("keeping", KEEPINGS)
def test_the_trial_is_made_with_the_key_as_copies_of_the_database_have_it(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, keeping: str
) -> None:
    """A trial with the wrapped key forgotten would find every blob closed, whatever the keystore still holds."""
    key(authority, "acme", keeping)
    share(authority, "acme")
    tried: list[TenantKey] = []
    opened = tenant_wrap.open_share

    def watched(keystore: SoftwareKeystore, one: TenantKey, *rest: bytes) -> bytes:
        tried.append(one)
        return opened(keystore, one, *rest)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(tenant_wrap, "open_share", watched)
    authority.order("shred", tenant="acme", reason="contract ended")
    assert [one.wrapped is not None for one in tried] == [keeping == "shared"]
    assert entries(authority, "tenant-shred")[0].body["found"] is True


def test_over_a_database_put_back_from_before_a_shredding_the_order_and_new_keys_go_on(
    authority: Authority, tmp_path: Path
) -> None:
    """Its pool key is gone, and with it whoever was moved since: that ends no order and no new tenant."""
    for tenant in ("acme", "other", "third"):
        key(authority, tenant, "shared")
    _, blob = share(authority, "acme")
    _, theirs = share(authority, "other", OTHER_MODEL)
    shutil.copytree(authority.state_dir, tmp_path / "before")
    authority.order("shred", tenant="acme", reason="contract ended")
    for file in tmp_path.joinpath("before").glob("owner.*"):
        shutil.copy(file, authority.state_dir / file.name)
    authority.restart()
    assert not opens(authority.state_dir, authority, blob)
    assert not opens(authority.state_dir, authority, theirs, OTHER_MODEL)
    with pytest.raises(AdminFailed, match="does not open"):
        share(authority, "other", OTHER_MODEL)
    assert authority.order("shred", tenant="acme", reason="once more")["tried"] == 1
    (ordered,) = entries(authority, "tenant-shred")
    assert (ordered.body["found"], ordered.body["moved"]) == (False, 0)
    key(authority, "new", "shared")
    _, mine = share(authority, "new", NEW_MODEL)
    # Another order moves those of the pool that is there, and does not stop at those of the one that is not.
    key(authority, "newer", "shared")
    authority.order("shred", tenant="newer", reason="contract ended")
    assert entries(authority, "tenant-shred")[1].body["moved"] == 1
    assert opens(authority.state_dir, authority, mine, NEW_MODEL)
    authority.order("shred", tenant="other", reason="lost")
    public = read_recipient(make_recipient(tmp_path / "ada"))
    authority.order("backup", recipients=[public], threshold=1)  # no lost share stops it any more


def test_an_order_that_is_refused_leaves_no_pool_key_behind(authority: Authority) -> None:
    for tenant in ("acme", "other"):
        key(authority, tenant, "shared")
    before = handles(authority, "pool")
    write(authority, "UPDATE tenant_keys SET wrapped = x'00' WHERE tenant = 'other'")
    with pytest.raises(AdminFailed, match="nothing was shredded"):
        authority.order("shred", tenant="acme", reason="contract ended")
    assert handles(authority, "pool") == before
    authority.order("shred", tenant="other", reason="broken")
    authority.order("shred", tenant="acme", reason="contract ended")


def test_a_restored_tenant_s_backups_are_counted_on(authority: Authority, tmp_path: Path) -> None:
    """The recipients of the backup that was restored hold the shares, and so do those of every one before."""
    public = read_recipient(make_recipient(tmp_path / "ada"))
    secret_key = read_recipient_secret(tmp_path / "ada")
    journal_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(authority.public.journal_key))
    key(authority, "acme")
    share(authority, "acme")
    for _ in range(2):
        file = authority.order("backup", recipients=[public], threshold=1)["file"]
    assert isinstance(file, bytes)
    restore(file, [secret_key], journal_key, tmp_path / "again", now=authority.clock.ms())
    owner = load_owner(tmp_path / "again", authority.clock.ms)
    assert shred(owner, "acme", "contract ended").backups == 2
    owner.state.close()


def test_a_tenant_s_key_that_the_keystore_lost_is_refused_by_name_and_is_no_fault(authority: Authority) -> None:
    mine = key(authority, "acme", "dedicated")
    store = open_keystore(authority.state_dir)
    store.destroy(mine)
    store.close()
    with pytest.raises(AdminFailed, match=f"{mine} of this tenant is gone"):
        share(authority, "acme")
    assert not entries(authority, "fault")


def test_a_model_under_a_key_that_has_no_row_is_nobody_s_and_not_everybody_s(authority: Authority) -> None:
    key(authority, "acme")
    secret, blob = share(authority, "acme")
    authority.register(tenants=["acme"])
    assert asked(authority, blob, secret) == "opened"
    write(authority, "DELETE FROM tenant_keys")
    with pytest.raises(AdminFailed, match="unavailable"):
        authority.register()
    with pytest.raises(AdminFailed, match="unavailable"):
        authority.share(MODEL)


@pytest.mark.parametrize("keeping", KEEPINGS)
def test_a_row_s_word_destroys_no_key_that_is_no_tenant_s(authority: Authority, keeping: str) -> None:
    """Whoever can write the database has no key of the keystore destroyed by an administrator who ends a tenant."""
    key(authority, "acme", keeping)
    column = "pool" if keeping == "shared" else "key_id"
    for handle in (authority.public.key_id, "owner-signing"):
        write(authority, f"UPDATE tenant_keys SET {column} = '{handle}'")
        with pytest.raises(AdminFailed, match="unavailable"):
            authority.order("shred", tenant="acme", reason="contract ended")
    assert handles(authority, "owner-") == {authority.public.key_id, "owner-signing"}
    assert not entries(authority, "tenant-shred")


def test_a_tenant_of_the_pool_whose_row_is_gone_is_not_ended_with_another(authority: Authority) -> None:
    """A copy of the database still has its key, which opens as long as the pool's is there."""
    for tenant in ("acme", "other"):
        key(authority, tenant, "shared")
    share(authority, "other")
    write(authority, "CREATE TABLE kept AS SELECT * FROM tenant_keys WHERE tenant = 'other'")
    write(authority, "DELETE FROM tenant_keys WHERE tenant = 'other'")
    with pytest.raises(AdminFailed, match="unavailable"):
        authority.order("shred", tenant="acme", reason="contract ended")
    write(authority, "INSERT INTO tenant_keys SELECT * FROM kept")
    authority.order("shred", tenant="acme", reason="contract ended")
    share(authority, "other", OTHER_MODEL)


def test_the_answer_names_as_many_models_as_an_entry_and_counts_all(authority: Authority) -> None:
    """One that named them all would be too large to be read, once there is nothing left to repeat it for."""
    key(authority, "acme")
    owner = load_owner(authority.state_dir, authority.clock.ms)
    with owner.state.transaction() as transaction:
        mine = owner.tenant_keys.active(transaction.connection, "acme")
        for number in range(MAX_LISTED + 1):
            model = ModelDigest(number.to_bytes(48, "big"))
            keep_share(owner, transaction.connection, bytes(32), model, "serve", mine)
    owner.state.close()
    done = authority.order("shred", tenant="acme", reason="contract ended")
    named = done["models"]
    assert isinstance(named, list)
    assert (len(named), done["models_count"], done["tried"]) == (MAX_LISTED, MAX_LISTED + 1, MAX_LISTED + 1)


def test_what_status_says_of_tenants_takes_as_many_questions_for_many_as_for_few(authority: Authority) -> None:
    """It is read under the right to write, by any auditor."""
    owner = load_owner(authority.state_dir, authority.clock.ms)

    def asked_for() -> int:
        said: list[str] = []

        def hear(_c: object, _cur: object, statement: str, *_: object) -> None:
            said.append(statement)

        engine = owner.state._store.engine
        sql.event.listen(engine, "before_cursor_execute", hear)
        status(owner)
        sql.event.remove(engine, "before_cursor_execute", hear)
        return len(said)

    key(authority, "acme")
    few = asked_for()
    for tenant in ("a", "b", "c"):
        key(authority, tenant)
    share(authority, "a", OTHER_MODEL)
    share(authority, "acme")
    assert asked_for() == few
    assert {one["tenant"]: one["shares"] for one in tenants(authority)} == {"acme": 1, "a": 1, "b": 0, "c": 0}
    owner.state.close()
