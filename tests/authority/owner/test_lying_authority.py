"""The enclave's side: an authority, or whoever holds its TLS key, that answers what was not asked."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import Ask
from anchorhold.attestation.lease import NOT_SAID, Lease, sign_lease, verify_lease
from anchorhold.attestation.purpose import Grant, Purpose
from anchorhold.attestation.types import BootId, Milliseconds, StatementDigest
from anchorhold.authority.owner.app import make_app
from anchorhold.authority.owner.authority import load_owner
from anchorhold.enclave.keys.source import Refused, SourceUnavailable
from anchorhold.sim.owner_face import OTHER_MODEL, PURPOSE, TTL_MS, Authority

Fields = dict[str, canonical.Value]
Change = Callable[[Fields], Fields]


def lying(app: ASGIApp, change: Change) -> ASGIApp:
    """The real application, but its release answers pass through `change`."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") != "/v1/release":
            await app(scope, receive, send)
            return
        start: Message = {}

        async def altered(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            fields = canonical.decode(message["body"], "answer", limit=100_000)
            assert isinstance(fields, dict)
            body = canonical.encode(change(fields))
            headers = [(k, v) for k, v in start["headers"] if k != b"content-length"]
            await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
            await send({"type": "http.response.body", "body": body})

        await app(scope, receive, altered)

    return wrapped


def request(authority: Authority, change: Change, ask: Ask = Ask.LEASE) -> None:
    authority.register()
    share, blob = authority.share()
    served = authority.behind(lying(make_app(authority.state_dir, authority.clock.ms), change))
    authority.served, old = served, authority.served
    try:
        authority.enclave().source(blob, share).request(ask, number=3, purposes=(Purpose(PURPOSE),))
    finally:
        authority.served = old


def resigned(authority: Authority, **changes: object) -> Change:
    owner = load_owner(authority.state_dir, authority.clock.ms)

    def change(fields: Fields) -> Fields:
        raw = fields["lease"]
        assert isinstance(raw, bytes)
        lease: Lease = replace(verify_lease(raw, owner.keys.lease.public_key()), **changes)  # type: ignore[arg-type]  # the test names the fields
        return fields | {"lease": sign_lease(lease, owner.keys.lease)}

    return change


@pytest.mark.parametrize(
    "changes",
    [
        {"boot_id": BootId(b"\x01" * 32)},
        {"genesis": StatementDigest(b"\x01" * 48)},
        {"model": OTHER_MODEL},
        {"source": "other"},
        {"request": 2},
        {"release": StatementDigest(b"\x01" * 48)},
        {"purposes": (Grant(Purpose("other")),)},
        {"purposes": (Grant(Purpose(PURPOSE)), Grant(Purpose("other")))},
        {"purposes": (Grant(Purpose(PURPOSE, approver="somebody")),)},
        {"purposes": (Grant(Purpose(PURPOSE, ticket="T-1")),)},
    ],
)
def test_a_genuine_lease_for_anything_else_is_refused(authority: Authority, changes: Mapping[str, Any]) -> None:
    with pytest.raises(Refused) as refusal:
        request(authority, resigned(authority, **changes))
    assert refusal.value.code == "answer"


def test_a_lease_under_another_key_or_of_the_asserted_kind_is_refused(authority: Authority) -> None:
    owner = load_owner(authority.state_dir, authority.clock.ms)

    def signed_with(key: Ed25519PrivateKey, *, asserted: bool) -> Change:
        def change(fields: Fields) -> Fields:
            raw = fields["lease"]
            assert isinstance(raw, bytes)
            lease = verify_lease(raw, owner.keys.lease.public_key())
            said = replace(lease, keystore=NOT_SAID) if asserted else lease
            return fields | {"lease": sign_lease(said, key, asserted=asserted)}

        return change

    for key, asserted in ((Ed25519PrivateKey.generate(), False), (owner.keys.lease, True), (owner.keys.journal, False)):
        with pytest.raises(Refused, match="signature"):
            request(authority, signed_with(key, asserted=asserted))


def test_a_lease_longer_than_the_configuration_allows_is_cut_to_it(authority: Authority) -> None:
    authority.register(ttl_ms=60_000)
    released = authority.enclave().source().request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))
    assert released.lease_ttl_ms == TTL_MS


def test_time_counts_from_before_the_request_was_sent(authority: Authority) -> None:
    """Whoever holds the answer back shortens the lease."""
    authority.register()
    sent = authority.clock.boottime()

    def delay(fields: Fields) -> Fields:
        authority.clock.passed += 7
        return fields

    served = authority.behind(lying(make_app(authority.state_dir, authority.clock.ms), delay))
    authority.served, old = served, authority.served
    released = authority.enclave().source().request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))
    authority.served = old
    assert released.sent_at_boottime == sent
    assert authority.clock.boottime() == sent + 7


def test_a_share_that_does_not_open_or_is_not_the_sealed_one_is_refused(authority: Authority) -> None:
    def flip(fields: Fields) -> Fields:
        sealed = fields["sealed"]
        assert isinstance(sealed, bytes)
        return fields | {"sealed": sealed[:-1] + bytes([sealed[-1] ^ 1])}

    def swallow(fields: Fields) -> Fields:
        return fields | {"sealed": None}

    for change in (flip, swallow):
        with pytest.raises(Refused, match="share"):
            request(authority, change, Ask.KEY)
    authority.register()
    _, other_blob = authority.share()
    with pytest.raises(Refused, match="does not open"):
        authority.enclave().source(other_blob, b"\x00" * 32).request(Ask.KEY, number=1, purposes=(Purpose(PURPOSE),))


def test_a_share_nobody_asked_for_is_refused(authority: Authority) -> None:
    with pytest.raises(Refused, match="if and only if"):
        request(authority, lambda fields: fields | {"sealed": bytes(1168)})


def test_an_answer_out_of_form_is_refused(authority: Authority) -> None:
    with pytest.raises(Refused, match="answer"):
        request(authority, lambda fields: fields | {"more": 1})
    with pytest.raises(Refused, match="answer"):
        request(authority, lambda _: {})


def test_a_server_under_another_ca_is_not_asked_twice_and_never_believed(authority: Authority) -> None:
    authority.register()
    enclave = authority.enclave()
    stranger = load_stranger(authority)
    with pytest.raises(SourceUnavailable) as failure:
        enclave.source(authorities=(stranger,)).request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))
    assert failure.value.code == "tls"


def load_stranger(authority: Authority) -> bytes:
    """The CA certificate of somebody else's authority, in DER."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from anchorhold.authority.tls import make_tls

    folder = authority.state_dir.parent / "stranger"
    folder.mkdir()
    files = make_tls(folder, now=authority.clock.utc())
    return x509.load_pem_x509_certificate(files.authority.read_bytes()).public_bytes(Encoding.DER)


def test_not_after_is_the_authority_s_time_of_signing_plus_ttl(authority: Authority) -> None:
    authority.register()
    released = authority.enclave().source().request(Ask.LEASE, number=1, purposes=(Purpose(PURPOSE),))
    owner = load_owner(authority.state_dir, authority.clock.ms)
    lease = verify_lease(released.lease, owner.keys.lease.public_key())
    assert lease.not_after == Milliseconds(authority.clock.ms() + TTL_MS)
