"""An authority that lies, repeats itself or says nothing, in a whole start: nothing opens, and the record names it.

The hostile authority is the real one with its own keys, whose answers pass through a change. Everything else is honest.
"""

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.binding import Ask, Release, decode_statement, statement_digest
from anchorhold.attestation.channel.seal import seal
from anchorhold.attestation.digest import length_prefixed
from anchorhold.attestation.lease import sign_lease, verify_lease
from anchorhold.attestation.transcript.bodies import Death, KeyDeny, KeyLease, KeyRelease
from anchorhold.attestation.types import ModelDigest, StatementDigest
from anchorhold.authority.kms.app import make_app as make_kms
from anchorhold.authority.kms.cms import seal_for_recipient
from anchorhold.authority.owner.app import make_app as make_owner
from anchorhold.authority.owner.authority import load_owner
from anchorhold.authority.owner.keys import new_share
from anchorhold.authority.tls import TlsFiles
from anchorhold.cli.times import now_ms
from anchorhold.client.errors import Unavailable
from anchorhold.log.files import cas_path
from anchorhold.sim.owner_face import Served

from .cell import Base, Cell, Cells, ask

pytestmark = pytest.mark.slow
Change = Callable[[bytes, bytes], bytes]
"""(the request's body, the true answer's body) -> what is answered."""


class Hostile:
    """One authority's own application, its answers to releases changed; `seen` are the true ones, in order."""

    def __init__(self, base: Base, name: str) -> None:
        state = base.state / name
        make = make_owner if name == "owner" else make_kms
        self._app: ASGIApp = make(state, now_ms)
        self.change: Change = lambda _, answer: answer
        self.seen: list[bytes] = []
        self._served = Served(self, TlsFiles.within(state))
        self.address = f"127.0.0.1:{self._served.port}"

    def close(self) -> None:
        self._served.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in ("/", "/v1/release"):
            await self._app(scope, receive, send)
            return
        asked = bytearray()
        more = True
        while more:
            message = await receive()
            asked += message.get("body", b"")
            more = message.get("more_body", False)
        start: Message = {}
        answered = bytearray()

        async def again() -> Message:
            return {"type": "http.request", "body": bytes(asked), "more_body": False}

        async def kept(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                answered.extend(message.get("body", b""))

        await self._app(scope, again, kept)
        self.seen.append(bytes(answered))
        body = self.change(bytes(asked), bytes(answered)) if start["status"] == 200 else bytes(answered)
        headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def hostile(request: pytest.FixtureRequest, base: Base) -> Iterator[Hostile]:
    made = Hostile(base, request.param)
    yield made
    made.close()


def refused(cell: Cell, source: str, code: str, *, reason: str = "refused", exit_code: int = 4) -> None:
    """The start ended for this source; the transcript, the verdict and the console all name it; nothing served."""
    assert cell.ended() == exit_code
    with pytest.raises(Unavailable):
        ask(cell.trust)
    bodies = cell.bodies()
    denied = [body for body in bodies if isinstance(body, KeyDeny)]
    assert [(body.source, body.code) for body in denied] == [(source, code)]
    # The other source may have released; a lease of this one is in no record.
    assert not any(isinstance(body, KeyRelease | KeyLease) and body.source == source for body in bodies)
    death = bodies[-1]
    assert isinstance(death, Death)
    assert (death.reason, death.source, death.last_token_ms) == (reason, source, None)
    assert source in cell.console()
    found = {one["code"]: one["detail"] for one in cell.findings()}
    assert f"death: {reason} by {source}, no token was sent" in found["P-END"]
    assert not any(code.startswith("C-") for code in found)


# The owner's authority


def _release(asked: bytes) -> Release:
    fields = canonical.decode(asked, "request", limit=1 << 20)
    assert isinstance(fields, dict)
    raw = fields["statement"]
    assert isinstance(raw, bytes)
    return decode_statement(raw, Release)


def _fields(answer: bytes) -> dict[str, canonical.Value]:
    fields = canonical.decode(answer, "answer", limit=1 << 20)
    assert isinstance(fields, dict)
    return fields


def _sealing(share: bytes) -> Change:
    """The true lease, beside another share, sealed as the true one would be."""

    def change(asked: bytes, answer: bytes) -> bytes:
        release = _release(asked)
        if release.ask is not Ask.KEY:
            return answer
        assert release.release_key is not None
        info = length_prefixed(labels.RELEASE_SEAL, statement_digest(release))
        return canonical.encode(_fields(answer) | {"sealed": seal(share, release.release_key, info=info)})

    return change


def _with_lease(base: Base, **changes: Any) -> Change:
    """The true share, beside a lease under the true key for something else."""

    def change(_: bytes, answer: bytes) -> bytes:
        owner = load_owner(base.state / "owner", now_ms)
        fields = _fields(answer)
        raw = fields["lease"]
        assert isinstance(raw, bytes)
        lease = verify_lease(raw, owner.keys.lease.public_key())
        fields["lease"] = sign_lease(replace(lease, **changes), owner.keys.lease)
        owner.state.close()
        return canonical.encode(fields)

    return change


def _earlier_lease(base: Base) -> bytes:
    """The first lease the owner ever gave on this stack, out of the transcript's attachments."""
    given = next(
        entry.body for entry in base.entries() if isinstance(entry.body, KeyLease) and entry.body.source == "owner"
    )
    return (base.state / "log" / cas_path(given.lease)).read_bytes()


OWNER_LIES: dict[str, Callable[[Base], Change]] = {
    "a wrong share": lambda _: _sealing(secrets.token_bytes(32)),
    "a short share": lambda _: _sealing(b"s" * 31),
    "no share": lambda _: lambda _, answer: canonical.encode(_fields(answer) | {"sealed": None}),
    "an old lease": lambda base: lambda _, answer: canonical.encode(_fields(answer) | {"lease": _earlier_lease(base)}),
    "a lease for another request": lambda base: _with_lease(base, request=7),
    "a lease for another statement": lambda base: _with_lease(base, release=StatementDigest(bytes(48))),
    "a lease without its last field": lambda _: (
        lambda _, answer: canonical.encode({"sealed": _fields(answer)["sealed"], "lease": b"\xd2"})
    ),
}


@pytest.mark.parametrize("hostile", ["owner"], indirect=True)
@pytest.mark.parametrize("lie", OWNER_LIES)
def test_a_lying_owner_opens_nothing_and_is_named(base: Base, cells: Cells, hostile: Hostile, lie: str) -> None:
    hostile.change = OWNER_LIES[lie](base)
    refused(cells.start(egress={"owner": hostile.address}), "owner", "answer")


@pytest.mark.parametrize("hostile", ["owner"], indirect=True)
def test_the_owner_s_share_of_another_model_opens_nothing(base: Base, cells: Cells, hostile: Hostile) -> None:
    """A true share of this authority's making, of a model that is not this one."""
    owner = load_owner(base.state / "owner", now_ms)
    share, _ = new_share(owner.keystore, owner.identity.key_id, ModelDigest(b"o" * 48), "serve")
    owner.state.close()
    hostile.change = _sealing(share)
    refused(cells.start(egress={"owner": hostile.address}), "owner", "answer")


@pytest.mark.parametrize("hostile", ["owner"], indirect=True)
@pytest.mark.parametrize("what", ["the answer", "the share"])
def test_an_answer_of_the_owner_s_opens_once(cells: Cells, hostile: Hostile, what: str) -> None:
    """What one start was answered, given to the next: the whole of it, or its share beside a true lease."""
    cells.start(egress={"owner": hostile.address}).serving()
    earlier = hostile.seen[0]
    hostile.change = lambda _, answer: (
        earlier if what == "the answer" else canonical.encode(_fields(answer) | {"sealed": _fields(earlier)["sealed"]})
    )
    refused(cells.start(egress={"owner": hostile.address}), "owner", "answer")


# The KMS


def _recipient(asked: bytes) -> RSAPublicKey:
    document = base64.b64decode(json.loads(asked)["Recipient"]["AttestationDocument"])
    key = load_der_public_key(cbor2.loads(cbor2.loads(document)[2])["public_key"])
    assert isinstance(key, RSAPublicKey)
    return key


def _enveloped(content: bytes) -> Change:
    def change(asked: bytes, answer: bytes) -> bytes:
        envelope = seal_for_recipient(content, _recipient(asked), content_key=b"k" * 32, iv=b"i" * 16)
        return json.dumps(json.loads(answer) | {"CiphertextForRecipient": base64.b64encode(envelope).decode()}).encode()

    return change


KMS_LIES: dict[str, tuple[Change, str]] = {
    "a wrong share": (_enveloped(secrets.token_bytes(32)), "envelope"),
    "a short share": (_enveloped(b"s" * 31), "envelope"),
    "another key": (lambda _, answer: json.dumps(json.loads(answer) | {"KeyId": "arn:aws:kms:x"}).encode(), "key"),
    "a plaintext": (lambda _, answer: json.dumps(json.loads(answer) | {"Plaintext": "eA=="}).encode(), "plaintext"),
}


@pytest.mark.parametrize("hostile", ["kms"], indirect=True)
@pytest.mark.parametrize("lie", KMS_LIES)
def test_a_lying_kms_opens_nothing_and_is_named(cells: Cells, hostile: Hostile, lie: str) -> None:
    hostile.change, code = KMS_LIES[lie]
    refused(cells.start(egress={"kms": hostile.address}), "kms", code)


@pytest.mark.parametrize("hostile", ["kms"], indirect=True)
def test_an_answer_of_the_kms_opens_once(cells: Cells, hostile: Hostile) -> None:
    """The envelope of one start, given to the next: it was for a key that is gone."""
    cells.start(egress={"kms": hostile.address}).serving()
    earlier = hostile.seen[0]
    hostile.change = lambda _, _answer: earlier
    refused(cells.start(egress={"kms": hostile.address}), "kms", "envelope")


# Either, withheld


@pytest.mark.parametrize("name", ["kms", "owner"])
def test_where_either_authority_says_nothing_the_start_ends_and_names_it(cells: Cells, name: str) -> None:
    closed = "127.0.0.1:9"  # discard: nobody listens
    refused(cells.start(egress={name: closed}), name, "unreachable", reason="unavailable")


@pytest.mark.parametrize("hostile", ["owner", "kms"], indirect=True)
def test_an_authority_that_turns_hostile_at_renewal_ends_what_runs_and_is_named(
    base: Base, cells: Cells, hostile: Hostile, request: pytest.FixtureRequest
) -> None:
    """An old lease from the owner; from the KMS another secret than the lease blob that was sealed."""
    name = request.node.callspec.params["hostile"]
    cell = cells.start(egress={name: hostile.address}).serving()
    assert ask(cell.trust).text
    lies = {"owner": OWNER_LIES["an old lease"](base), "kms": _enveloped(secrets.token_bytes(32))}
    hostile.change = lies[name]
    assert cell.ended() == 3
    bodies = cell.bodies()
    assert isinstance(bodies[-1], Death)
    assert (bodies[-1].reason, bodies[-1].source) == ("refused", name)
    denied = [body for body in bodies if isinstance(body, KeyDeny)]
    assert [(body.source, body.ask) for body in denied] == [(name, "lease")]
