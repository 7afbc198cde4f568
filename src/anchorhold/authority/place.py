"""Where a face's database is (docs/spec/authority-state.md 1): a SQLite file in the state folder, or a PostgreSQL URL
in a file beside where that would be.
"""

import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sql

DRIVER = "postgresql+psycopg"
MAX_URL = 2_048  # characters; a longer one is a mistake
SCHEMA_OPTION = "schema"
_SCHEMA = re.compile(r"[a-z][a-z0-9_]{0,62}")  # 63 bytes is PostgreSQL's limit for a name
_VERIFIED = "verify-full"


class StateRefused(Exception):
    """A state that no authority may run on as it is. Nothing is granted."""


class DatabaseRefused(StateRefused):
    """A database that an authority may not be kept in. Says nothing of user or password."""


@dataclass(frozen=True, slots=True)
class PostgresPlace:
    """One PostgreSQL schema; each face has one of its own."""

    url: sql.URL = field(repr=False)
    schema: str


def postgres_place(text: str, *, face: str) -> PostgresPlace:
    """The place that a URL names: `postgresql://...`, with `?schema=NAME` in place of the default. Raises
    DatabaseRefused, also for a server elsewhere whose certificate would not be checked.
    """
    if len(text) > MAX_URL:
        raise DatabaseRefused(f"expected a URL of at most {MAX_URL} characters, got {len(text)}")
    try:
        url = sql.make_url(text)
    except (sql.exc.ArgumentError, ValueError):
        raise DatabaseRefused("expected a URL like postgresql://user@host/database") from None
    if url.drivername not in ("postgresql", "postgres", DRIVER):
        raise DatabaseRefused(f"expected a URL of postgresql, got {url.drivername!r:.40}")
    if "options" in url.query:
        raise DatabaseRefused("expected a URL without `options`: the session's settings are not a choice")
    named = url.query.get(SCHEMA_OPTION, default_schema(face))
    if not isinstance(named, str) or not _SCHEMA.fullmatch(named) or named.startswith("pg_"):
        raise DatabaseRefused(f"schema: expected a lower-case name of at most 63 characters, got {named!r:.80}")
    url = url.set(drivername=DRIVER).difference_update_query([SCHEMA_OPTION])
    if not _on_this_machine(url) and url.query.get("sslmode") != _VERIFIED:
        raise DatabaseRefused(f"expected sslmode={_VERIFIED} for a server that is not on this machine")
    return PostgresPlace(url, named)


def url_file(path: Path) -> Path:
    """The file that names the database of a face whose SQLite file would be `path`: `owner.sqlite`, `owner.url`."""
    return path.with_suffix(".url")


def has_database(path: Path) -> bool:
    """Whether the face whose SQLite file would be `path` has its database there or names one."""
    return path.is_file() or url_file(path).is_file()


def place_of(path: Path) -> Path | PostgresPlace:
    """The database of the face whose SQLite file would be `path`. Raises FileNotFoundError, or DatabaseRefused."""
    named = url_file(path)
    if path.is_file() and named.is_file():
        raise DatabaseRefused(f"expected one database, got {path.name} and {named.name}")
    if path.is_file():
        return path
    if not named.is_file():
        raise FileNotFoundError(f"no database at {str(path)!r}")
    return postgres_place(named.read_text().strip(), face=path.stem)


def write_url(path: Path, place: PostgresPlace) -> None:
    """Name `place` as the database of the face at `path`. Raises FileExistsError."""
    url = place.url.update_query_dict({SCHEMA_OPTION: place.schema})
    descriptor = os.open(url_file(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(url.render_as_string(hide_password=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def default_schema(face: str) -> str:
    """The schema of a face whose URL names none."""
    return f"anchorhold_{face}"


def _on_this_machine(url: sql.URL) -> bool:
    hosts = [str(url.host or ""), *_listed(url.query.get("host", ())), *_listed(url.query.get("hostaddr", ()))]
    return all(_local(host) for host in ",".join(hosts).split(","))


def _listed(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _local(host: str) -> bool:
    # Empty and a path are Unix sockets.
    if not host or host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
