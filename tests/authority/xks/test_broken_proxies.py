"""The suite sees what it is for: each clause fails on a proxy that is broken in that clause."""

import ssl
from collections.abc import Iterator

import pytest
import uvicorn
from tests.authority.xks.conformance.clauses import CLAUSES, Clause
from tests.authority.xks.conformance.proxy import Broken, Proxy
from tests.authority.xks.conftest import PREFIX, Stage, running, served_plain
from tests.authority.xks.faults import FAULTS
from tests.authority.xks.middleman import Fault, Middleman

from anchorhold.authority.tls import TlsFiles

_OF_TLS = {"tls is 1 2 or newer", "a caller without kmss certificate gets no answer"}


@pytest.fixture(scope="module")
def middleman(stage: Stage) -> Iterator[tuple[Middleman, Proxy]]:
    proxy = stage.proxy("http://unused")
    man = Middleman(stage.app(), proxy.signing)
    with served_plain(stage, man) as served:
        yield man, served


def test_every_clause_has_a_fault_that_breaks_it() -> None:
    assert {clause.name for clause in CLAUSES} == FAULTS.keys() | _OF_TLS


@pytest.mark.parametrize("clause", [one for one in CLAUSES if one.name not in _OF_TLS], ids=lambda one: one.name)
def test_a_proxy_broken_in_a_clause_fails_it(middleman: tuple[Middleman, Proxy], clause: Clause) -> None:
    man, proxy = middleman
    man.fault = Fault()
    clause.check(proxy)  # the middleman alone breaks nothing
    man.fault = FAULTS[clause.name]
    with pytest.raises(Broken):
        clause.check(proxy)


@pytest.mark.parametrize("clause", [one for one in CLAUSES if one.name in _OF_TLS], ids=lambda one: one.name)
def test_a_server_that_takes_old_tls_and_any_caller_fails_the_clauses_of_tls(stage: Stage, clause: Clause) -> None:
    files = TlsFiles.within(stage.folder)
    config = uvicorn.Config(
        stage.app(), log_config=None, ssl_certfile=str(files.certificate), ssl_keyfile=str(files.key)
    )
    config.load()
    assert config.ssl is not None
    config.ssl.set_ciphers("ALL:@SECLEVEL=0")
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1
    with running(uvicorn.Server(config)) as port:
        proxy = stage.proxy(f"https://localhost:{port}{PREFIX}", stage.tls, str(files.authority))
        with pytest.raises(Broken):
            clause.check(proxy)
