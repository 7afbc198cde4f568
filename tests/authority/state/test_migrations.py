"""Schemas by migration: what the revisions add up to is what the code has, on both databases, and nothing is lost."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sql
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from tests.authority.state.schemas import SCHEMAS

from anchorhold.attestation.types import BootId
from anchorhold.authority import migrations
from anchorhold.authority.database import open_database
from anchorhold.authority.faces import migrate_state
from anchorhold.authority.mark import MarkFailed
from anchorhold.authority.migrations import StateOutdated, StateTooNew
from anchorhold.authority.owner.authority import StateDamaged
from anchorhold.authority.owner.state import State
from anchorhold.authority.place import DatabaseRefused, place_of, url_file
from anchorhold.authority.store import Store, mark_file, migrate, new_store
from anchorhold.cli.main import main
from anchorhold.sim.owner_face import MODEL, Authority, owner_face

FIRST = migrations.FIRST


def drift(engine: sql.Engine, tables: sql.MetaData) -> list[object]:
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found: list[object] = compare_metadata(context, tables)
    return [one for one in found if "alembic_version" not in repr(one)]


@pytest.mark.parametrize("face", SCHEMAS)
def test_the_revisions_add_up_to_the_tables_of_the_code_on_sqlite(tmp_path: Path, face: str) -> None:
    path = tmp_path / "face.db"
    with new_store(path, face):
        pass
    store = Store.load(path, face)
    again = f"write it anew: python -m tests.authority.state.write_revision {face} {migrations.head(face)} NAME"
    assert drift(store.engine, SCHEMAS[face]) == [], again
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize("face", SCHEMAS)
def test_the_revisions_add_up_to_the_tables_of_the_code_on_postgresql(
    tmp_path: Path, face: str, fresh_url: Callable[[], str]
) -> None:
    path = tmp_path / "face.db"
    with new_store(path, face, fresh_url()):
        pass
    assert url_file(path).stat().st_mode & 0o777 == 0o600
    store = Store.load(path, face)
    assert drift(store.engine, SCHEMAS[face]) == []
    store.close()


def test_a_table_that_no_revision_makes_is_seen(tmp_path: Path) -> None:
    planted = sql.MetaData()
    for table in SCHEMAS["owner"].tables.values():
        table.to_metadata(planted)
    sql.Table("planted", planted, sql.Column("id", sql.Integer, primary_key=True))
    path = tmp_path / "owner.sqlite"
    with new_store(path, "owner"):
        pass
    store = Store.load(path, "owner")
    assert drift(store.engine, planted) != []
    store.close()


def as_first_made_it(state_dir: Path, *, stamped: bool) -> None:
    """Put the owner state of `state_dir` back into the form that revision 0001 has, with all its rows."""
    path = state_dir / "owner.sqlite"
    old, new = path.with_name("old.sqlite"), path
    engine = open_database(old)
    with engine.begin() as connection:
        migrations.upgrade(connection, "owner", FIRST)
        names = [name for name in sql.inspect(connection).get_table_names() if name != "alembic_version"]
        columns = {name: [column["name"] for column in sql.inspect(connection).get_columns(name)] for name in names}
        if not stamped:
            connection.exec_driver_sql("DROP TABLE alembic_version")
    engine.dispose()
    with sqlite3.connect(old) as raw:
        raw.execute("ATTACH ? AS new", (str(new),))
        for name, found in columns.items():
            listed = ", ".join(f'"{column}"' for column in found)
            raw.execute(f"INSERT INTO main.{name} ({listed}) SELECT {listed} FROM new.{name}")
        raw.execute("DELETE FROM sealed_keys WHERE use = 'challenge'")
        raw.commit()
    raw.close()
    for one in (new, *state_dir.glob("owner.sqlite-*"), mark_file(path)):
        one.unlink(missing_ok=True)
    old.rename(new)


def worked(folder: Path) -> tuple[Authority, int]:
    """An authority that registered, made a share and revoked; stopped. How many entries its journal has."""
    with owner_face(folder) as authority:
        authority.register()
        authority.share()
        authority.order("revoke", model=MODEL, reason="incident-1")
        return authority, len(authority.journal())


@pytest.mark.parametrize("stamped", [True, False])
def test_an_older_state_is_refused_until_it_is_migrated_and_then_has_lost_nothing(
    tmp_path: Path, *, stamped: bool
) -> None:
    authority, entries = worked(tmp_path)
    path = authority.state_dir / "owner.sqlite"
    as_first_made_it(authority.state_dir, stamped=stamped)
    with pytest.raises(StateOutdated, match=FIRST):
        State.load(path)
    assert migrate_state(authority.state_dir, authority.clock.ms())[1:] == (FIRST, migrations.head("owner"))
    kept = authority.journal()
    assert len(kept) == entries + 1
    assert [entry.type for entry in kept][-4:] == ["register", "share", "revoke", "guard-policy"]
    state = State.load(path)
    with state.transaction() as transaction:
        model = transaction.model(MODEL)
    state.close()
    assert model is not None
    assert model.revoked_at is not None


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_keys_of_the_first_revision_keep_their_policy_and_whether_they_are_enabled(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "state.db"
    url = None if database == "sqlite" else request.getfixturevalue("fresh_url")()
    with new_store(path, "kms", url, revision=FIRST) as connection:
        for key_id, enabled in (("on", True), ("off", False)):
            connection.execute(
                sql.text("INSERT INTO keys VALUES (:id, :enabled, 'policy', 'described', 7)"),
                {"id": key_id, "enabled": enabled},
            )
    assert migrate(path, "kms") == (FIRST, migrations.head("kms"))
    store = Store.load(path, "kms")
    with store.snapshot() as connection:
        keys = connection.execute(sql.text("SELECT key_id, state, policy, spec FROM keys ORDER BY key_id")).all()
        materials = connection.execute(sql.text("SELECT handle, version, made FROM materials ORDER BY key_id")).all()
    store.close()
    assert [tuple(key) for key in keys] == [
        ("off", "Disabled", "policy", "SYMMETRIC_DEFAULT"),
        ("on", "Enabled", "policy", "SYMMETRIC_DEFAULT"),
    ]
    assert [tuple(one) for one in materials] == [("off", 1, 7), ("on", 1, 7)]


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_models_and_boots_of_before_adapters_stay_as_they_were_and_have_none(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "state.db"
    url = None if database == "sqlite" else request.getfixturevalue("fresh_url")()
    model: dict[str, object] = {
        "model": bytes(MODEL), "model_id": "tiny", "version": "3", "alias": "chat", "measurements": b"\x80",
        "purposes": b"\x80", "tenants": b"\x80", "purpose_class": "serve", "ttl_ms": 60_000, "revoked_at": 7,
        "last_not_after": 8,
    }  # fmt: skip
    boot: dict[str, object] = {
        "boot_id": b"b" * 32, "genesis": b"g" * 48, "model": bytes(MODEL), "image": b"i" * 48, "last_request": 9,
        "last_seen": 10, "last_not_after": 11,
    }  # fmt: skip
    with new_store(path, "owner", url, revision="0005") as connection:
        for table, row in (("models", model), ("boots", boot)):
            names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
            connection.execute(sql.text(f"INSERT INTO {table} ({names}) VALUES ({values})"), row)
    assert migrate(path, "owner") == ("0005", migrations.head("owner"))
    state = State.load(path)
    with state.transaction() as transaction:
        kept = [dict(transaction.connection.execute(sql.text(f"SELECT * FROM {one}")).mappings().one())
                for one in ("models", "boots")]  # fmt: skip
        known, adapters = transaction.model(MODEL), transaction.adapters.last(BootId(b"b" * 32), MODEL)
        transaction.adapters.put(BootId(b"b" * 32), MODEL, 12)
        assert transaction.adapters.last(BootId(b"b" * 32), MODEL) == 12
    state.close()
    assert kept == [model | {"base": None}, boot]
    assert known is not None
    assert (known.base, adapters) == (None, None)


def test_a_migrated_state_has_a_mark_and_goes_on(tmp_path: Path) -> None:
    authority, entries = worked(tmp_path)
    as_first_made_it(authority.state_dir, stamped=True)
    migrate_state(authority.state_dir, authority.clock.ms())
    authority.restart()
    authority.order("reinstate", model=MODEL, reason="over")
    authority.served.stop()
    assert [entry.type for entry in authority.journal()][entries:] == ["guard-policy", "reinstate"]


def test_a_migration_that_was_cut_short_before_the_guard_serves_nothing_and_is_finished_by_the_next(
    tmp_path: Path,
) -> None:
    authority, entries = worked(tmp_path)
    as_first_made_it(authority.state_dir, stamped=True)
    migrate(authority.state_dir / "owner.sqlite", "owner")
    with pytest.raises(StateDamaged, match="nobody administers"):
        authority.restart()
    for _ in range(2):
        migrate_state(authority.state_dir, authority.clock.ms())
    authority.restart()
    authority.served.stop()
    assert [entry.type for entry in authority.journal()][entries:] == ["guard-policy"], "once"


def test_serving_an_older_state_says_what_to_do_and_the_command_does_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority, _ = worked(tmp_path)
    as_first_made_it(authority.state_dir, stamped=True)
    state = ["--state", str(authority.state_dir)]
    assert main(["authority", "serve", *state, "--listen", "127.0.0.1:0"]) == 2
    said = capsys.readouterr().err
    assert "of revision 0001" in said
    assert f"anchorhold authority migrate --state {authority.state_dir}" in said
    assert main(["authority", "migrate", *state]) == 0
    assert main(["authority", "mark", *state]) == 0
    assert "entry             4" in capsys.readouterr().out


def test_migrating_makes_no_mark_for_a_state_that_must_have_had_one(tmp_path: Path) -> None:
    authority, _ = worked(tmp_path)
    path = authority.state_dir / "owner.sqlite"
    mark_file(path).unlink()
    with pytest.raises(MarkFailed):
        migrate(path, "owner")


def test_a_migration_that_fails_leaves_the_state_as_it_was(tmp_path: Path) -> None:
    authority, entries = worked(tmp_path)
    path = authority.state_dir / "owner.sqlite"
    as_first_made_it(authority.state_dir, stamped=True)
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE denials (taken INTEGER)")
    raw.close()
    with pytest.raises(sql.exc.OperationalError):
        migrate(path, "owner")
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [(FIRST,)]
        assert raw.execute("SELECT count(*) FROM journal").fetchone() == (entries + 1,)  # and `init`
    raw.close()


def test_a_state_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    authority, _ = worked(tmp_path)
    path = authority.state_dir / "owner.sqlite"
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(StateTooNew, match="9999"):
        State.load(path)
    with pytest.raises(StateTooNew, match="9999"):
        migrate(path, "owner")


def test_a_folder_that_names_two_databases_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "owner.sqlite"
    path.touch()
    url_file(path).write_text("postgresql://anchorhold@/postgres")
    with pytest.raises(DatabaseRefused, match="one database"):
        place_of(path)


def test_states_that_are_made_at_once_in_one_process_are_each_whole(tmp_path: Path) -> None:
    def make(at: int) -> list[object]:
        face = list(SCHEMAS)[at % len(SCHEMAS)]
        path = tmp_path / f"{at}.db"
        with new_store(path, face):
            pass
        store = Store.load(path, face)
        found = drift(store.engine, SCHEMAS[face])
        store.close()
        return found

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(make, range(12))) == [[]] * 12
