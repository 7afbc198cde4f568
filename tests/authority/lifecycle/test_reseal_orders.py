"""A reseal order opens a revoked model's share to one measured enclave, for that class alone; nothing else moves."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import Ask, Release, encode_statement, nsm_nonce, statement_digest
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.sealed.manifest import PurposeClass
from anchorhold.authority.guard.defaults import Approving
from anchorhold.authority.owner.authority import load_owner
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.release import release
from anchorhold.authority.owner.release_request import ReleaseRefused, ReleaseRequest
from anchorhold.authority.owner.state import State, Transaction
from anchorhold.enclave.keys.hybrid import draw_hybrid
from anchorhold.enclave.keys.owner import OwnerSource
from anchorhold.enclave.keys.source import Refused, Released, Renewal
from anchorhold.sim.owner_face import IMAGE, MODEL, PURPOSE, Authority, Enclave, measurements, owner_face

RESEALING = b"\xdd" * 48
CLASSES = (PurposeClass.SERVE, PurposeClass.RESEAL)
HOUR_MS = 3_600_000


def resealing_measurements() -> dict[str, canonical.Value]:
    return measurements() | {"16": hashlib.sha384(bytes(48) + RESEALING).digest()}


def prepared(authority: Authority) -> tuple[bytes, bytes]:
    """A revoked model, sealed for serving and for resealing; its share and the blob of class `reseal`."""
    authority.register()
    share, _ = authority.share()
    made = authority.order("shares", model=MODEL, model_id="tiny", version="1", purpose_class="reseal", share=share)
    blob = made["blob"]
    assert isinstance(blob, bytes)
    authority.order("revoke", model=MODEL, reason="incident")
    return share, blob


def ordered(authority: Authority, **changes: canonical.Value) -> None:
    expires = authority.clock.ms() + HOUR_MS
    body: dict[str, canonical.Value] = {"model": MODEL, "measurements": [resealing_measurements()]}
    authority.order("reseal", **(body | {"expires": expires, "reason": "incident"} | changes))


def resealing(authority: Authority) -> Enclave:
    return authority.enclave(IMAGE, extend=RESEALING)


def source(enclave: Enclave, blob: bytes, share: bytes, key: str) -> OwnerSource:
    renewal = Renewal(key, "tiny", CLASSES)
    return OwnerSource(
        enclave.configured, enclave.context, blob=blob, holds=lambda got: bytes(got) == share, renewal=renewal
    )


def ask(made: OwnerSource, what: Ask, number: int = 1, reason: str = "reseal") -> Released:
    return made.request(what, number=number, purposes=(Purpose(reason),))


def refused(made: OwnerSource, what: Ask, number: int = 1, reason: str = "reseal") -> str:
    with pytest.raises(Refused) as caught:
        ask(made, what, number, reason)
    return caught.value.code


def test_a_revoked_model_s_share_opens_to_the_enclave_of_the_order_and_to_no_other(authority: Authority) -> None:
    share, blob = prepared(authority)
    key = authority.public.key_id
    made = source(resealing(authority), blob, share, key)
    assert refused(made, Ask.KEY) == "reseal"
    ordered(authority)
    got = ask(source(resealing(authority), blob, share, key), Ask.KEY).share
    assert got is not None
    assert bytes(got.view()) == share
    # The enclave that served, for either purpose; and the resealing one, for the purpose of serving.
    assert refused(source(authority.enclave(), blob, share, key), Ask.KEY) == "evidence"
    assert refused(source(authority.enclave(), blob, share, key), Ask.KEY, reason=PURPOSE) == "revoked"
    assert refused(source(resealing(authority), blob, share, key), Ask.KEY, reason=PURPOSE) == "evidence"


def test_an_order_ends_by_its_time_and_by_withdrawal_also_for_renewals(authority: Authority) -> None:
    share, blob = prepared(authority)
    ordered(authority, expires=authority.clock.ms() + 5_000)
    made = source(resealing(authority), blob, share, authority.public.key_id)
    ask(made, Ask.KEY)
    authority.clock.passed += 5
    assert refused(made, Ask.LEASE, 2) == "reseal"
    ordered(authority)
    ask(made, Ask.LEASE, 3)
    authority.order("reseal-end", model=MODEL, reason="done")
    assert refused(made, Ask.LEASE, 4) == "reseal"
    with pytest.raises(AdminFailed, match="no order"):
        authority.order("reseal-end", model=MODEL, reason="done")


def test_a_new_share_is_wrapped_for_every_class_under_the_current_key_and_is_another_one(authority: Authority) -> None:
    share, blob = prepared(authority)
    ordered(authority)
    key = str(authority.order("rotate", reason="incident")["key_id"])
    released = ask(source(resealing(authority), blob, share, key), Ask.SHARE)
    assert released.share is not None
    drawn = bytes(released.share.view())
    assert drawn != share
    assert [(one.purpose_class, one.key) for one in released.wrapped] == [(one, key) for one in CLASSES]
    # Each copy opens for its own class: to the enclave that reseals, and once reinstated to the one that serves.
    copies = {one.purpose_class: one.blob for one in released.wrapped}
    again = source(resealing(authority), copies[PurposeClass.RESEAL], drawn, key)
    ask(again, Ask.KEY)
    assert refused(source(resealing(authority), copies[PurposeClass.SERVE], drawn, key), Ask.KEY) == "blob"
    authority.order("reinstate", model=MODEL, reason="resealed")
    served = authority.enclave().source(copies[PurposeClass.SERVE], drawn)
    ask(served, Ask.KEY, reason=PURPOSE)
    kinds = [entry.type for entry in authority.journal()]
    assert kinds.count("reseal-share") == 1
    entry = next(one for one in authority.journal() if one.type == "reseal-share")
    assert entry.body["key_id"] == key
    assert drawn not in canonical.encode(dict(entry.body))


def test_a_share_under_another_key_than_the_configured_one_is_not_taken(authority: Authority) -> None:
    share, blob = prepared(authority)
    ordered(authority)
    authority.order("rotate", reason="incident")
    assert refused(source(resealing(authority), blob, share, authority.public.key_id), Ask.SHARE) == "answer"


def test_an_enclave_that_serves_gets_no_new_share(authority: Authority) -> None:
    authority.register()
    authority.share()
    made = source(authority.enclave(), b"", b"", authority.public.key_id)
    assert refused(made, Ask.SHARE, reason=PURPOSE) == "ask"
    assert "reseal-share" not in [entry.type for entry in authority.journal()]


def test_nobody_registers_the_class_or_its_reason(authority: Authority) -> None:
    for changes in ({"purpose_class": "reseal"}, {"purposes": [PURPOSE, "reseal"]}):
        with pytest.raises(AdminFailed, match="purpose"):
            authority.register(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"measurements": []},
        {"measurements": [{k: v for k, v in measurements().items() if k != "16"}]},
        {"expires": 1},
        {"expires": 2**52},
        {"reason": ""},
        {"model": b"x" * 48},
    ],
)
def test_an_order_that_says_too_little_or_too_much_is_refused(
    authority: Authority, changes: dict[str, canonical.Value]
) -> None:
    prepared(authority)
    with pytest.raises(AdminFailed):
        ordered(authority, **changes)
    assert "reseal-order" not in [entry.type for entry in authority.journal()]


@pytest.mark.parametrize("path", ["reseal", "retire"])
def test_where_approvers_are_named_it_takes_their_quorum(tmp_path: Path, path: str) -> None:
    keys = {name: Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex() for name in ("ann", "ben")}
    with owner_face(tmp_path, approving=Approving(keys, 2)) as authority:
        authority.register()
        rotated = authority.order("rotate", reason="yearly")
        assert rotated["key_id"] != authority.public.key_id
        bodies: dict[str, dict[str, canonical.Value]] = {
            "reseal": {
                "model": MODEL,
                "measurements": [resealing_measurements()],
                "expires": authority.clock.ms() + HOUR_MS,
                "reason": "incident",
            },
            "retire": {"key_id": authority.public.key_id, "reason": "incident", "lose": True},
        }
        with pytest.raises(AdminFailed) as held:
            authority.order(path, **bodies[path])
        assert held.value.code == "guard-approval"
        kinds = [entry.type for entry in authority.journal()]
        assert not {"reseal-order", "retire"} & set(kinds)


class Between(State):
    """The owner's state, with something that happens after a request's first look at it and before the decision."""

    def __init__(self, inner: State, happens: Callable[[], None]) -> None:
        self._inner, self._happens, self._asked = inner, happens, 0

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        self._asked += 1
        if self._asked == 2:
            self._happens()
        with self._inner.transaction() as transaction:
            yield transaction


def test_what_was_ordered_while_a_document_was_verified_counts(authority: Authority) -> None:
    prepared(authority)
    ordered(authority)
    loaded = load_owner(authority.state_dir, authority.clock.ms)
    enclave = resealing(authority)
    challenge, _ = loaded.challenges.issue(authority.clock.ms())
    statement = Release(
        boot_id=enclave.context.boot_id,
        genesis=enclave.context.genesis,
        source=authority.public.name,
        ask=Ask.LEASE,
        model=MODEL,
        purposes=(Purpose("reseal"),),
        request=1,
        challenge=challenge,
        release_key=draw_hybrid().public,
        rsa_key=None,
    )
    document = enclave.nsm.attest(user_data=statement_digest(statement), nonce=nsm_nonce(Release, challenge))
    request = ReleaseRequest(document, encode_statement(statement), None)
    other: list[canonical.Value] = [measurements() | {"16": b"\x11" * 48}]
    between = Between(loaded.state, lambda: ordered(authority, measurements=other))
    with pytest.raises(ReleaseRefused) as refusal:
        release(replace(loaded, state=between), request)
    assert refusal.value.code == "challenge"
    loaded.state.close()
