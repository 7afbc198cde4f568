"""The CMS envelope: AWS's real samples read, and anything out of the profile is the one same refusal."""

import hashlib
import json
import secrets
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorhold.authority.kms.cms import seal_for_recipient
from anchorhold.enclave.keys.envelope import MAX_ENVELOPE, EnvelopeInvalid, open_envelope, parse_envelope

VECTORS = Path(__file__).parents[2] / "vectors" / "cms"  # index.json names their source
KEY = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
SECRET = bytes(range(32))
CONTENT_KEY, IV = b"k" * 32, b"i" * 16
OAEP = bytes.fromhex(
    "303c06092a864886f70d010107302fa00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500"
)
SEALED = seal_for_recipient(SECRET, KEY.public_key(), content_key=CONTENT_KEY, iv=IV)


@pytest.mark.parametrize("name", ["kms-cms-constructed.ber", "kms-cms-primitive-ctx.ber"])
def test_real_samples_of_aws_parse_to_their_known_parts(name: str) -> None:
    raw = (VECTORS / name).read_bytes()
    entry = next(one for one in json.loads((VECTORS / "index.json").read_text()) if one["file"] == name)
    assert hashlib.sha256(raw).hexdigest() == entry["sha256"]
    identifier, encrypted_key, iv, ciphertext = parse_envelope(raw)
    assert len(identifier) == 32
    assert encrypted_key.hex() == entry["encrypted_key_hex"]
    assert iv.hex() == entry["iv_hex"]
    assert ciphertext.hex() == entry["ciphertext_hex"]


def test_ours_differs_from_a_real_sample_in_random_parts_only() -> None:
    real = (VECTORS / "kms-cms-constructed.ber").read_bytes()
    parts = parse_envelope(real)
    ours = seal_for_recipient(SECRET, KEY.public_key(), content_key=CONTENT_KEY, iv=IV)
    for mine, theirs in zip(parse_envelope(ours), parts, strict=True):
        assert len(mine) == len(theirs)
        ours = ours.replace(mine, theirs)
    assert ours == real


def test_the_recipient_opens_it() -> None:
    assert open_envelope(SEALED, KEY) == SECRET
    for size in (0, 1, 15, 16, 4096):
        content = secrets.token_bytes(size)
        sealed = seal_for_recipient(content, KEY.public_key(), content_key=CONTENT_KEY, iv=IV)
        assert open_envelope(sealed, KEY) == content


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(EnvelopeInvalid):
        open_envelope(SEALED, OTHER)


def _variants() -> dict[str, bytes]:
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    identifier = hashlib.sha256(spki).digest()
    sha1 = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)
    encrypted = parse_envelope(SEALED)[1]
    oaep_mark = bytes.fromhex("0609608648016503040201")
    return {
        "empty": b"",
        "truncated": SEALED[:-1],
        "trailing": SEALED + b"\0",
        "too large": SEALED + bytes(MAX_ENVELOPE),
        "for another identifier": SEALED.replace(identifier, bytes(32)),
        "under SHA-1": SEALED.replace(encrypted, KEY.public_key().encrypt(CONTENT_KEY, sha1)),
        "SHA-384 named": SEALED.replace(oaep_mark, oaep_mark[:-1] + b"\2"),
        "SHA-1 by default": _under(bytes.fromhex("300d06092a864886f70d0101073000")),
        "a label": _under(OAEP[:1] + bytes([OAEP[1] + 2]) + OAEP[2:14] + bytes([OAEP[14] + 2]) + OAEP[15:] + b"\xa2\0"),
        "short content key": SEALED.replace(encrypted, _wrap(b"k" * 16)),
        "another content key": SEALED.replace(encrypted, _wrap(b"x" * 32)),
        "version 0": SEALED.replace(bytes.fromhex("3080020102"), bytes.fromhex("3080020100")),
        "AES-128": SEALED.replace(bytes.fromhex("60864801650304012a"), bytes.fromhex("608648016503040102")),
        "signed data": SEALED.replace(bytes.fromhex("2a864886f70d010703"), bytes.fromhex("2a864886f70d010702")),
        "two recipients": _two_recipients(),
    }


def _under(algorithm: bytes) -> bytes:
    """The same envelope with another AlgorithmIdentifier for the content key."""
    assert SEALED.count(OAEP) == 1
    raw, less = SEALED.replace(OAEP, algorithm), len(OAEP) - len(algorithm)
    for head in (b"\x31\x82", b"\x30\x82"):
        at = raw.index(head) + len(head)
        raw = raw[:at] + (int.from_bytes(raw[at : at + 2], "big") - less).to_bytes(2, "big") + raw[at + 2 :]
    return raw


def _wrap(content_key: bytes) -> bytes:
    oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    return KEY.public_key().encrypt(content_key, oaep)


def _two_recipients() -> bytes:
    at = SEALED.index(b"\x31\x82")
    size = int.from_bytes(SEALED[at + 2 : at + 4], "big")
    one = SEALED[at + 4 : at + 4 + size]
    return SEALED[:at] + b"\x31\x82" + (2 * size).to_bytes(2, "big") + one + one + SEALED[at + 4 + size :]


@pytest.mark.parametrize("fault", _variants())
def test_every_fault_is_the_same_refusal(fault: str) -> None:
    raw = _variants()[fault]
    assert raw != SEALED
    with pytest.raises(EnvelopeInvalid) as caught:
        open_envelope(raw, KEY)
    assert str(caught.value) == "the KMS envelope does not open"
    assert caught.value.__cause__ is None


def test_a_hash_without_null_parameters_reads_the_same() -> None:
    algorithm = "303806092a864886f70d010107302ba00d300b0609608648016503040201"  # RFC 4055 2.1
    algorithm += "a11a301806092a864886f70d010108300b0609608648016503040201"
    assert open_envelope(_under(bytes.fromhex(algorithm)), KEY) == SECRET


def test_content_in_segments_and_in_one_piece_reads_the_same() -> None:
    ciphertext = parse_envelope(SEALED)[3]
    constructed = b"\xa0\x80\x04" + bytes([len(ciphertext)]) + ciphertext + b"\0\0"
    halves = b"".join(b"\x04\x18" + ciphertext[at : at + 24] for at in (0, 24))
    for form in (b"\x80" + bytes([len(ciphertext)]) + ciphertext, b"\xa0\x80" + halves + b"\0\0"):
        assert SEALED.count(constructed) == 1
        assert open_envelope(SEALED.replace(constructed, form), KEY) == SECRET


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(SEALED) - 1), bit=st.integers(0, 7), cut=st.integers(0, len(SEALED)))
def test_any_bytes_give_content_or_the_one_refusal(at: int, bit: int, cut: int) -> None:
    raw = bytearray(SEALED)
    raw[at] ^= 1 << bit
    for candidate in (bytes(raw), bytes(raw[:cut]), SEALED[cut:]):
        try:
            open_envelope(candidate, KEY)
        except EnvelopeInvalid as error:
            assert error.__cause__ is None  # noqa: PT017 - either outcome is fine; this is about the second
