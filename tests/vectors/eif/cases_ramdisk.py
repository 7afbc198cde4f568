"""Section 4 of docs/spec/image.md: one fault of a ramdisk each, written by hand."""

from collections.abc import Iterator

from tests.vectors.eif.case import ACCEPTED, Case

FOLDER, FILE, PROGRAM, LINK, DEVICE, PIPE = 0o040555, 0o100444, 0o100555, 0o120777, 0o020666, 0o010644
_TRAILER = "TRAILER!!!"


def cases() -> Iterator[Case]:
    """Accepted ones first."""
    yield _case("ramdisk-good", "-", "none", _archive(("a", FOLDER), ("a/b", FILE, b"body"), ("c", PROGRAM)), ACCEPTED)
    yield _case("ramdisk-none", "-", "none: no entries", _archive(), ACCEPTED)
    yield from _entries()
    yield from _form()


def _entries() -> Iterator[Case]:
    good = _archive(("a", FILE, b"x"))
    yield _case("ramdisk-empty", "4.1", "no bytes", b"", "malformed", "newc header at offset 0")
    yield _case(
        "ramdisk-magic", "4.1", "newc with checksums", good.replace(b"070701", b"070702", 1), "malformed", "newc"
    )
    yield _case(
        "ramdisk-no-trailer", "4.1", "no trailer", _entry(1, "a", FILE, b"x"), "malformed", "newc header at offset"
    )
    lower = _archive(("a", FILE, b"x" * 10)).replace(b"0000000A", b"0000000a", 1)
    yield _case("ramdisk-lower", "4.2", "a digit in lower case", lower, "malformed", "upper-case")
    signed = _field(good, 5, b"      -1")
    yield _case("ramdisk-minus", "4.2", "a number with a sign", signed, "malformed", "upper-case")
    yield _case("ramdisk-no-name", "4.3", "a name of no bytes", _field(good, 11, b"00000000"), "malformed", "name size")
    yield _case("ramdisk-name-1", "4.3", "a name of the zero alone", _archive(("", FILE)), "malformed", "name size")
    long = _archive(("n" * 1025, FILE))
    yield _case("ramdisk-name-long", "4.3", "a name of 1,025 bytes and its zero", long, "malformed", "name size")
    yield _case("ramdisk-cut", "4.4", "cut in the trailer's name", good[:-8], "malformed", "truncated")
    yield _case("ramdisk-huge", "4.4", "4 GiB declared", _field(good, 6, b"FFFFFFFF"), "malformed", "truncated")
    latin = _archive(("a", FILE)).replace(b"a\0", b"\xff\0", 1)
    yield _case("ramdisk-latin", "4.5", "a name that is not UTF-8", latin, "malformed", "not UTF-8")
    for name, mode in (
        ("link", LINK),
        ("device", DEVICE),
        ("pipe", PIPE),
        ("writable", 0o100644),
        ("setuid", 0o104555),
    ):
        raw = _archive(("a", mode, b"/etc/passwd"))
        yield _case(f"ramdisk-{name}", "4.6", f"mode {mode:o}", raw, "malformed", "not a plain file")
    yield _case(
        "ramdisk-trailing", "4.8", "four zeros behind the trailer", good + bytes(4), "malformed", "expected the end"
    )
    yield _case("ramdisk-twice", "4.8", "an archive behind the archive", good + good, "malformed", "expected the end")


def _form() -> Iterator[Case]:
    odd = {"absolute": "/a", "parent": "../a", "inside": "a/../b", "dot": "./a", "double": "a//b", "slash": "a/"}
    for name, path in odd.items():
        raw = _archive(("a", FOLDER), (path, FILE)) if name == "inside" else _archive((path, FILE))
        yield _case(f"ramdisk-{name}", "4.9", f"the name {path!r}", raw, "malformed", "is not allowed")
    yield _case("ramdisk-zero", "4.9", "a zero in a name", _archive(("a\0b", FILE)), "malformed", "is not allowed")
    backwards = _archive(("b", FILE), ("a", FILE))
    yield _case("ramdisk-order", "4.10", "out of order", backwards, "not-canonical", "out of order")
    again = _archive(("a", FILE, b"1"), ("a", FILE, b"2"))
    yield _case("ramdisk-name-twice", "4.10", "a name twice", again, "not-canonical", "twice")
    yield _case(
        "ramdisk-orphan", "4.11", "no folder above it", _archive(("a/b", FILE)), "malformed", "not in the archive"
    )
    below = _archive(("a", FILE), ("a/b", FILE))
    yield _case("ramdisk-below", "4.11", "a file below a file", below, "malformed", "not in the archive")
    yield _case(
        "ramdisk-full", "4.12", "a folder with contents", _archive(("a", FOLDER, b"x")), "malformed", "has contents"
    )
    good = _archive(("a", FILE, b"x"))
    fields = {"inode": 0, "uid": 2, "gid": 3, "nlink": 4, "mtime": 5, "devmajor": 7, "rdevminor": 10, "check": 12}
    for name, place in fields.items():
        raw = _field(good, place, b"00000007")
        yield _case(f"ramdisk-{name}", "4.13", f"{name} 7", raw, "not-canonical", "not the one encoding")
    padded = good.replace(b"a\0", b"a\0", 1)
    at = padded.index(b"x") + 1
    yield _case(
        "ramdisk-padding", "4.13", "padding of ones", padded[:at] + b"\1" + padded[at + 1 :], "not-canonical", "one"
    )
    unended = good[:111] + b"!" + good[112:]
    yield _case("ramdisk-unended", "4.13", "a name that does not end in zero", unended, "not-canonical", "one encoding")


def _case(name: str, check: str, fault: str, raw: bytes, expect: str, says: str = "") -> Case:
    return Case(name, check, fault, raw, expect, says, reader="ramdisk")


def _archive(*entries: tuple[str, int] | tuple[str, int, bytes]) -> bytes:
    out = b"".join(_entry(inode, *entry) for inode, entry in enumerate(entries, start=1))
    return out + _entry(0, _TRAILER, 0)


def _entry(inode: int, name: str, mode: int, body: bytes = b"") -> bytes:
    raw_name = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 2 if mode == FOLDER else 1, 0, len(body), 0, 0, 0, 0, len(raw_name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw_name
    return head + bytes(-len(head) % 4) + body + bytes(-len(body) % 4)


def _field(raw: bytes, place: int, digits: bytes) -> bytes:
    at = 6 + 8 * place
    return raw[:at] + digits + raw[at + 8 :]
