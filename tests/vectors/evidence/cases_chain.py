"""The certificates: each rule of the path broken alone, under the trusted root and a good signature."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.vectors.evidence import der
from tests.vectors.evidence.build import document
from tests.vectors.evidence.case import ACCEPTED, Case
from tests.vectors.evidence.certificates import (
    CERTIFIES,
    LEVELS,
    LINKS,
    REPUDIATES_NOT,
    SIGNS,
    START,
    Chain,
    certificate,
    chain,
    good_chain,
    shorter,
)

_PAST = START - timedelta(seconds=1)
_SLOW = timedelta(seconds=4)  # within the leeway
_FUTURE = {"begins": START + timedelta(seconds=6)}
# An extension that nobody knows, of a size that makes the leaf 1024 bytes long (a signature has 101 to 104).
_FILLER = ("1.3.6.1.4.1.55555.1", False, der.tlv(0x04, bytes([2]) * 502))
_ISSUERS = LEVELS[:-1]


def _case(name: str, expect: str, fault: str, made: Chain, time: datetime = START) -> Case:
    return Case(name, fault, document(made=made), expect, time=time)


def accepted() -> Iterator[Case]:
    """Other shapes than AWS's that the rules allow."""
    ski = (der.SUBJECT_KEY_ID, False, der.tlv(0x04, b"k" * 20))
    aki = (der.AUTHORITY_KEY_ID, False, der.sequence(der.tlv(0x80, b"k" * 20)))
    named = chain(instance={"extras": (ski,)}, leaf={"extras": (aki,)})
    lengths = {"regional": {"path_length": 3}, "zonal": {"path_length": 2}}
    longest = shorter(("root", "regional", "zonal", "cell", "instance", "leaf"), lengths)
    rows: tuple[tuple[str, str, Chain], ...] = (
        ("accept-longest-path", "five certificates in the bundle", longest),
        ("accept-largest-certificate", "a leaf of 1024 bytes", chain(leaf={"extras": (_FILLER,)})),
        ("accept-key-ids", "key identifiers that agree, as newer ones have", named),
        ("accept-critical-usage", "a leaf whose keyUsage is critical", chain(leaf={"usage_critical": True})),
        (
            "accept-non-repudiation",
            "a leaf that also has nonRepudiation",
            chain(leaf={"usage": (SIGNS, REPUDIATES_NOT)}),
        ),
        ("accept-short-path", "a leaf straight under the root", shorter(("root", "leaf"), {})),
        ("accept-slow-clock", "a leaf that begins four seconds from now", chain(leaf={"begins": START + _SLOW})),
        ("accept-last-second", "a leaf that ends this second", chain(leaf={"ends": START})),
    )
    for name, fault, made in rows:
        yield _case(name, ACCEPTED, fault, made)


def roots() -> Iterator[Case]:
    """The bundle begins with exactly the pinned root."""
    good, stranger = good_chain(), chain(root={"seed": "stranger"})
    bundle = good.cabundle
    self_signed = shorter(("leaf",), {"leaf": {"issuer": LINKS["leaf"].subject}})
    alone = replace(self_signed, cabundle=(self_signed.certificate,))
    yield _case("root-stranger", "wrong-root", "a root of the same name with another key", stranger)
    yield _case("root-last", "wrong-root", "the bundle leaf first", replace(good, cabundle=bundle[::-1]))
    yield _case("root-missing", "wrong-root", "the bundle without its root", replace(good, cabundle=bundle[1:]))
    yield _case(
        "root-longer",
        "wrong-root",
        "the root with a byte behind it",
        replace(good, cabundle=(bundle[0] + b"\0", *bundle[1:])),
    )
    yield _case("root-self-signed-leaf", "wrong-root", "a leaf that signed itself, alone", alone)
    pasted = replace(stranger, cabundle=(bundle[0], *stranger.cabundle[1:]))
    yield _case("root-pasted", "chain", "the pinned root pasted over a stranger's chain", pasted)


def forms() -> Iterator[Case]:
    """Version 3, P-384, ecdsa-with-SHA384: each certificate."""
    ed25519 = Ed25519PrivateKey.from_private_bytes(b"k" * 32).public_key()
    other_key = ed25519.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    no_point = der.spki(der.key("leaf"))[:-1] + b"\x00"
    v1: Mapping[str, Any] = {"version": None, "ca": None, "usage": None}
    rows: tuple[tuple[str, str, str, str, Mapping[str, Any]], ...] = (
        ("version-1-leaf", "chain", "version 1", "leaf", v1),
        ("version-1-zonal", "chain", "version 1", "zonal", v1),
        ("version-9", "malformed", "version 10", "leaf", {"version": 9}),
        ("p256-leaf", "algorithm", "a P-256 key", "leaf", {"curve": ec.SECP256R1()}),
        ("p521-zonal", "algorithm", "a P-521 key", "zonal", {"curve": ec.SECP521R1()}),
        ("ed25519-leaf", "algorithm", "an Ed25519 key", "leaf", {"public_key": other_key}),
        ("no-point-leaf", "malformed", "a key that is no point of the curve", "leaf", {"public_key": no_point}),
        ("sha256-leaf", "algorithm", "ecdsa-with-SHA256", "leaf", {"algorithm": der.ECDSA_WITH_SHA256}),
        ("sha256-regional", "algorithm", "ecdsa-with-SHA256", "regional", {"algorithm": der.ECDSA_WITH_SHA256}),
        (
            "algorithms-differ",
            "chain",
            "two names of the algorithm that differ",
            "leaf",
            {"algorithm": der.ECDSA_WITH_SHA256, "outer_algorithm": der.ECDSA_WITH_SHA384},
        ),
    )
    for name, expect, fault, level, change in rows:
        yield _case(f"chain-{name}", expect, f"{level}: {fault}", chain(**{level: change}))


def contents() -> Iterator[Case]:
    """Readable to the last byte, within RFC 5280's bounds, no unknown critical extension: each certificate."""
    unknown = (der.INHIBIT_ANY_POLICY, True, der.integer(0))
    twice = (der.BASIC_CONSTRAINTS, True, der.sequence())
    rows: tuple[tuple[str, str, str, str, Mapping[str, Any]], ...] = (
        ("critical-leaf", "chain", "an unknown critical extension", "leaf", {"extras": (unknown,)}),
        ("critical-regional", "chain", "an unknown critical extension", "regional", {"extras": (unknown,)}),
        ("extension-twice", "malformed", "basicConstraints twice", "leaf", {"extras": (twice,)}),
        ("serial-zero", "malformed", "serial number 0", "leaf", {"serial": 0}),
        ("serial-negative", "malformed", "a negative serial number", "zonal", {"serial": -1}),
        ("name-long", "malformed", "a common name of 65 characters", "leaf", {"subject": "n" * 65}),
        ("name-empty", "malformed", "an empty common name", "leaf", {"subject": ""}),
        ("name-long-issuer", "malformed", "an issuer's name of 65 characters", "leaf", {"issuer": "n" * 65}),
        (
            "certificate-trailing",
            "malformed",
            "a byte behind the certificate",
            "leaf",
            {"spoil": lambda raw: raw + b"\x00"},
        ),
        ("certificate-cut", "malformed", "cut short", "zonal", {"spoil": lambda raw: raw[:-1]}),
        ("certificate-zeros", "malformed", "zeros, as an emulator writes", "leaf", {"spoil": lambda raw: bytes(64)}),
    )
    for name, expect, fault, level, change in rows:
        yield _case(f"chain-{name}", expect, f"{level}: {fault}", chain(**{level: change}))


def times() -> Iterator[Case]:
    """Each is valid at the time of judgement, the root too."""
    for level in LEVELS:
        past = {"ends": _PAST, "begins": min(LINKS[level].begins, _PAST - timedelta(minutes=1))}
        # The root is pinned: its own times are shown at other times of judgement, below.
        if level != "root":
            yield _case(f"chain-expired-{level}", "expired", f"{level}: ended a second ago", chain(**{level: past}))
            ahead = chain(**{level: _FUTURE})
            yield _case(f"chain-not-yet-{level}", "not-yet-valid", f"{level}: begins in six seconds", ahead)
    after = START + timedelta(days=29 * 365, seconds=1)
    ages = {level: {"ends": after + timedelta(days=1)} for level in LEVELS[1:]}
    made = chain(**ages)
    yield _case("chain-expired-root", "expired", "root: ended a second ago", made, time=after)
    before = LINKS["root"].begins - timedelta(seconds=6)
    early = chain(**{level: {"begins": before} for level in LEVELS[1:]})
    yield _case("chain-not-yet-root", "not-yet-valid", "root: begins in six seconds", early, time=before)


def issuers() -> Iterator[Case]:
    """Each issuer is a CA that may sign so deep, and did."""
    for level in _ISSUERS[1:]:
        no_ca = {"ca": False, "path_length": None}
        yield _case(f"chain-no-ca-{level}", "chain", f"{level}: no CA", chain(**{level: no_ca}))
        yield _case(
            f"chain-no-constraints-{level}", "chain", f"{level}: no basicConstraints", chain(**{level: {"ca": None}})
        )
        no_sign = chain(**{level: {"usage": (SIGNS,)}})
        yield _case(f"chain-no-cert-sign-{level}", "chain", f"{level}: no keyCertSign", no_sign)
        no_usage = chain(**{level: {"usage": None}})
        yield _case(f"chain-no-usage-{level}", "chain", f"{level}: no keyUsage", no_usage)
    yield _case(
        "chain-path-length-regional", "chain", "regional: pathLen 1 above two CAs", chain(regional={"path_length": 1})
    )
    yield _case("chain-path-length-zonal", "chain", "zonal: pathLen 0 above a CA", chain(zonal={"path_length": 0}))
    for level in LEVELS[1:]:
        forged = chain(**{level: {"signer": "stranger"}})
        yield _case(f"chain-forged-{level}", "chain", f"{level}: signed by a stranger", forged)
        renamed = chain(**{level: {"issuer": "somebody else"}})
        yield _case(f"chain-issuer-name-{level}", "chain", f"{level}: names another issuer", renamed)


def orders() -> Iterator[Case]:
    """Certificates left out, moved, doubled; a leaf that issues a leaf."""
    good = good_chain()
    root, regional, zonal, instance = good.cabundle

    def bundle(*made: bytes) -> Chain:
        return replace(good, cabundle=made)

    yield _case("chain-one-missing", "chain", "the zonal certificate left out", bundle(root, regional, instance))
    yield _case("chain-swapped", "chain", "two certificates swapped", bundle(root, zonal, regional, instance))
    yield _case(
        "chain-doubled", "chain", "the regional certificate twice", bundle(root, regional, regional, zonal, instance)
    )
    shadow = certificate(replace(LINKS["root"], seed="stranger"), replace(LINKS["root"], seed="stranger"))
    beside = bundle(root, shadow, regional, zonal, instance)
    yield _case("chain-forged-beside", "chain", "a forged twin of the root beside a true path", beside)
    capitals = chain(leaf={"issuer": LINKS["instance"].subject.upper()})
    yield _case("chain-issuer-capitals", "chain", "the issuer's name in capitals", capitals)
    yield _case("chain-root-alone", "chain", "the root alone", bundle(root))
    leaf = certificate(replace(LINKS["leaf"], seed="second leaf"), LINKS["leaf"])
    second = Chain((root, regional, zonal, good.certificate), leaf, der.key("second leaf"))
    yield _case("chain-leaf-signs-leaf", "chain", "a leaf issued by a leaf", second)
    as_leaf = Chain((root, regional, zonal), instance, der.key("instance"))
    yield _case("chain-ca-as-leaf", "chain", "the instance's CA certificate as leaf", as_leaf)


def leaves() -> Iterator[Case]:
    """The leaf is no CA and may sign."""
    rows: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
        ("ca", "a CA", {"ca": True}),
        ("path-length", "a pathLen without being a CA", {"path_length": 0}),
        ("no-constraints", "no basicConstraints", {"ca": None}),
        ("no-usage", "no keyUsage", {"usage": None}),
        ("no-sign", "no digitalSignature", {"usage": (REPUDIATES_NOT,)}),
        ("cert-sign", "keyCertSign", {"usage": (SIGNS, CERTIFIES)}),
    )
    for name, fault, change in rows:
        # DER knows no pathLen without CA: such a certificate is not read at all.
        expect = "malformed" if name == "path-length" else "chain"
        yield _case(f"chain-leaf-{name}", expect, f"leaf: {fault}", chain(leaf=change))


def second_opinions() -> Iterator[Case]:
    """What OpenSSL alone knows."""
    ski = (der.SUBJECT_KEY_ID, False, der.tlv(0x04, b"a" * 20))
    aki = (der.AUTHORITY_KEY_ID, False, der.sequence(der.tlv(0x80, b"b" * 20)))
    other = der.tlv(0xA0, der.sequence(der.tlv(0xA4, der.name("elsewhere"))))
    limited = (der.NAME_CONSTRAINTS, False, der.sequence(other))
    keys = chain(instance={"extras": (ski,)}, leaf={"extras": (aki,)})
    yield _case("chain-key-ids-differ", "chain", "the leaf names another key as its issuer's", keys)
    named = chain(regional={"extras": (limited,)})
    yield _case("chain-name-constraints", "chain", "a name outside its issuer's constraints", named)


def cases() -> Iterator[Case]:
    """All of these."""
    parts: tuple[Callable[[], Iterator[Case]], ...] = (
        accepted,
        roots,
        forms,
        contents,
        times,
        issuers,
        orders,
        leaves,
        second_opinions,
    )
    for part in parts:
        yield from part()
