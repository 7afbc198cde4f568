"""Where a state may be kept, and that one transaction writes at a time on either database."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from tests.authority.postgres import Postgres

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.database import open_database, upsert
from anchorhold.authority.journal import Journal, check_journal
from anchorhold.authority.owner.state import SCHEMA
from anchorhold.authority.place import (
    DatabaseRefused,
    default_schema,
    place_of,
    postgres_place,
    url_file,
    write_url,
)
from anchorhold.authority.store import Store, new_store

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture(params=DATABASES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A fresh owner database of either kind."""
    made: Callable[[], str] | None = None if request.param == "sqlite" else request.getfixturevalue("fresh_url")
    with new_store(tmp_path / "owner.sqlite", "owner", None if made is None else made()):
        pass
    return tmp_path / "owner.sqlite"


@pytest.fixture
def two(path: Path) -> Iterator[tuple[Store, Store]]:
    """The same database, opened by two hosts."""
    stores = (Store.load(path, "owner"), Store.load(path, "owner"))
    yield stores
    for store in stores:
        store.close()


def patient(engine: Engine) -> None:
    """Beside busy writers on a slow disk one may wait for longer than a call would, which is not what is tested."""
    patience = "PRAGMA busy_timeout=60000" if engine.dialect.name == "sqlite" else "SET lock_timeout = 60000"

    @sql.event.listens_for(engine, "connect")
    def waits(connection: DBAPIConnection, _record: object) -> None:
        connection.cursor().execute(patience)
        connection.commit()

    engine.dispose()


def test_a_journal_that_many_write_at_once_has_one_end(two: tuple[Store, Store]) -> None:
    for one in two:
        patient(one.engine)
    key = Ed25519PrivateKey.generate()
    journal = Journal(SCHEMA, key)

    def write(store: Store, name: str) -> None:
        for number in range(10):
            with store.transaction() as connection:
                journal.append(connection, Milliseconds(1), name, {"number": number})

    threads = [threading.Thread(target=write, args=(store, f"n{n}")) for n, store in enumerate((*two, *two))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with two[0].snapshot() as connection:
        entries = check_journal(journal.signed_entries(connection), key.public_key())
    assert len(entries) == 40
    assert two[0].mark.read().seq == 39


def test_who_comes_second_sees_what_the_first_wrote(two: tuple[Store, Store]) -> None:
    table = SCHEMA.tables["used_challenges"]
    began, seen = threading.Event(), []

    def second() -> None:
        began.set()
        with two[1].transaction() as connection:
            seen.append(connection.execute(sql.select(sql.func.count()).select_from(table)).scalar_one())

    with two[0].transaction() as connection:
        thread = threading.Thread(target=second)
        thread.start()
        began.wait()
        thread.join(0.2)
        assert not seen
        connection.execute(sql.insert(table).values(challenge=b"c", expires=1))
    thread.join()
    assert seen == [1]


def test_a_snapshot_waits_for_nobody_and_sees_one_moment(two: tuple[Store, Store]) -> None:
    table = SCHEMA.tables["used_challenges"]
    count = sql.select(sql.func.count()).select_from(table)
    with two[0].snapshot() as reading:
        assert reading.execute(count).scalar_one() == 0
        with two[1].transaction() as connection:
            connection.execute(sql.insert(table).values(challenge=b"c", expires=1))
        assert reading.execute(count).scalar_one() == 0


def test_an_upsert_says_what_it_did(two: tuple[Store, Store]) -> None:
    table = SCHEMA.tables["used_challenges"]
    with two[0].transaction() as connection:
        row = upsert(connection, table).values(challenge=b"c", expires=1).on_conflict_do_nothing()
        said = row.returning(table.c.challenge)
        assert connection.execute(said).first() is not None
        assert connection.execute(said).first() is None


def test_what_fails_within_leaves_nothing_and_moves_no_mark(two: tuple[Store, Store]) -> None:
    journal = Journal(SCHEMA, Ed25519PrivateKey.generate())

    def fail() -> None:
        with two[0].transaction() as connection:
            journal.append(connection, Milliseconds(1), "n", {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with two[0].transaction() as connection:
        assert journal.count(connection) == 0
    assert two[0].mark.read().seq == -1


@pytest.mark.slow
def test_each_face_has_a_schema_of_its_own_and_none_is_made_twice(tmp_path: Path, server: Postgres) -> None:
    for face in ("owner", "kms"):
        with new_store(tmp_path / f"{face}.db", face, server.url):
            pass
    assert url_file(tmp_path / "owner.db").read_text().strip().endswith("schema=anchorhold_owner")
    with pytest.raises(FileExistsError), new_store(tmp_path / "again.db", "owner", server.url):
        pass
    assert not url_file(tmp_path / "again.db").exists()


@pytest.mark.slow
def test_a_database_that_is_not_made_whole_is_not_there(tmp_path: Path, fresh_url: Callable[[], str]) -> None:
    url = fresh_url()
    with pytest.raises(ZeroDivisionError), new_store(tmp_path / "owner.db", "owner", url):
        raise ZeroDivisionError
    with new_store(tmp_path / "owner.db", "owner", url):
        pass


@pytest.mark.slow
def test_a_commit_waits_for_the_disk_whatever_the_servers_default(server: Postgres) -> None:
    place = postgres_place(server.url, face="owner")
    engine = open_database(place)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER ROLE {place.url.username} SET synchronous_commit = off")
    engine.dispose()
    try:
        again = open_database(place)
        with again.begin() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
            level = connection.exec_driver_sql("SHOW transaction_isolation").scalar_one()
        assert level == "read committed"
        again.dispose()
    finally:
        engine = open_database(place)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER ROLE {place.url.username} RESET synchronous_commit")
        engine.dispose()


def test_a_sqlite_commit_waits_for_the_disk(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "x.db")
    with engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://a@/b",
        "sqlite:///x",
        "not a url",
        "postgresql://a@db.example/b",
        "postgresql://a@db.example/b?sslmode=require",
        "postgresql://a@localhost,db.example/b",
        "postgresql://a@/b?host=/run,db.example",
        "postgresql://a@/b?hostaddr=192.0.2.1",
        "postgresql://a@/b?schema=pg_catalog",
        "postgresql://a@/b?schema=a%22b",
        "postgresql://a@/b?schema=A",
        "postgresql://a@/b?options=-csynchronous_commit%3Doff",
        "postgresql://a@/b?application_name=" + "x" * 2_048,
    ],
)
def test_a_place_that_is_not_fit_is_refused(url: str) -> None:
    with pytest.raises(DatabaseRefused):
        postgres_place(url, face="owner")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a@/b",
        "postgresql://a@/b?host=/run/postgresql",
        "postgresql://a@127.0.0.1/b",
        "postgresql://a@localhost/b",
        "postgresql+psycopg://a@db.example/b?sslmode=verify-full",
    ],
)
def test_a_place_on_this_machine_or_behind_a_checked_certificate_is_taken(url: str) -> None:
    assert postgres_place(url, face="owner").schema == default_schema("owner")


def test_a_password_is_in_its_file_and_in_no_text(tmp_path: Path) -> None:
    place = postgres_place("postgresql://a:secret-word@/b?schema=mine", face="owner")
    assert "secret-word" not in repr(place)
    path = tmp_path / "owner.sqlite"
    write_url(path, place)
    assert url_file(path).stat().st_mode & 0o777 == 0o600
    again = place_of(path)
    assert again == place
    with pytest.raises(DatabaseRefused) as caught:
        postgres_place("mysql://a:secret-word@/b", face="owner")
    assert "secret-word" not in str(caught.value)
