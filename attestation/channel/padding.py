"""Padding profiles: what a record's length, and the number of records, say to somebody who counts (DESIGN 3.5, 12.21).

Inside every record: kind (1 byte), content length (4 bytes, big-endian), content, zeros. `off` adds no zeros, `basic`
fills to a multiple of 256 bytes, `strict` makes every frame 1,024 bytes and every direction a whole step of frames.
The reader accepts exactly the length the profile gives, and only zeros: there is one encoding. When a frame of a
`strict` answer is sent is the sender's affair (`enclave/serve/shaper.py`); this file knows no clock.
"""

from enum import Enum

from anchorhold.attestation.errors import Malformed, TooLarge

HEAD = 5  # kind and content length
BASIC_MULTIPLE = 256
MAX_CONTENT = 65_536  # bytes of one record; a request uses as many records as it needs
STRICT_FRAME = 1_024  # bytes of every frame with a record in it
FRAME_OVERHEAD = 17  # the frame's kind in clear, and AES-GCM's tag
STRICT_PLAIN = STRICT_FRAME - FRAME_OVERHEAD
STRICT_CONTENT = STRICT_PLAIN - HEAD
TICK_S = 0.05  # one frame of a `strict` answer
# A direction of a `strict` exchange has 1 step of frames, 2, 4, ... and from the longest on whole multiples of it.
# Doubling tells at most a bit for each time an answer doubles; the end of it keeps the wait below about a minute.
REQUEST_STEP, REQUEST_LONGEST = 8, 512  # frames: 8 KB; the largest request needs 272
RESPONSE_STEP, RESPONSE_LONGEST = 20, 1_280  # frames: a second; 64 seconds


class Padding(Enum):
    OFF = "off"
    BASIC = "basic"
    STRICT = "strict"


def capacity(profile: Padding) -> int:
    """The most content that one record has."""
    return STRICT_CONTENT if profile is Padding.STRICT else MAX_CONTENT


def padded_length(length: int, profile: Padding) -> int:
    """The length of a record's plaintext with `length` bytes of content."""
    if profile is Padding.STRICT:
        return STRICT_PLAIN
    whole = HEAD + length
    return whole if profile is Padding.OFF else -(-whole // BASIC_MULTIPLE) * BASIC_MULTIPLE


def request_step(records: int) -> int:
    """How many records a `strict` request has that needs `records` of them."""
    return _step(records, REQUEST_STEP, REQUEST_LONGEST)


def response_step(records: int) -> int:
    """How many records a `strict` answer has that needs `records` of them, the final one included."""
    return _step(records, RESPONSE_STEP, RESPONSE_LONGEST)


def longest_tail_s(profile: Padding) -> float:
    """For how long an answer may go on when all has been said."""
    return RESPONSE_LONGEST * TICK_S if profile is Padding.STRICT else 0.0


def pad(kind: int, content: bytes, profile: Padding) -> bytes:
    """The plaintext of one record. Raises ValueError over the limit: our own mistake."""
    if len(content) > capacity(profile):
        raise ValueError(f"record content: expected at most {capacity(profile)} bytes, got {len(content)}")
    plain = bytes([kind]) + len(content).to_bytes(4, "big") + content
    return plain.ljust(padded_length(len(content), profile), b"\x00")


def unpad(plain: bytes, profile: Padding) -> tuple[int, bytes]:
    """Kind and content. Raises Malformed or TooLarge."""
    if len(plain) < HEAD:
        raise Malformed(f"record: expected at least {HEAD} bytes, got {len(plain)}")
    length = int.from_bytes(plain[1:HEAD], "big")
    if length > capacity(profile):
        raise TooLarge("record content", limit=capacity(profile), actual=length)
    expected = padded_length(length, profile)
    if len(plain) != expected:
        raise Malformed(f"record: expected {expected} bytes under profile {profile.value!r}, got {len(plain)}")
    if any(plain[HEAD + length :]):
        raise Malformed("record: expected zeros as padding")
    return plain[0], plain[HEAD : HEAD + length]


def _step(records: int, first: int, longest: int) -> int:
    step = first
    while step < records and step < longest:
        step *= 2
    return -(-records // step) * step
