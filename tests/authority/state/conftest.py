"""Databases of both kinds for the tests of an authority's state."""

from collections.abc import Callable, Iterator

import pytest
from tests.authority.postgres import Postgres, binaries, postgres

Url = Callable[[], str]


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A PostgreSQL for all tests of the run."""
    if binaries() is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: postgresql)")
    with postgres() as running:
        yield running


@pytest.fixture
def fresh_url(server: Postgres, request: pytest.FixtureRequest) -> Url:
    """A URL with a schema that nobody has used."""
    made: list[str] = []

    def url() -> str:
        made.append("")
        return f"{server.url}&schema=t{abs(hash(request.node.nodeid)):x}_{len(made)}"

    return url
