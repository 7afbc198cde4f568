"""Request bodies, read strictly: the fields of one operation, each with its type and the KMS model's limits."""

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast

from anchorhold.authority.kms.faults import KmsFault, unsupported, validation
from anchorhold.authority.kms.strict_json import loads

MAX_BODY = 524_288  # bytes; a document of 262,144 in base64 and everything else
MAX_KEY_ID = 2_048
MAX_PLAINTEXT = 4_096
MAX_CIPHERTEXT = 6_144
MAX_DOCUMENT = 262_144
MAX_CONTEXT = 8_192  # bytes over all names and values, AWS's limit
OAEP = "RSAES_OAEP_SHA_256"


@dataclass(frozen=True, slots=True)
class RecipientInfo:
    """An attestation document as it came: unverified."""

    unverified_document: bytes


@dataclass(frozen=True, slots=True)
class Fields:
    """The members of one request body."""

    members: Mapping[str, object]

    def allow(self, *names: str) -> None:
        """Raises UnsupportedOperationException for a parameter this KMS does not implement."""
        if unknown := sorted(self.members.keys() - set(names)):
            raise unsupported(f"parameters not supported here: {unknown}")

    def text(self, name: str, *, least: int = 0, most: int, form: str | None = None) -> str | None:
        value = self.members.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise _serialization(name)
        if not least <= len(value) <= most:
            raise _constraint(name, f"Member must have length between {least} and {most}")
        if form is not None and not re.fullmatch(form, value, re.ASCII):
            raise _constraint(name, f"Member must satisfy regular expression pattern: {form}")
        return value

    def needed_text(self, name: str, *, least: int = 0, most: int, form: str | None = None) -> str:
        value = self.text(name, least=least, most=most, form=form)
        if value is None:
            raise _constraint(name, "Member must not be null")
        return value

    def texts(self, name: str, *, items: int, most: int) -> tuple[str, ...] | None:
        """A list of at most `items` texts of 1 to `most` characters."""
        value = self.members.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise _serialization(name)
        if len(value) > items or not all(1 <= len(text) <= most for text in value):
            raise _constraint(name, f"Member must have at most {items} items of length between 1 and {most}")
        return tuple(value)

    def structures(self, name: str, *, items: int) -> "tuple[Fields, ...] | None":
        """A list of at most `items` structures."""
        value = self.members.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(member, dict) for member in value):
            raise _serialization(name)
        if len(value) > items:
            raise _constraint(name, f"Member must have at most {items} items")
        return tuple(Fields(member) for member in value)

    def structure(self, name: str) -> "Fields | None":
        value = self.members.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _serialization(name)
        return Fields(value)

    def flag(self, name: str) -> bool:
        value = self.members.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise _serialization(name)
        return value

    def number(self, name: str, *, least: int, most: int) -> int | None:
        value = self.members.get(name)
        if value is None:
            return None
        if type(value) is not int:
            raise _serialization(name)
        if not least <= value <= most:
            raise _constraint(name, f"Member must have value between {least} and {most}")
        return value

    def choice(self, name: str, *choices: str, also: Collection[str] = ()) -> str | None:
        """One of `choices`. `also` are values of AWS's that this KMS does not do: UnsupportedOperationException."""
        value = self.text(name, most=64)
        if value in also:
            raise unsupported(f"{name}: only {', '.join(choices)} is supported here")
        if value is not None and value not in choices:
            raise _constraint(name, f"Member must satisfy enum value set: [{', '.join(choices)}]")
        return value

    def blob(self, name: str, *, most: int) -> bytes:
        return _blob(self.needed_text(name, least=1, most=2 * most), name, most)

    def context(self, name: str = "EncryptionContext") -> dict[str, str] | None:
        value = self.members.get(name)
        if value is None:
            return None
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise _serialization(name)
        context = cast("dict[str, str]", value)
        if sum(len(pair.encode()) + len(text.encode()) for pair, text in context.items()) > MAX_CONTEXT:
            raise _constraint(name, f"Member must have at most {MAX_CONTEXT} bytes")
        return context

    def recipient(self) -> RecipientInfo | None:
        value = self.members.get("Recipient")
        if value is None:
            return None
        if not isinstance(value, dict) or not value.keys() <= {"KeyEncryptionAlgorithm", "AttestationDocument"}:
            raise _serialization("Recipient")
        inner = Fields(value)
        if inner.text("KeyEncryptionAlgorithm", most=64) != OAEP:
            raise _constraint("recipient.keyEncryptionAlgorithm", f"Member must satisfy enum value set: [{OAEP}]")
        return RecipientInfo(inner.blob("AttestationDocument", most=MAX_DOCUMENT))


def parse_body(raw: bytes) -> Fields:
    """Raises SerializationException for anything but one JSON object without duplicate names."""
    try:
        value = loads(raw or b"{}")
    except ValueError as error:
        raise KmsFault("SerializationException", "expected one JSON object") from error
    if not isinstance(value, dict):
        raise KmsFault("SerializationException", "expected one JSON object")
    return Fields(value)


def stored(text: str, name: str) -> str:
    """A text that goes into the database. Raises ValidationException: PostgreSQL has no text with NUL in it."""
    if "\0" in text:
        raise _constraint(name, "Member must not have the character U+0000")
    return text


def _blob(text: str, name: str, most: int) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _serialization(name) from error
    if not 1 <= len(raw) <= most:
        raise _constraint(name, f"Member must have length between 1 and {most}")
    return raw


def _serialization(name: str) -> KmsFault:
    return KmsFault("SerializationException", f"{name}: not of the type this operation takes")


def _constraint(name: str, rule: str) -> KmsFault:
    member = name[:1].lower() + name[1:]
    return validation(f"1 validation error detected: Value at '{member}' failed to satisfy constraint: {rule}")
