"""Each rule of the path, broken alone under a trusted root: what a stolen leaf or a careless issuer could try."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from anchorhold.attestation.anchors import AWS_NITRO_G1, Anchor, anchor_from_pem
from anchorhold.attestation.certificates import Certificate, read_certificate
from anchorhold.attestation.chain import ChainInvalid, Expired, WrongRoot, _ask_openssl, verify_chain
from anchorhold.attestation.errors import EvidenceError, Malformed
from anchorhold.sim.stage import START, Stage

Curve = ec.EllipticCurve


@dataclass
class Link:
    """One certificate to make; a test changes one of these."""

    ca: bool
    path_length: int | None
    certify: bool
    sign: bool = True
    life: timedelta = timedelta(hours=3)
    begins: datetime = START - timedelta(minutes=1)
    curve: Curve | None = None
    hasher: type[hashes.SHA256 | hashes.SHA384] = hashes.SHA384
    critical: bool = False
    constraints: bool = True
    issuer_name: str | None = None
    extension: x509.ExtensionType | None = None
    signer: ec.EllipticCurvePrivateKey | None = None


def links() -> list[Link]:
    return [
        Link(True, None, True),
        Link(True, 2, True),
        Link(True, 1, True),
        Link(True, 0, True, sign=False),
        Link(False, None, False),
    ]


def build(chain: list[Link]) -> tuple[list[bytes], list[ec.EllipticCurvePrivateKey]]:
    made: list[bytes] = []
    keys: list[ec.EllipticCurvePrivateKey] = []
    for index, link in enumerate(chain):
        key = ec.generate_private_key(link.curve or ec.SECP384R1())
        issuer = link.issuer_name or f"c{max(index - 1, 0)}"
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"c{index}")]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(link.begins)
            .not_valid_after(max(link.begins, START + link.life))
        )
        if link.constraints:
            builder = builder.add_extension(x509.BasicConstraints(link.ca, link.path_length), critical=True)
        usage = x509.KeyUsage(link.sign, False, False, False, False, link.certify, False, False, False)
        builder = builder.add_extension(usage, critical=True)
        if link.critical:
            builder = builder.add_extension(x509.InhibitAnyPolicy(0), critical=True)
        if link.extension is not None:
            builder = builder.add_extension(link.extension, critical=False)
        signer = link.signer or (keys[-1] if keys else key)
        made.append(builder.sign(signer, link.hasher()).public_bytes(Encoding.DER))
        keys.append(key)
    return made, keys


def read(made: list[bytes]) -> list[Certificate]:
    return [read_certificate(one, str(at)) for at, one in enumerate(made)]


def walk(made: list[bytes], at: timedelta = timedelta(0)) -> None:
    verify_chain(made[-1], tuple(made[:-1]), Anchor("test", made[0]), START + at)


def test_the_shape_that_aws_uses_is_accepted() -> None:
    walk(build(links())[0])


def test_a_certificate_at_the_end_of_time_is_refused_like_any_other() -> None:
    """A kept document is judged at the time it names, so both times are the sender's to choose."""
    chain = links()
    chain[4].begins = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    with pytest.raises(ChainInvalid):
        walk(build(chain)[0], at=chain[4].begins - timedelta(seconds=1) - START)


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (1, {"ca": False, "path_length": None}),
        (3, {"ca": False, "path_length": None}),
        (1, {"path_length": 1}),
        (2, {"path_length": 0}),
        (0, {"path_length": 2}),
        (1, {"certify": False}),
        (3, {"certify": False, "sign": True}),
        (4, {"sign": False}),
        (4, {"certify": True}),
        (4, {"ca": True}),
        (4, {"ca": True, "path_length": 0, "certify": True}),
        (1, {"critical": True}),
        (4, {"critical": True}),
        (4, {"curve": ec.SECP256R1()}),
        (2, {"curve": ec.SECP521R1()}),
        (4, {"hasher": hashes.SHA256}),
        (2, {"hasher": hashes.SHA256}),
        (3, {"constraints": False}),
        (4, {"constraints": False}),
        (4, {"issuer_name": "somebody"}),
        (2, {"life": timedelta(seconds=-1)}),
        (0, {"life": timedelta(seconds=-1)}),
    ],
)
def test_each_rule_broken_alone_is_refused(index: int, change: dict[str, object]) -> None:
    chain = links()
    for name, value in change.items():
        setattr(chain[index], name, value)
    with pytest.raises(ChainInvalid) as caught:
        walk(build(chain)[0])
    assert "OpenSSL" not in str(caught.value), "the hand walk refuses by itself"


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (1, {"ca": False, "path_length": None}),
        (1, {"path_length": 1}),
        (1, {"certify": False}),
        (4, {"issuer_name": "somebody"}),
        (2, {"life": timedelta(seconds=-1)}),
    ],
)
def test_the_second_opinion_refuses_by_itself_too(index: int, change: dict[str, object]) -> None:
    chain = links()
    _ask_openssl(read(build(chain)[0]), START)
    for name, value in change.items():
        setattr(chain[index], name, value)
    with pytest.raises(ChainInvalid, match="OpenSSL"):
        _ask_openssl(read(build(chain)[0]), START)


@pytest.mark.parametrize(
    "extensions",
    [
        {3: x509.SubjectKeyIdentifier(b"a" * 20), 4: x509.AuthorityKeyIdentifier(b"b" * 20, None, None)},
        {
            1: x509.NameConstraints(
                [x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))], None
            )
        },
    ],
    ids=["an issuer of another key", "a name outside its constraints"],
)
def test_a_rule_that_only_openssl_knows_is_enough_to_refuse(extensions: dict[int, x509.ExtensionType]) -> None:
    chain = links()
    for index, extension in extensions.items():
        chain[index].extension = extension
    with pytest.raises(ChainInvalid, match="OpenSSL"):
        walk(build(chain)[0])


@pytest.mark.parametrize("index", [1, 2, 3, 4])
def test_a_signature_by_another_key_is_refused_wherever_it_stands(index: int) -> None:
    chain = links()
    chain[index].signer = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(ChainInvalid, match="signature failure"):
        walk(build(chain)[0])


def test_a_forged_certificate_beside_a_true_path_is_refused() -> None:
    """OpenSSL leaves it out and finds the path true; the path given is not, and nobody has signed that member."""
    made = build(links())[0]
    forged = build([Link(True, None, True)])[0][0]  # the root's name, another key
    with_forged = [made[0], forged, *made[1:]]
    with pytest.raises(ChainInvalid, match="takes another path: expected 6 certificates, got 5"):
        walk(with_forged)


def test_an_issuer_named_in_capitals_is_another_one() -> None:
    """OpenSSL folds case, so this rule is the hand walk's own."""
    chain = links()
    chain[4].issuer_name = "C3"
    made = build(chain)[0]
    _ask_openssl(read(made), START)
    with pytest.raises(ChainInvalid, match="names another issuer"):
        walk(made)


def test_what_only_one_of_the_two_can_read_is_refused() -> None:
    """A name as VisibleString: `cryptography` reads it, OpenSSL does not."""
    made = build(links())[0]
    assert made[4].count(b"\x0c\x02c4") == 1
    made[4] = made[4].replace(b"\x0c\x02c4", b"\x1a\x02c4")
    with pytest.raises(ChainInvalid, match=r"OpenSSL refuses the path.*wrong tag"):
        walk(made)


def test_the_time_of_judgement_may_be_told_in_any_zone() -> None:
    chain = links()
    chain[4].life = timedelta(seconds=1)
    made = build(chain)[0]
    for hours in (-11, 5, 13):
        zone = timezone(timedelta(hours=hours))
        verify_chain(made[-1], tuple(made[:-1]), Anchor("test", made[0]), START.astimezone(zone))


def test_a_leaf_cannot_issue_another_leaf() -> None:
    instance = links()[:2] + links()[4:]
    with pytest.raises(ChainInvalid, match="is no CA"):
        walk(build([*instance, Link(False, None, False)])[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda made: [made[0], *made[2:]],
        lambda made: [made[0], made[2], made[1], *made[3:]],
        lambda made: [*made[:2], made[1], *made[2:]],
        lambda made: [made[0], made[-1]],
    ],
)
def test_certificates_left_out_or_moved_are_refused(change: Callable[[list[bytes]], list[bytes]]) -> None:
    with pytest.raises(ChainInvalid):
        walk(change(build(links())[0]))


def test_a_twin_of_the_root_with_another_key_is_refused() -> None:
    made, twin = build(links())[0], build(links())[0]
    with pytest.raises(WrongRoot):
        verify_chain(twin[-1], tuple(twin[:-1]), Anchor("test", made[0]), START)
    with pytest.raises(ChainInvalid, match="signature failure"):
        verify_chain(twin[-1], (made[0], *twin[1:-1]), Anchor("test", made[0]), START)


def test_the_root_must_come_first_and_be_there() -> None:
    made = build(links())[0]
    for bundle in (tuple(reversed(made[:-1])), tuple(made[1:-1]), ()):
        with pytest.raises(WrongRoot):
            verify_chain(made[-1], bundle, Anchor("test", made[0]), START)


def test_the_end_of_the_shortest_certificate_ends_the_chain(stage: Stage) -> None:
    leaf = stage.leaf
    end = leaf.issued.certificate.not_valid_after_utc
    verify_chain(leaf.issued.der, leaf.cabundle, stage.pki.anchor, end)
    with pytest.raises(Expired):
        verify_chain(leaf.issued.der, leaf.cabundle, stage.pki.anchor, end + timedelta(seconds=1))


@pytest.mark.parametrize("spoiled", [b"", b"0", b"\x30\x82", bytes(500)])
def test_bytes_that_are_no_certificate_are_refused(stage: Stage, spoiled: bytes) -> None:
    leaf = stage.leaf
    with pytest.raises(Malformed):
        verify_chain(spoiled, leaf.cabundle, stage.pki.anchor, START)
    with pytest.raises(Malformed):
        verify_chain(leaf.issued.der, (leaf.cabundle[0], spoiled, *leaf.cabundle[2:]), stage.pki.anchor, START)


def test_no_flipped_bit_of_a_certificate_passes(stage: Stage) -> None:
    leaf = stage.leaf
    for position in range(4):
        chain = [leaf.issued.der, *leaf.cabundle[1:]]
        for at in range(0, len(chain[position]), 41):
            spoiled = bytearray(chain[position])
            spoiled[at] ^= 0x10
            changed = [*chain[:position], bytes(spoiled), *chain[position + 1 :]]
            with pytest.raises(EvidenceError):
                verify_chain(changed[0], (leaf.cabundle[0], *changed[1:]), stage.pki.anchor, START)


def test_only_the_pinned_root_is_not_simulated(stage: Stage) -> None:
    assert not AWS_NITRO_G1.simulated
    assert stage.pki.anchor.simulated
    assert anchor_from_pem("x", stage.pki.root_pem) == Anchor("x", stage.pki.anchor.root_der)
    for pem in (b"", b"nonsense", stage.pki.root_pem * 2):
        with pytest.raises(Malformed):
            anchor_from_pem("x", pem)
