"""The one table of ports and message kinds between parent and enclave (DESIGN 12.2), and bodies both sides read.

Who reads what: a body named *opaque* here passes the parent unread.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from anchorhold.wire.frames import FrameError


class Port(IntEnum):
    """vsock ports; in simulation the suffix of a Unix socket's path (`<window>_<port>`)."""

    SERVICE = 5005  # the enclave listens
    HEARTBEAT = 9000  # the parent listens, as for all below; AWS's own port and byte
    BOOT = 9001
    EGRESS = 9002
    BLOBS = 9003
    RECORDS = 9004


class Kind(IntEnum):
    """Message kinds, by port."""

    # SERVICE
    ATTEST = 0x01  # fields nonce, configuration (one byte 0x01, or empty)
    ATTESTED = 0x02  # fields document, statement, owner_lease, kms_lease, configuration; nonce_proof where it is shared
    INFER_FRAME = 0x10  # opaque: a serialized proto `Frame`, either way
    INFER_END = 0x12  # empty: the client is done, or the answer is complete
    HINT = 0x1F  # a code in ASCII; nobody vouches for it
    STATUS = 0x20  # empty
    STATUS_IS = 0x21  # fields phase, streams, tokens (decimal), key_ids (16 bytes each, oldest first)
    SHUTDOWN = 0x24  # empty: write `close`, wipe, exit
    # BOOT
    GET = 0x30  # a name
    GOT = 0x31  # the bytes
    REFUSED = 0x3F  # a code in ASCII; on every parent port
    # EGRESS
    OPEN = 0x40  # a source's name
    OPENED = 0x41  # empty; raw bytes follow in both directions
    # BLOBS
    FETCH = 0x50  # a name
    SIZE = 0x51  # fields size (decimal)
    CHUNK = 0x52  # bytes
    END = 0x53  # empty
    PUT = 0x54  # fields name, size (decimal): a newly sealed file comes, in CHUNKs and an END
    STORING = 0x55  # empty
    STORED = 0x56  # empty: it is on disk under its name
    # RECORDS
    APPEND = 0x60  # opaque
    APPENDED = 0x61  # opaque; for CHECKPOINT the note, empty if there is none
    CHECKPOINT = 0x62  # empty


HEARTBEAT_BYTE: Final = b"\xb7"
PARENT_CID: Final = 3  # as seen from the enclave
MAX_NAME: Final = 160  # bytes of a name in GET, OPEN or FETCH; an adapter's file is named with its digest in hex
MAX_FIELDS: Final = 32


def pack_fields(fields: Mapping[str, bytes]) -> bytes:
    """Named byte strings: 1-byte name length, name, 4-byte big-endian value length, value; names ascending."""
    out = bytearray()
    for name in sorted(fields):
        raw_name, value = name.encode("ascii"), fields[name]
        out += bytes([len(raw_name)]) + raw_name + len(value).to_bytes(4, "big") + value
    return bytes(out)


def unpack_fields(raw: bytes) -> dict[str, bytes]:
    """The inverse of `pack_fields`, strictly. Raises FrameError."""
    fields: dict[str, bytes] = {}
    at, previous = 0, b""
    while at < len(raw):
        name, at = _take(raw, at, 1)
        value, at = _take(raw, at, 4)
        if name <= previous or not name.isascii() or len(fields) == MAX_FIELDS:
            raise FrameError(f"field {name!r}: expected ascending ASCII names, at most {MAX_FIELDS}")
        previous = name
        fields[name.decode("ascii")] = value
    return fields


def require_fields(raw: bytes, *names: str) -> dict[str, bytes]:
    """Exactly these fields. Raises FrameError."""
    fields = unpack_fields(raw)
    if fields.keys() != set(names):
        raise FrameError(f"expected fields {sorted(names)}, got {sorted(fields)}")
    return fields


def _take(raw: bytes, at: int, width: int) -> tuple[bytes, int]:
    start = at + width
    end = start + int.from_bytes(raw[at:start], "big")
    if start > len(raw) or end > len(raw):
        raise FrameError(f"fields truncated at offset {at}")
    return raw[start:end], end
