"""Any bytes give a name or HelloInvalid, never an EvidenceError, nothing else, in bounded time and memory.

The first bytes of whoever stands at the gateway's address, as the client's tunnel reads them: at once or one by one.
"""

from anchorhold.client.tls import CLASSICAL_TLS, GROUPS, HelloInvalid, HelloReader

MAX_LEN = 2_048
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
TOKENS = (b"\x16\x03\x03", b"\x14\x03\x03\x00\x01\x01", b"\x00\x2b\x00\x02\x03\x04", b"\x00\x33", b"\x11\xec", _RETRY)


def _record(content: bytes) -> bytes:
    return b"\x16\x03\x03" + len(content).to_bytes(2, "big") + content


def _hello(share: bytes, random: bytes = bytes(32)) -> bytes:
    extensions = b"\x00\x2b\x00\x02\x03\x04\x00\x33" + len(share).to_bytes(2, "big") + share
    body = (
        b"\x03\x03" + random + b"\x20" + bytes(32) + b"\x13\x01\x00" + len(extensions).to_bytes(2, "big") + extensions
    )
    return b"\x02" + len(body).to_bytes(3, "big") + body


def seeds() -> list[bytes]:
    """A ServerHello, one in two records, one after a retry, and one of TLS 1.2."""
    honest, retry = _hello(b"\x11\xec\x00\x04keys"), _hello(b"\x00\x1d", _RETRY)
    old = b"\x02\x00\x00\x26\x03\x03" + bytes(33) + b"\xc0\x2f\x00"
    return [
        _record(honest),
        _record(honest[:40]) + _record(honest[40:]) + b"\x17\x03\x03\x00\x01x",
        _record(retry) + b"\x14\x03\x03\x00\x01\x01" + _record(honest),
        _record(old),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",
    ]


def one_input(data: bytes) -> None:
    """However the bytes come, the same is read."""
    assert _read(data, len(data) or 1) == _read(data, 1)


def _read(data: bytes, piece: int) -> str | None:
    reader = HelloReader()
    try:
        for at in range(0, len(data), piece):
            found = reader.feed(data[at : at + piece])
            if found is not None:
                assert found in {*GROUPS.values(), CLASSICAL_TLS} or found.startswith("unknown group ")
                return found
    except HelloInvalid:
        return "refused"
    return None
