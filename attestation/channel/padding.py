"""Padding profiles: what a record's length says to somebody who counts bytes (DESIGN 3.5).

Inside every record: kind (1 byte), content length (4 bytes, big-endian), content, zeros. `off` adds no zeros, `basic`
fills to a multiple of 256 bytes. The reader accepts exactly the length the profile gives, and only zeros: there is
one encoding.
"""

from enum import Enum

from anchorhold.attestation.channel.errors import NotYet
from anchorhold.attestation.errors import Malformed, TooLarge

HEAD = 5  # kind and content length
BASIC_MULTIPLE = 256
MAX_CONTENT = 65_536  # bytes of one record; a request uses as many records as it needs


class Padding(Enum):
    OFF = "off"
    BASIC = "basic"
    STRICT = "strict"


def require_built(profile: Padding) -> None:
    """Raises NotYet for `strict`, which the format names and this release does not do."""
    if profile is Padding.STRICT:
        raise NotYet("padding profile 'strict' is not built yet: use 'basic' or 'off'")


def padded_length(length: int, profile: Padding) -> int:
    """The length of a record's plaintext with `length` bytes of content."""
    require_built(profile)
    whole = HEAD + length
    return whole if profile is Padding.OFF else -(-whole // BASIC_MULTIPLE) * BASIC_MULTIPLE


def pad(kind: int, content: bytes, profile: Padding) -> bytes:
    """The plaintext of one record. Raises ValueError over the limit: our own mistake."""
    if len(content) > MAX_CONTENT:
        raise ValueError(f"record content: expected at most {MAX_CONTENT} bytes, got {len(content)}")
    plain = bytes([kind]) + len(content).to_bytes(4, "big") + content
    return plain.ljust(padded_length(len(content), profile), b"\x00")


def unpad(plain: bytes, profile: Padding) -> tuple[int, bytes]:
    """Kind and content. Raises Malformed or TooLarge."""
    if len(plain) < HEAD:
        raise Malformed(f"record: expected at least {HEAD} bytes, got {len(plain)}")
    length = int.from_bytes(plain[1:HEAD], "big")
    if length > MAX_CONTENT:
        raise TooLarge("record content", limit=MAX_CONTENT, actual=length)
    expected = padded_length(length, profile)
    if len(plain) != expected:
        raise Malformed(f"record: expected {expected} bytes under profile {profile.value!r}, got {len(plain)}")
    if any(plain[HEAD + length :]):
        raise Malformed("record: expected zeros as padding")
    return plain[0], plain[HEAD : HEAD + length]
