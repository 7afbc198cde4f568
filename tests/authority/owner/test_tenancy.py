"""A tenant's model opens under its key alone, serves it alone, and once shredded opens nowhere, from no copy either."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.authority.hsm import token_for_tests

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.journal import JournalEntry
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.sealed.manifest import PurposeClass
from anchorhold.authority.escrow.recipient import make_recipient, read_recipient, read_recipient_secret
from anchorhold.authority.escrow.restore import restore
from anchorhold.authority.keystore import Choice, KeystoreBusy, Kind, open_keystore
from anchorhold.authority.keystore.software import SoftwareKeystore
from anchorhold.authority.owner.authority import DATABASE, load_owner
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.kept import open_blob
from anchorhold.authority.owner.keys import BlobRefused
from anchorhold.authority.owner.tenant_table import TenantKey
from anchorhold.authority.tls import TlsFiles
from anchorhold.enclave.keys.source import Refused
from anchorhold.publish.providers import OwnerShares, Subject
from anchorhold.sim.owner_face import MODEL, OTHER_MODEL, PURPOSE, Authority, descriptor, owner_face

KEEPINGS = ("dedicated", "shared")


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    with owner_face(tmp_path) as running:
        yield running


def key(authority: Authority, tenant: str, keeping: str | None = None, tag: str = "standard") -> str:
    return str(authority.order("tenant-keys", tenant=tenant, tag=tag, keeping=keeping, reason="contract")["key_id"])


def share(authority: Authority, tenant: str, model: bytes = MODEL) -> tuple[bytes, bytes]:
    made = authority.order("shares", model=model, model_id="tiny", version="1", purpose_class="serve", tenant=tenant)
    assert isinstance(made["share"], bytes)
    assert isinstance(made["blob"], bytes)
    return made["share"], made["blob"]


def asked(authority: Authority, blob: bytes, secret: bytes, **context: object) -> str:
    """`opened`, or the code of the refusal."""
    endpoint = f"https://localhost:{authority.served.port}"
    source = authority.enclave(**context).source(blob, secret, endpoint=endpoint)  # type: ignore[arg-type]
    try:
        got = source.request(Ask.KEY, number=1, purposes=(Purpose(PURPOSE),)).share
    except Refused as error:
        return error.code
    assert got is not None
    assert bytes(got.view()) == secret
    return "opened"


def tenants(authority: Authority) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", authority.order("status")["tenants"])


def entries(authority: Authority, kind: str) -> list[JournalEntry]:
    return [one for one in authority.journal() if one.type == kind]


def opens(state: Path, authority: Authority, blob: bytes, model: bytes = MODEL) -> bool:
    owner = load_owner(state, authority.clock.ms)
    try:
        with owner.state.transaction() as transaction:
            open_blob(owner, transaction.connection, blob, model, "serve")  # type: ignore[arg-type]
    except BlobRefused:
        return False
    finally:
        owner.state.close()
    return True


@pytest.mark.parametrize("keeping", KEEPINGS)
def test_a_tenants_model_opens_for_that_tenant_alone(authority: Authority, keeping: str) -> None:
    mine = key(authority, "acme", keeping)
    secret, blob = share(authority, "acme")
    with pytest.raises(AdminFailed, match="that tenant and no other"):
        authority.register()
    with pytest.raises(AdminFailed, match="no other"):
        authority.register(tenants=["acme", "other"])
    authority.register(tenants=["acme"])
    assert asked(authority, blob, secret) == "opened"
    authority.restart()
    assert asked(authority, blob, secret) == "opened"
    (status,) = tenants(authority)
    assert status | {"made": 0} == {
        "tenant": "acme", "tag": "standard", "keeping": keeping, "key_id": mine, "state": "in-force",
        "made": 0, "shredded": None, "shares": 1, "backups": 0,
    }  # fmt: skip
    assert entries(authority, "share")[0].body["tenant"] == "acme"
    assert not any(name in entry.body for entry in authority.journal() for name in ("wrapped", "blob"))


@pytest.mark.parametrize("keeping", KEEPINGS)
def test_a_row_moved_to_another_tenant_s_key_opens_nothing(authority: Authority, keeping: str) -> None:
    """Whoever can write the database cannot give one tenant's model to another."""
    mine, other = key(authority, "acme", keeping), key(authority, "other", keeping)
    _, blob = share(authority, "acme")
    assert opens(authority.state_dir, authority, blob)
    engine = sql.create_engine(f"sqlite:///{authority.state_dir / DATABASE}")
    for put in (
        f"UPDATE shares SET tenant_key = '{other}'",
        "UPDATE shares SET tenant_key = NULL",
        f"UPDATE shares SET tenant_key = '{mine}'",
        "UPDATE tenant_keys SET tenant = 'swapped' WHERE tenant = 'acme'",
    ):
        with engine.begin() as connection:
            connection.execute(sql.text(put))
        assert opens(authority.state_dir, authority, blob) == (put.endswith(f"'{mine}'")), put
    engine.dispose()


def test_a_model_that_is_registered_for_others_meanwhile_is_not_released(authority: Authority) -> None:
    """The registration is checked where it is made and again at the release: a database that was changed says no."""
    key(authority, "acme")
    secret, blob = share(authority, "acme")
    authority.register(tenants=["acme"])
    engine = sql.create_engine(f"sqlite:///{authority.state_dir / DATABASE}")
    with engine.begin() as connection:
        connection.execute(sql.text("UPDATE models SET tenants = x'80'"))  # an empty list: anybody
    engine.dispose()
    assert asked(authority, blob, secret) == "tenant"


def test_shares_of_one_model_are_under_one_key(authority: Authority) -> None:
    key(authority, "acme")
    key(authority, "other", "dedicated")
    share(authority, "acme")
    with pytest.raises(AdminFailed, match="acme"):
        share(authority, "other")
    with pytest.raises(AdminFailed, match="acme"):
        authority.share()
    authority.share(OTHER_MODEL)
    with pytest.raises(AdminFailed, match="nobody's"):
        share(authority, "other", OTHER_MODEL)
    with pytest.raises(AdminFailed, match="has no key"):
        share(authority, "stranger", b"\x01" * 48)
    with pytest.raises(AdminFailed, match="a key already"):
        key(authority, "acme")


def test_the_policy_s_tags_decide_who_has_a_key_of_its_own(authority: Authority) -> None:
    policy = json.loads(str(authority.order("guard/show")["policy"]))
    authority.order("guard/put", policy=json.dumps(policy | {"dedicated_tags": ["high-risk"]}))
    key(authority, "bank", tag="high-risk")
    key(authority, "shop", tag="low")
    with pytest.raises(AdminFailed, match="expected dedicated"):
        key(authority, "fund", "shared", tag="high-risk")
    key(authority, "fund", "dedicated", tag="low")
    shown = {one["tenant"]: one["keeping"] for one in tenants(authority)}
    assert shown == {"bank": "dedicated", "shop": "shared", "fund": "dedicated"}


def test_a_tenant_s_releases_count_against_its_own_quota(authority: Authority) -> None:
    policy = json.loads(str(authority.order("guard/show")["policy"]))
    bucket = {"name": "starts", "per": "tenant", "operations": ["owner:Key"], "uses": 2, "seconds": 3600}
    authority.order("guard/put", policy=json.dumps(policy | {"buckets": [bucket]}))
    key(authority, "acme")
    key(authority, "other")
    secret, blob = share(authority, "acme")
    authority.register(tenants=["acme"])
    assert [asked(authority, blob, secret) for _ in range(3)] == ["opened", "opened", "guard"]
    second, theirs = share(authority, "other", OTHER_MODEL)
    authority.register(descriptor=descriptor("other"), tenants=["other"])
    assert asked(authority, theirs, second, model=OTHER_MODEL) == "opened"


@pytest.mark.parametrize("keeping", KEEPINGS)
def test_what_was_shredded_opens_nowhere_and_the_others_stay(
    authority: Authority, tmp_path: Path, keeping: str
) -> None:
    mine = key(authority, "acme", keeping)
    key(authority, "other", keeping)
    secret, blob = share(authority, "acme")
    second, theirs = share(authority, "other", OTHER_MODEL)
    authority.register(tenants=["acme"])
    authority.register(descriptor=descriptor("other"), tenants=["other"])
    assert asked(authority, blob, secret) == "opened"
    shutil.copytree(authority.state_dir, tmp_path / "before")
    done = authority.order("shred", tenant="acme", reason="contract ended")
    assert (done["key_id"], done["models"], done["shares"], done["tried"]) == (mine, [MODEL], 1, 1)
    assert done["last_not_after"] == authority.clock.ms() + 10_000
    assert asked(authority, blob, secret) == "revoked"
    assert not opens(authority.state_dir, authority, blob)
    assert asked(authority, theirs, second, model=OTHER_MODEL) == "opened"
    # Its model is revoked; were that undone, it would still not open.
    authority.order("reinstate", model=MODEL, reason="mistake")
    assert asked(authority, blob, secret) == "tenant"
    # The database of before, with the keystore of now: every copy of rows is worth nothing.
    shutil.copytree(authority.state_dir, tmp_path / "mixed")
    for file in tmp_path.joinpath("before").glob(f"{DATABASE}*"):
        shutil.copy(file, tmp_path / "mixed" / file.name)
    engine = sql.create_engine(f"sqlite:///{tmp_path / 'mixed' / DATABASE}")
    with engine.connect() as connection:
        rows = connection.execute(sql.text("SELECT shredded FROM tenant_keys")).scalars().all()
    engine.dispose()
    assert rows == [None, None], "it is the database of before"
    store = open_keystore(tmp_path / "mixed")
    gone = entries(authority, "tenant-shred")[0].body["handle"]
    assert not store.has(str(gone))
    store.close()
    # The copy of everything does open it: what this test finds closed was open, and copies of the keystore count.
    assert opens(tmp_path / "before", authority, blob)


@pytest.mark.parametrize("keeping", KEEPINGS)
def test_the_journal_has_the_order_and_the_proof_and_repeating_proves_again(authority: Authority, keeping: str) -> None:
    key(authority, "acme", keeping)
    share(authority, "acme")
    authority.order("shred", tenant="acme", reason="contract ended")
    authority.order("shred", tenant="acme", reason="once more")
    (ordered,) = entries(authority, "tenant-shred")
    first, second = entries(authority, "tenant-shredded")
    assert (ordered.body["models"], ordered.body["shares"], ordered.body["keeping"]) == ([MODEL], 1, keeping)
    assert (first.body["tried"], first.body["opened"]) == (1, 0)
    assert ordered.body["blobs"] == first.body["blobs"] == second.body["blobs"]
    with pytest.raises(AdminFailed, match="has no key"):
        share(authority, "acme", OTHER_MODEL)
    key(authority, "acme", keeping)  # the tenant may come back, to nothing
    with pytest.raises(AdminFailed, match="shredded with the key before"):
        share(authority, "acme")
    share(authority, "acme", OTHER_MODEL)
    with pytest.raises(AdminFailed, match="has no key"):
        authority.order("shred", tenant="nobody", reason="x")


def test_a_shredding_cut_off_before_the_key_is_destroyed_is_finished_by_repeating_it(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = key(authority, "acme", "dedicated")
    secret, blob = share(authority, "acme")
    authority.register(tenants=["acme"])

    def busy(_: SoftwareKeystore, __: str) -> None:
        raise KeystoreBusy("no session came free")

    with monkeypatch.context() as patched:
        patched.setattr(SoftwareKeystore, "destroy", busy)
        with pytest.raises(AdminFailed, match="unavailable"):
            authority.order("shred", tenant="acme", reason="contract ended")
    assert asked(authority, blob, secret) == "revoked", "the order stands from its own commit on"
    assert not entries(authority, "tenant-shredded"), "nothing is proved yet"
    store = open_keystore(authority.state_dir)
    assert store.has(mine)
    authority.order("shred", tenant="acme", reason="contract ended")
    assert not store.has(mine)
    store.close()
    assert len(entries(authority, "tenant-shredded")) == 1


def test_nothing_is_shredded_where_another_tenant_of_the_pool_would_go_with_it(authority: Authority) -> None:
    key(authority, "acme", "shared")
    key(authority, "other", "shared")
    _, theirs = share(authority, "other", OTHER_MODEL)
    secret, blob = share(authority, "acme")
    engine = sql.create_engine(f"sqlite:///{authority.state_dir / DATABASE}")
    with engine.begin() as connection:
        connection.execute(sql.text("UPDATE tenant_keys SET wrapped = x'00' WHERE tenant = 'other'"))
    engine.dispose()
    with pytest.raises(AdminFailed, match="nothing was shredded"):
        authority.order("shred", tenant="acme", reason="contract ended")
    authority.register(tenants=["acme"])
    assert asked(authority, blob, secret) == "opened"
    assert not opens(authority.state_dir, authority, theirs, OTHER_MODEL)


def test_a_tenant_s_key_says_nothing_of_itself(authority: Authority) -> None:
    key(authority, "acme", "shared")
    owner = load_owner(authority.state_dir, authority.clock.ms)
    with owner.state.transaction() as transaction:
        (kept,) = owner.tenant_keys.all(transaction.connection)
    owner.state.close()
    assert isinstance(kept, TenantKey)
    assert "wrapped" not in repr(kept)


def test_a_tenant_s_share_does_not_end_with_a_wrapping_key_not_even_a_lost_one(authority: Authority) -> None:
    key(authority, "acme")
    _, blob = share(authority, "acme")
    authority.order("rotate", reason="yearly")
    store = open_keystore(authority.state_dir)
    store.destroy(authority.public.key_id)
    store.close()
    assert authority.order("retire", key_id=authority.public.key_id, reason="lost", lose=True)["lost"] == []
    assert opens(authority.state_dir, authority, blob)


def test_a_backup_holds_tenants_keys_in_force_and_a_restore_names_them(authority: Authority, tmp_path: Path) -> None:
    """A backup of before a shredding brings the tenant back: that is counted, and said where it is restored."""
    public = read_recipient(make_recipient(tmp_path / "ada"))
    secret_key = read_recipient_secret(tmp_path / "ada")
    journal_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(authority.public.journal_key))
    for tenant, keeping in (("acme", "shared"), ("other", "shared"), ("bank", "dedicated")):
        key(authority, tenant, keeping)
    _, blob = share(authority, "acme")
    _, theirs = share(authority, "bank", OTHER_MODEL)

    def restored(name: str) -> tuple[str, ...]:
        file = authority.order("backup", recipients=[public], threshold=1)["file"]
        assert isinstance(file, bytes)
        return restore(file, [secret_key], journal_key, tmp_path / name, now=authority.clock.ms()).tenants

    assert restored("before") == ("acme", "bank", "other")
    assert opens(tmp_path / "before", authority, blob)
    assert authority.order("shred", tenant="acme", reason="contract ended")["backups"] == 1
    assert restored("after") == ("bank", "other")
    assert not opens(tmp_path / "after", authority, blob)
    assert opens(tmp_path / "after", authority, theirs, OTHER_MODEL)


def test_a_model_is_sealed_for_a_tenant_by_the_publisher(authority: Authority) -> None:
    key(authority, "acme")
    url, ca = f"https://localhost:{authority.served.port}", TlsFiles.within(authority.state_dir).authority
    provider = OwnerShares("owner", url, token=authority.token, ca=ca, tenant="acme")
    made = provider.new_share(Subject(MODEL, "tiny", "1"), (PurposeClass.SERVE, PurposeClass.RESEAL))
    authority.register(tenants=["acme"])
    assert asked(authority, made.wrapped[0].blob, bytes(made.share)) == "opened"
    authority.order("shred", tenant="acme", reason="contract ended")
    for one in made.wrapped:
        assert not opens(authority.state_dir, authority, one.blob)
    assert entries(authority, "tenant-shredded")[0].body["tried"] == len(made.wrapped)


@pytest.mark.parametrize("keeping", KEEPINGS)
def test_a_token_keeps_and_destroys_tenants_keys_as_a_folder_does(tmp_path: Path, keeping: str) -> None:
    hsm = token_for_tests()
    with owner_face(tmp_path, Choice(Kind.PKCS11, module=hsm.module, token=hsm.label, pin_file=hsm.pin_file)) as made:
        key(made, "acme", keeping)
        key(made, "other", keeping)
        _, blob = share(made, "acme")
        _, theirs = share(made, "other", OTHER_MODEL)
        shutil.copytree(made.state_dir, tmp_path / "before")
        assert opens(tmp_path / "before", made, blob)
        made.order("shred", tenant="acme", reason="contract ended")
        # The key was never in the folder, so that not even a whole copy of it opens anything.
        assert not opens(tmp_path / "before", made, blob)
        assert opens(made.state_dir, made, theirs, OTHER_MODEL)
