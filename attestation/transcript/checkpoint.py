"""Signed notes and tree heads: C2SP signed-note, and tlog-checkpoint with no extension lines, Ed25519 (type 0x01).

A checkpoint is trusted only as the result of `Vkey.open_checkpoint`. Lines by unknown keys are carried, never believed:
they are where witness cosignatures will stand.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from anchorhold.attestation import labels
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import Malformed, Mismatch, SignatureInvalid, TooLarge
from anchorhold.attestation.transcript.tree import EMPTY_ROOT, HASH_BYTES, MAX_SIZE
from anchorhold.attestation.types import Sha384

MAX_NOTE = 16_384  # bytes; a checkpoint with 100 witness lines is half of this
MAX_SIGNATURES = 100  # C2SP signed-note suggests 16; witnesses need more
MAX_NAME = 256  # bytes of a key name or an origin
ED25519 = 0x01
_DASH = "\u2014 "  # em dash, space: C2SP signed-note


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head whose signature was checked."""

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """The signed text."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class UnverifiedNote:
    """A parsed signed note; nobody has checked a signature."""

    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]
    """(key name, 4-byte key id, signature)."""


@dataclass(frozen=True, slots=True)
class Vkey:
    """A verifier key: `name+hex(key id)+base64(0x01 || key)`."""

    name: str
    key: bytes

    @classmethod
    def parse(cls, text: str) -> "Vkey":
        """Raises Malformed for another key type, or an id that is not the digest of name and key."""
        name, *rest = text.split("+", 2)
        if len(rest) != 2:
            raise Malformed(f"log key: expected name+id+key, got {text!r}")
        vkey = cls(_key_name(name), b"")
        raw = _base64(rest[1], "log key")
        if len(raw) != 33 or raw[0] != ED25519:
            raise Malformed(
                f"log key: expected type 01 and 32 bytes of Ed25519, got {raw[:1].hex()} and {len(raw) - 1}"
            )
        vkey = cls(name, raw[1:])
        if str(vkey) != text:
            raise Mismatch("log key: text", expected=str(vkey), actual=text)
        return vkey

    @classmethod
    def of(cls, name: str, key: Ed25519PublicKey) -> "Vkey":
        """The verifier key of a log or witness of ours."""
        return cls(_key_name(name), key.public_bytes_raw())

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || newline || type || key)[:4]."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([ED25519]) + self.key).digest()[:4]

    def __str__(self) -> str:
        encoded = base64.b64encode(bytes([ED25519]) + self.key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def open_note(self, raw: bytes) -> str:
        """The text of a note that this key signed. Raises Malformed or SignatureInvalid."""
        note = parse_note(raw)
        mine = [sig for name, key_id, sig in note.signatures if (name, key_id) == (self.name, self.key_id)]
        if len(mine) != 1:
            raise SignatureInvalid(f"signed note: expected one signature by {self.name!r}, got {len(mine)}")
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(mine[0], note.text.encode())
        except InvalidSignature as error:
            raise SignatureInvalid(f"signed note: the signature by {self.name!r} does not verify") from error
        return note.text

    def open_checkpoint(self, raw: bytes, *, origin: str | None = None) -> Checkpoint:
        """The tree head that this key signed, for `origin` (the key's own name where none is given)."""
        checkpoint = _parse_checkpoint(self.open_note(raw))
        wanted = self.name if origin is None else origin
        if checkpoint.origin != wanted:
            raise Mismatch("checkpoint: origin", expected=wanted, actual=checkpoint.origin)
        return checkpoint


def parse_note(raw: bytes) -> UnverifiedNote:
    """Strictly, per C2SP signed-note. Raises TooLarge or Malformed."""
    if len(raw) > MAX_NOTE:
        raise TooLarge("signed note", limit=MAX_NOTE, actual=len(raw))
    try:
        whole = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"signed note: not UTF-8 at offset {error.start}") from error
    if any(ord(char) < 0x20 and char != "\n" for char in whole):
        raise Malformed("signed note: a control character")
    head, blank, tail = whole.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise Malformed("signed note: expected text, a blank line, signature lines and a final newline")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise TooLarge("signed note: signatures", limit=MAX_SIGNATURES, actual=len(lines))
    return UnverifiedNote(head + "\n", tuple(_signature_line(line) for line in lines))


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> bytes:
    """The signed note over `checkpoint`, under the log's own key, named as its origin."""
    vkey = Vkey.of(checkpoint.origin, key.public_key())
    body = checkpoint.body()
    signature = base64.b64encode(vkey.key_id + key.sign(body.encode())).decode()
    return f"{body}\n{_DASH}{vkey.name} {signature}\n".encode()


def checkpoint_nonce(note: bytes) -> Sha384 | bytes:
    """The caller's nonce of a `genesis` document: the labelled digest of the latest checkpoint, empty if none."""
    return labelled(labels.CHECKPOINT, note) if note else b""


def _parse_checkpoint(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise Malformed(f"checkpoint: expected the three lines origin, size and root, got {len(lines) - 1}")
    origin, size_text, root_text = lines[:3]
    if not origin or len(origin.encode()) > MAX_NAME:
        raise Malformed(f"checkpoint: expected an origin of at most {MAX_NAME} bytes, got {origin!r}")
    # Digits first: int() takes signs, blanks, underscores and other scripts' digits.
    if not (size_text.isascii() and size_text.isdecimal()) or len(size_text) > len(str(MAX_SIZE)):
        raise Malformed(f"checkpoint: expected a decimal size, got {size_text!r}")
    size = int(size_text)
    if str(size) != size_text or size > MAX_SIZE:
        raise Malformed(f"checkpoint: expected a size without leading zeros, got {size_text!r}")
    root = _base64(root_text, "checkpoint: root")
    if len(root) != HASH_BYTES:
        raise Malformed(f"checkpoint: expected a root of {HASH_BYTES} bytes, got {len(root)}")
    if size == 0 and root != EMPTY_ROOT:
        raise Mismatch("checkpoint: root of the empty tree", expected=EMPTY_ROOT, actual=root)
    return Checkpoint(origin, size, root)


def _signature_line(line: str) -> tuple[str, bytes, bytes]:
    if not line.startswith(_DASH):
        raise Malformed(f"signed note: expected a signature line, got {line!r}")
    name, space, encoded = line[len(_DASH) :].partition(" ")
    if not space:
        raise Malformed(f"signed note: expected a name and a signature, got {line!r}")
    raw = _base64(encoded, "signed note: signature")
    if len(raw) < 5:
        raise Malformed(f"signed note: expected a key id and a signature, got {len(raw)} bytes")
    return _key_name(name), raw[:4], raw[4:]


def _key_name(name: str) -> str:
    if not name or len(name.encode()) > MAX_NAME or "+" in name or any(char.isspace() for char in name):
        raise Malformed(f"key name: expected 1 to {MAX_NAME} bytes without spaces and plus signs, got {name!r}")
    return name


def _base64(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"{what}: not base64: {text!r}") from error
    # Strict base64: spare bits and missing padding would give one value two texts.
    if base64.b64encode(raw).decode() != text:
        raise Malformed(f"{what}: not canonical base64: {text!r}")
    return raw
