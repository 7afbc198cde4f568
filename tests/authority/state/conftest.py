"""Databases of both kinds, and a stopped authority, for the tests of an authority's state."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.authority.postgres import Postgres, binaries, postgres

from anchorhold.sim.owner_face import Authority, descriptor, owner_face

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


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Authority]:
    """An authority with two models, the server stopped."""
    with owner_face(tmp_path) as authority:
        authority.register()
        authority.register(descriptor=descriptor("other"), alias="other")
        authority.served.stop()
        yield authority
