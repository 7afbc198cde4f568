"""Every clause, over HTTP and over mTLS."""

import pytest
from tests.authority.xks.conformance.clauses import CLAUSES, Clause
from tests.authority.xks.conformance.proxy import Proxy


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
def test_the_face_keeps_the_clause_over_http(plain: Proxy, clause: Clause) -> None:
    clause.check(plain)


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
def test_the_face_keeps_the_clause_over_mtls(mtls: Proxy, clause: Clause) -> None:
    clause.check(mtls)
