"""The KMS source against a KMS face through a parent that reads, cuts and misdirects, and against a hostile KMS."""

import base64
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from anchorhold.attestation.binding import Ask, Release, bind, nsm_nonce
from anchorhold.attestation.errors import EvidenceError, Malformed
from anchorhold.attestation.lease import verify_lease
from anchorhold.attestation.policy import Policy
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.types import Platform
from anchorhold.attestation.verify import verify_live
from anchorhold.authority.tls import make_tls
from anchorhold.enclave.keys.source import Refused, SourceUnavailable
from anchorhold.enclave.serve.transport import WindowError
from anchorhold.wire import sigv4

from .conftest import MEASUREMENTS, TTL_MS, Rig, now, now_ms


def test_the_share_comes_with_an_asserted_lease_and_the_parent_sees_neither(rig: Rig) -> None:
    released = rig.source().request(Ask.KEY, number=1, purposes=(Purpose("serve"),))
    assert released.share is not None
    with released.share as share:
        assert bytes(share) == rig.share
    for form in (rig.share, base64.b64encode(rig.share), rig.share.hex().encode()):
        assert form not in rig.parent.seen
    lease = verify_lease(released.lease, rig.receipt_key.public_key(), asserted=True)
    assert (lease.source, lease.request, lease.ttl_ms) == ("kms-a", 1, TTL_MS)
    with pytest.raises(EvidenceError):
        verify_lease(released.lease, rig.receipt_key.public_key())
    assert released.facts["key"] == rig.key
    assert "kms_request_id" in released.facts


def test_the_document_is_bound_to_the_statement_of_this_one_request(rig: Rig) -> None:
    source = rig.source()
    first = source.request(Ask.KEY, number=1, purposes=(Purpose("serve"),))
    second = source.request(Ask.KEY, number=2, purposes=(Purpose("serve"),))
    policy = Policy(platforms=frozenset({Platform.SIMULATED}), measurements=(MEASUREMENTS,))
    bound = []
    for released in (first, second):
        evidence = verify_live(released.document, policy, rig.pki.anchor, now(), nsm_nonce(Release, b""))
        bound.append(bind(evidence, released.statement, Release))
        assert evidence.public_key is not None
        assert isinstance(load_der_public_key(evidence.public_key), rsa.RSAPublicKey)
        with pytest.raises(EvidenceError):
            bind(evidence, (first if released is second else second).statement, Release)
    assert [statement.request for statement in bound] == [1, 2]
    assert bound[0].rsa_key != bound[1].rsa_key
    assert bound[0].source == "kms-a"


def test_a_lease_has_no_share_and_counts_from_before_it_was_sent(rig: Rig) -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    released = rig.source().request(Ask.LEASE, number=7, purposes=(Purpose("serve"),))
    assert released.share is None
    assert before <= released.sent_at_boottime <= time.clock_gettime(time.CLOCK_BOOTTIME)
    lease = verify_lease(released.lease, rig.receipt_key.public_key(), asserted=True)
    assert lease.not_after <= now_ms() + TTL_MS


def test_a_disabled_key_ends_releases_and_leases(rig: Rig) -> None:
    rig.client("disable_key", KeyId=rig.key)
    try:
        for ask in (Ask.KEY, Ask.LEASE):
            with pytest.raises(Refused) as caught:
                rig.source().request(ask, number=1, purposes=(Purpose("serve"),))
            assert caught.value.code == "DisabledException"
    finally:
        rig.client("enable_key", KeyId=rig.key)


def test_another_measurement_is_refused(rig: Rig) -> None:
    with pytest.raises(Refused) as caught:
        rig.source(measurements=MEASUREMENTS | {1: b"x" * 48}).request(Ask.KEY, number=1, purposes=(Purpose("serve"),))
    assert caught.value.code == "AccessDeniedException"


def test_credentials_are_asked_for_anew_so_that_they_may_expire(rig: Rig) -> None:
    """Those of an instance's role live for hours, an enclave for weeks. A parent that has none denies service alone."""
    answers: Iterator[sigv4.Credentials | Exception] = iter(
        [rig.credentials, WindowError("nobody listens"), Malformed("credentials"), rig.credentials]
    )

    def caller() -> sigv4.Credentials:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    source = rig.source(caller=caller)
    assert source.request(Ask.LEASE, number=1, purposes=(Purpose("serve"),)).lease
    for number in (2, 3):
        with pytest.raises(SourceUnavailable) as caught:
            source.request(Ask.LEASE, number=number, purposes=(Purpose("serve"),))
        assert caught.value.code == "credentials"
    assert source.request(Ask.LEASE, number=4, purposes=(Purpose("serve"),)).lease


def test_wrong_credentials_are_refused(rig: Rig) -> None:
    wrong = sigv4.Credentials(rig.credentials.access_key_id, "wrong")
    with pytest.raises(Refused) as caught:
        rig.source(credentials=wrong).request(Ask.KEY, number=1, purposes=(Purpose("serve"),))
    assert caught.value.code == "InvalidSignatureException"
    assert "wrong" not in str(caught.value)


def test_a_secret_that_does_not_prove_itself_is_refused(rig: Rig) -> None:
    with pytest.raises(Refused) as caught:
        rig.source(share=b"another").request(Ask.KEY, number=1, purposes=(Purpose("serve"),))
    assert caught.value.code == "envelope"


def test_a_parent_that_connects_elsewhere_or_poses_as_the_kms_gets_nothing(rig: Rig, tmp_path: Path) -> None:
    other = make_tls(tmp_path, now=now())
    foreign = x509.load_pem_x509_certificate(other.authority.read_bytes()).public_bytes(Encoding.DER)
    for change in (
        {"authorities": (foreign,)},
        {"endpoint": f"https://kms.eu-central-1.amazonaws.com:{rig.parent.port}"},
    ):
        with pytest.raises(SourceUnavailable) as caught:
            rig.source(**change).request(Ask.KEY, number=1, purposes=(Purpose("serve"),))
        assert caught.value.code == "tls"


def test_a_cut_or_missing_stream_is_silence_not_an_answer(rig: Rig) -> None:
    rig.source().request(Ask.KEY, number=1, purposes=(Purpose("serve"),))
    whole = rig.parent.returned
    for most in (0, whole // 4, whole // 2, whole - 900, whole - 500, whole - 100):
        rig.parent.cut_after = most
        try:
            with pytest.raises(SourceUnavailable):
                rig.source().request(Ask.KEY, number=1, purposes=(Purpose("serve"),))
        finally:
            rig.parent.cut_after = None

    def closed(name: str) -> socket.socket:
        raise ConnectionRefusedError(name)

    with pytest.raises(SourceUnavailable) as caught:
        rig.source(open_stream=closed).request(Ask.KEY, number=1, purposes=(Purpose("serve"),))
    assert caught.value.code == "unreachable"


def test_an_endpoint_that_is_more_than_a_host_is_refused(rig: Rig) -> None:
    for endpoint in (
        "http://localhost",
        "https://localhost/path",
        "https://a:b@localhost",
        "https://localhost?x=1",
        "localhost",
    ):
        with pytest.raises(ValueError, match="https://host"):
            rig.source(endpoint=endpoint).request(Ask.KEY, number=1, purposes=(Purpose("serve"),))
