"""The vectors of release bundles, clause by clause: each has one fault, or shows what is no fault."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.vectors.release.build import (
    AUDITOR,
    BASE,
    DAY,
    FIRST,
    INNER,
    ISSUED,
    LEEWAY,
    LISTED,
    MAX_AGE,
    NOW,
    OPERATOR,
    OTHER_LOG_KEY,
    OWNER,
    PRODUCT,
    STRANGER,
    VKEY,
    Vector,
    accepts,
    by_two,
    changed,
    fields,
    fresh_list,
    logged,
    none,
    rebuilt,
    refuses,
    registers,
    revocation,
    revoked_by,
    signature_of,
    signed,
    statement,
    with_inner,
    with_list,
    with_list_signature,
    with_payload,
)

from anchorhold.attestation.canonical import Value, encode
from anchorhold.attestation.release.signed import Kind, UnverifiedSigned
from anchorhold.attestation.release.statement import MAX_LIFE_MS, MAX_TIME_MS, Reason, Revocation
from anchorhold.attestation.types import Milliseconds, Platform

MALFORMED, CANONICAL, TOO_LARGE = refuses("malformed"), refuses("not-canonical"), refuses("too-large")
MISMATCH, POLICY = refuses("mismatch"), refuses("policy")
ONE = accepts("1.0")
TOO_FEW = refuses("list-threshold")
RAW = BASE.encode()


def vectors() -> Iterator[Vector]:
    """All of them."""
    yield from _statements()
    yield from _lists()
    yield from _revocations()
    yield from _signatures()
    yield from _bundles()
    yield from _list_rules()
    yield from _statement_rules()
    yield from _log_rules()


def _payload(name: str, clause: str, expect: Mapping[str, object], **changes: Value) -> Vector:
    raw = with_payload(Kind.STATEMENT, fields(FIRST.encode(), **changes))
    return Vector(f"statement-{name}", clause, raw, expect)


def _sets(*sets: Mapping[str, Value]) -> list[Value]:
    return list(sets)


def _set(**changes: Value) -> dict[str, Value]:
    members: dict[str, Value] = {str(index): value for index, value in registers("a").items()}
    members |= {name.removeprefix("r"): value for name, value in changes.items()}
    return {name: value for name, value in members.items() if value is not None}


def _statements() -> Iterator[Vector]:
    yield Vector("good", "5.9", RAW, ONE)
    yield _payload("unknown-field", "1.1", MALFORMED, extra=1)
    yield _payload("no-release", "1.1", MALFORMED, release=None)
    yield _payload("version-2", "1.1", MISMATCH, v=2)
    yield _payload("platform-unknown", "1.1", MALFORMED, platform="sgx")
    yield _payload("time-text", "1.1", MALFORMED, not_before="0")
    yield _payload("register-leading-zero", "1.1", MALFORMED, measurements=_sets(_set(r00=b"a" * 48)))
    yield _payload("register-text", "1.1", MALFORMED, measurements=_sets(_set(r1="a" * 48)))
    yield _payload("sets-numbers", "1.1", MALFORMED, measurements=[1])
    yield _payload("product-empty", "1.2", MALFORMED, product="")
    yield _payload("release-space", "1.2", MALFORMED, release="1 0")
    yield _payload("release-65", "1.2", MALFORMED, release="1" * 65)
    yield _payload("release-not-ascii", "1.2", MALFORMED, release="\u0661")
    yield _payload("no-sets", "1.3", POLICY, measurements=[])
    yield _payload("set-empty", "1.3", POLICY, measurements=_sets({}))
    yield _payload("set-without-2", "1.3", POLICY, measurements=_sets(_set(r2=None)))
    yield _payload("set-zero", "1.3", POLICY, measurements=_sets(_set(r0=bytes(48))))
    yield _payload("set-short", "1.3", POLICY, measurements=_sets(_set(r0=b"a" * 47)))
    yield _payload("set-register-32", "1.3", POLICY, measurements=_sets(_set(r32=b"a" * 48)))
    yield _payload("set-with-16", "1.3", MALFORMED, measurements=_sets(_set(r16=b"a" * 48)))
    yield _payload("set-twice", "1.3", CANONICAL, measurements=_sets(_set(), _set()))
    many = _sets(*({str(index): bytes([fill]) * 48 for index in (0, 1, 2)} for fill in range(1, 18)))
    yield _payload("17-sets", "1.3", TOO_LARGE, measurements=many)
    yield _payload("tpm-without-12", "1.3", POLICY, platform="nitro-tpm", measurements=_sets({"4": b"a" * 48}))
    tpm: Value = _sets({"4": b"a" * 48, "12": b"b" * 48})
    yield _payload("tpm-4-and-12", "5.6", refuses("list-incomplete"), platform="nitro-tpm", measurements=tpm)
    yield _payload("ends-as-it-begins", "1.4", MALFORMED, not_after=ISSUED)
    yield _payload("negative-time", "1.4", MALFORMED, not_before=-1)
    yield _payload("year-10000", "1.4", MALFORMED, not_before=MAX_TIME_MS, not_after=MAX_TIME_MS + 1)
    yield _payload("401-days", "1.4", TOO_LARGE, not_after=ISSUED + MAX_LIFE_MS + 1)


def _list_payload(name: str, clause: str, expect: Mapping[str, object], **changes: Value) -> Vector:
    return Vector(f"list-{name}", clause, with_payload(Kind.LIST, fields(LISTED.encode(), **changes)), expect)


def _lists() -> Iterator[Vector]:
    other = statement("2.0", "b").digest
    entry: dict[str, Value] = {"product": PRODUCT, "digest": FIRST.digest, "at": ISSUED, "reason": "defect"}
    yield _list_payload("unknown-field", "1.5", MALFORMED, extra=1)
    yield _list_payload("product-empty", "1.5", MALFORMED, product="")
    yield _list_payload("issued-before-1970", "1.5", MALFORMED, issued_at=-1)
    yield _list_payload("version-0", "1.5", MALFORMED, version=0)
    yield _list_payload("version-too-high", "1.5", MALFORMED, version=2**32)
    yield _list_payload("digest-short", "1.5", MALFORMED, statements=[FIRST.digest[:47]])
    yield _list_payload("digest-text", "1.5", MALFORMED, statements=["a" * 48])
    falling = sorted((FIRST.digest, other), reverse=True)
    yield _list_payload("descending", "1.5", CANONICAL, statements=[*falling])
    yield _list_payload("digest-twice", "1.5", CANONICAL, statements=[FIRST.digest, FIRST.digest])
    yield _list_payload("65-statements", "1.5", TOO_LARGE, statements=[bytes([fill]) * 48 for fill in range(65)])
    yield _list_payload("revoked-twice", "1.5", CANONICAL, revoked=[entry, entry])
    crowd: list[Value] = [entry | {"digest": number.to_bytes(48, "big")} for number in range(257)]
    yield _list_payload("257-revoked", "1.5", TOO_LARGE, revoked=crowd)
    yield _list_payload("revoked-other-product", "1.5", MISMATCH, revoked=[entry | {"product": "other"}])
    yield _list_payload("revoked-unknown-field", "1.5", MALFORMED, revoked=[entry | {"v": 1}])


def _revocations() -> Iterator[Vector]:
    good = Revocation(PRODUCT, FIRST.digest, NOW, Reason.VULNERABILITY).encode()
    for name, changes in {
        "unknown-field": {"extra": 1},
        "reason-unknown": {"reason": "whim"},
        "digest-short": {"digest": b"d" * 47},
        "negative-time": {"at": -1},
        "product-empty": {"product": ""},
    }.items():
        made: Mapping[str, Value] = fields(good, **changes)  # type: ignore[arg-type]  # as named
        whole = by_two(UnverifiedSigned(Kind.REVOCATION, encode(made), ()))
        raw = rebuilt(RAW, lambda members, one=whole: members | {"revocations": [one.encode()]})  # type: ignore[misc]  # bound at once
        yield Vector(f"revocation-{name}", "1.6", raw, MALFORMED)


def _list_as(members: Value) -> bytes:
    return rebuilt(RAW, lambda bundle: bundle | {"list": encode(members)})


def _signatures() -> Iterator[Vector]:
    whole: list[Value] = ["release-list", BASE.list.payload, []]
    pairs: list[list[Value]] = [[one.signer, one.ed25519, one.ml_dsa_65] for one in BASE.list.signatures]
    yield Vector("signed-kind", "3.1", _list_as(["release-statement", *whole[1:]]), MISMATCH)
    yield Vector("signed-four", "3.1", _list_as([*whole, None]), MALFORMED)
    yield Vector("signed-no-list", "3.1", _list_as({"kind": "release-list"}), MALFORMED)
    yield Vector("signed-payload-text", "3.1", _list_as([whole[0], "text", []]), MALFORMED)
    yield Vector("signed-payload-list", "3.1", _list_as([whole[0], [1], []]), MALFORMED)
    yield Vector("signatures-map", "3.1", _list_as([*whole[:2], {}]), MALFORMED)
    yield Vector("signature-of-two", "3.1", _list_as([*whole[:2], [pairs[0][:2]]]), MALFORMED)
    yield Vector("signature-null", "3.1", _list_as([*whole[:2], [[*pairs[0][:2], None]]]), MALFORMED)
    yield Vector("signers-descending", "3.1", _list_as([*whole[:2], pairs[::-1]]), CANONICAL)
    yield Vector("signer-twice", "3.1", _list_as([*whole[:2], [pairs[0], pairs[0]]]), CANONICAL)
    yield Vector("signer-short", "3.1", _list_as([*whole[:2], [[b"s" * 47, *pairs[0][1:]]]]), MALFORMED)
    crowd: list[Value] = [[bytes([fill]) * 48, b"", b""] for fill in range(17)]
    yield Vector("17-signers", "3.1", _list_as([*whole[:2], crowd]), MALFORMED)
    mine, stolen = signature_of(BASE.list, OWNER), signature_of(INNER.signed, OWNER)
    yield Vector("signature-too-large", "3.2", _list_as([*whole[:2], [[mine.signer, b"s" * 193, b""]]]), MALFORMED)
    yield Vector("cose-untagged", "3.2", with_list_signature(ed25519=mine.ed25519[1:]), TOO_FEW)
    yield Vector("cose-is-ed25519-twice", "3.2", with_list_signature(ml_dsa_65=mine.ed25519), TOO_FEW)
    yield Vector("cose-of-the-statement", "3.2", with_list_signature(ed25519=stolen.ed25519), TOO_FEW)
    yield Vector("cose-pq-of-the-statement", "3.2", with_list_signature(ml_dsa_65=stolen.ml_dsa_65), TOO_FEW)
    for name, at in (("ed25519", "ed25519"), ("pq", "ml_dsa_65")):
        spoilt = bytearray(getattr(mine, at))
        spoilt[-1] ^= 1
        yield Vector(f"{name}-flipped-bit", "3.3", with_list_signature(**{at: bytes(spoilt)}), TOO_FEW)
        yield Vector(f"{name}-absent", "3.3", with_list_signature(**{at: b""}), TOO_FEW)
        others = getattr(signature_of(BASE.list, OPERATOR), at)
        yield Vector(f"{name}-another-s", "3.3", with_list_signature(**{at: others}), TOO_FEW)
    # The owner's signatures, filed a second time under the operator's identity.
    filed = changed(BASE.list, OPERATOR, ed25519=mine.ed25519, ml_dsa_65=mine.ml_dsa_65)
    yield Vector("one-signer-under-two-names", "3.3", replace(BASE, list=filed).encode(), TOO_FEW)
    yield Vector("a-stranger-beside", "3.4", signed(by=(OWNER, OPERATOR, STRANGER)).encode(), ONE)
    yield Vector("a-stranger-instead", "3.4", signed(by=(OWNER, STRANGER)).encode(), TOO_FEW)


def _bundles() -> Iterator[Vector]:
    yield Vector("empty", "4.1", b"", MALFORMED)
    yield Vector("cut", "4.1", RAW[:-1], MALFORMED)
    yield Vector("trailing", "4.1", RAW + b"\x00", MALFORMED)
    yield Vector("bundle-unknown-field", "4.1", rebuilt(RAW, lambda members: members | {"extra": 1}), MALFORMED)
    yield Vector("bundle-version-2", "4.1", rebuilt(RAW, lambda members: members | {"v": 2}), MISMATCH)
    # {"v": 1} with the number in two bytes where one does.
    yield Vector("bundle-wide-number", "4.1", RAW.replace(b"\x61v\x01", b"\x61v\x18\x01", 1), CANONICAL)
    two = signed(FIRST, statement("2.0", "b")).encode()
    turned = rebuilt(two, lambda members: members | {"statements": _as_list(members["statements"])[::-1]})
    yield Vector("bundle-descending", "4.1", turned, CANONICAL)
    twice = rebuilt(RAW, lambda members: members | {"statements": _as_list(members["statements"]) * 2})
    yield Vector("bundle-statement-twice", "4.1", twice, CANONICAL)
    crowd = rebuilt(RAW, lambda members: members | {"statements": [None] * 65})
    yield Vector("bundle-65-statements", "4.1", crowd, TOO_LARGE)
    ended = rebuilt(RAW, lambda members: members | {"revocations": [b""] * 65})
    yield Vector("bundle-65-revocations", "4.1", ended, TOO_LARGE)
    ends: list[Value] = [revocation(AUDITOR).encode(), revocation(OWNER, at=NOW + 1).encode()]
    falling: list[Value] = sorted(ends, key=bytes, reverse=True)  # type: ignore[arg-type]  # all are bytes
    turned = rebuilt(RAW, lambda members: members | {"revocations": falling})
    yield Vector("bundle-revocations-descending", "4.1", turned, CANONICAL)
    twice = rebuilt(RAW, lambda members: members | {"revocations": ends[:1] * 2})
    yield Vector("bundle-revocation-twice", "4.1", twice, CANONICAL)
    yield Vector(
        "bundle-revocation-text", "4.1", rebuilt(RAW, lambda bundle: bundle | {"revocations": ["r"]}), MALFORMED
    )
    yield Vector("log-index-negative", "4.2", logged(index=-1), MALFORMED)
    yield Vector("log-note-too-large", "4.2", logged(checkpoint=b"n" * 16_385), TOO_LARGE)
    yield Vector("log-65-hashes", "4.2", logged(proof=(b"h" * 32,) * 65), TOO_LARGE)


def _as_list(value: Value) -> list[Value]:
    assert isinstance(value, list)
    return value


def _list_rules() -> Iterator[Vector]:
    yield Vector("one-of-two", "5.2", signed(by=(OWNER,)).encode(), TOO_FEW)
    yield Vector("nobody", "5.2", signed(by=()).encode(), TOO_FEW)
    yield Vector("another-two", "5.2", signed(by=(OPERATOR, AUDITOR)).encode(), ONE)
    younger = replace(LISTED, issued_at=Milliseconds(ISSUED + 1))
    moved = replace(BASE, list=replace(BASE.list, payload=younger.encode()), unverified_list=younger)
    yield Vector("changed-after-signing", "5.2", moved.encode(), TOO_FEW)
    yield Vector("other-product", "5.3", fresh_list(product="other"), refuses("list-product"))
    late = {"now": ISSUED + MAX_AGE}
    yield Vector("old-enough-to-pass", "5.4", RAW, ONE, late)
    yield Vector("too-old", "5.4", RAW, refuses("list-too-old"), {"now": ISSUED + MAX_AGE + 1})
    early = signed(statement(not_before=Milliseconds(ISSUED - DAY))).encode()
    yield Vector("ahead-within-leeway", "5.4", early, ONE, {"now": ISSUED - LEEWAY})
    yield Vector("from-the-future", "5.4", early, refuses("list-in-future"), {"now": ISSUED - LEEWAY - 1})
    second = fresh_list(version=2)
    yield Vector("at-the-floor", "5.5", second, ONE, {"version_floor": 2})
    yield Vector("rolled-back", "5.5", second, refuses("list-rolled-back"), {"version_floor": 3})
    two = signed(FIRST, statement("2.0", "b"))
    # In the order of the clauses: what is too old is said to be, whatever else is wrong with it.
    both = {"version_floor": 3, "now": ISSUED + MAX_AGE + 1}
    yield Vector("too-old-and-rolled-back", "5.4", second, refuses("list-too-old"), both)
    yield Vector("stripped", "5.6", replace(two, statements=two.statements[:1]).encode(), refuses("list-incomplete"))
    exchanged = signed(statement(fill="e")).statements[0].signed
    yield Vector("exchanged", "5.6", with_inner(exchanged), refuses("list-incomplete"))
    yield Vector("no-release", "5.9", with_list(replace(LISTED, statements=()), replace(BASE, statements=())).encode(),
                 refuses("no-accepted-release"))  # fmt: skip


def _statement_rules() -> Iterator[Vector]:
    entry = Revocation(PRODUCT, FIRST.digest, NOW, Reason.DEFECT)
    yield Vector("revoked-in-the-list", "5.7", fresh_list(revoked=(entry,)), none("release-revoked"))
    yield Vector("revoked-beside-it", "5.7", revoked_by(AUDITOR), none("release-revoked"))
    yield Vector("revoked-from-the-future", "5.7", revoked_by(AUDITOR, at=NOW + 900 * DAY), none("release-revoked"))
    yield Vector("revoked-by-nobody", "5.7", revoked_by(), ONE)
    yield Vector("revoked-by-a-stranger", "5.7", revoked_by(STRANGER), ONE)
    yield Vector("revoked-by-one-of-two", "5.7", revoked_by(AUDITOR), ONE, {"revocation_threshold": 2})
    both = revoked_by(AUDITOR, OWNER)
    yield Vector("revoked-by-two", "5.7", both, none("release-revoked"), {"revocation_threshold": 2})
    yield Vector("revoked-other-product", "5.7", revoked_by(AUDITOR, product="other"), ONE)
    yield Vector("revoked-other-statement", "5.7", revoked_by(AUDITOR, of=statement("2.0", "b")), ONE)
    half = revocation(AUDITOR)
    pair = replace(half, signatures=(replace(half.signatures[0], ml_dsa_65=b""),))
    yield Vector("revoked-without-pq", "5.7", replace(BASE, revocations=(pair,)).encode(), ONE)
    two = signed(FIRST, statement("2.0", "b"))
    ended = replace(two, revocations=(revocation(AUDITOR),)).encode()
    yield Vector("one-revoked-one-not", "5.8.1", ended, accepts("2.0", **{"1_0": "release-revoked"}))
    short = with_list(replace(two.unverified_list, statements=(FIRST.digest,)), two).encode()
    yield Vector("not-listed", "5.8.2", short, accepts("1.0", **{"2_0": "release-not-listed"}))
    lone = replace(INNER.signed, signatures=(signature_of(INNER.signed, OWNER),))
    yield Vector("statement-one-of-two", "5.8.3", with_inner(lone), none("release-threshold"))
    bare = replace(INNER.signed, signatures=())
    yield Vector("statement-of-nobody", "5.8.3", with_inner(bare), none("release-threshold"))
    crossed = changed(INNER.signed, OWNER, ed25519=signature_of(BASE.list, OWNER).ed25519)
    yield Vector("statement-signed-as-list", "5.8.3", with_inner(crossed), none("release-threshold"))
    foreign = signed(statement(product="other"))
    taken = with_list(replace(foreign.unverified_list, product=PRODUCT), foreign).encode()
    yield Vector("statement-other-product", "5.8.4", taken, none("release-product"))
    brief = signed(statement(not_before=NOW, not_after=Milliseconds(NOW + DAY))).encode()
    yield Vector("begins-now", "5.8.5", brief, ONE)
    yield Vector("not-yet", "5.8.5", brief, none("release-not-yet"), {"now": NOW - 1})
    yield Vector("last-moment", "5.8.6", brief, ONE, {"now": NOW + DAY - 1})
    yield Vector("expired", "5.8.6", brief, none("release-expired"), {"now": NOW + DAY})
    simulated = signed(statement(platform=Platform.SIMULATED)).encode()
    yield Vector("simulated", "5.9", simulated, ONE)


def _log_rules() -> Iterator[Vector]:
    given = {"log": str(VKEY)}
    unlogged = none("release-not-logged")
    yield Vector("logged", "5.8.7", logged(), ONE, given)
    yield Vector("not-logged", "5.8.7", RAW, unlogged, given)
    yield Vector("log-not-asked", "5.8.7", logged(key=OTHER_LOG_KEY), ONE)
    yield Vector("log-other-key", "5.8.7", logged(key=OTHER_LOG_KEY), unlogged, given)
    yield Vector("log-other-index", "5.8.7", logged(index=2), unlogged, given)
    yield Vector("log-no-path", "5.8.7", logged(proof=()), unlogged, given)
    yield Vector("log-no-note", "5.8.7", logged(checkpoint=b""), unlogged, given)
    yield Vector("log-other-leaf", "5.8.7", logged(leaf=b"another leaf"), unlogged, given)
    payload = INNER.signed.payload
    yield Vector("log-leaf-without-signatures", "5.8.7", logged(leaf=payload), unlogged, given)
