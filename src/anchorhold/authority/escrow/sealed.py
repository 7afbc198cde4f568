"""A backup: one body, and for each k of the n recipients one wrapped copy of its key (docs/spec/keystores.md 4).

Sets are explicit, not Shamir's: who can open a backup is read off its header. Each member of a set is sent a part of
its own by the hybrid HPKE; the set's key is HKDF over all k parts, each preceded by its length. The whole is signed by
the authority's journal key, so a planted backup is refused before a recipient's key is used on it.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.channel.seal import HybridPrivateKey, check_public, seal
from anchorhold.attestation.cose import parse_sign1, sign1
from anchorhold.attestation.digest import hkdf, labelled, length_prefixed
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import Milliseconds

VERSION = 1
MAX_RECIPIENTS = 16
MAX_SETS = 256  # 5 of 10 are 252; each takes about k times 1.2 kB
MAX_FILE = 16 << 20  # bytes; 256 sets of 5 take 1.5 MB, 16,384 shares 5 MB and as many tenants' keys 6 MB at most
KEY_BYTES = 32
_NONCE = bytes(12)
_HEADER: dict[str, type | tuple[type, ...]] = {
    "v": int,
    "backup": bytes,
    "authority": str,
    "key_id": str,
    "made": int,
    "threshold": int,
    "recipients": list,
}
_FILE: dict[str, type | tuple[type, ...]] = {"header": bytes, "sets": list, "body": bytes}
_SET: dict[str, type | tuple[type, ...]] = {"of": list, "parts": list, "wrapped": bytes}


class BackupRefused(Exception):
    """A backup that cannot be made as asked, or that does not open."""


@dataclass(frozen=True, slots=True)
class Header:
    """What anybody may read of a backup. `recipients` are digests of their public keys."""

    backup: bytes
    authority: str
    key_id: str
    made: Milliseconds
    threshold: int
    recipients: tuple[bytes, ...]


def recipient_id(public: bytes) -> bytes:
    return labelled(labels.RECIPIENT_ID, public)


def seal_backup(header: Header, publics: Sequence[bytes], body: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signed file. Raises BackupRefused."""
    raw = canonical.encode(_header_fields(header))
    content_key = secrets.token_bytes(KEY_BYTES)
    sets: list[canonical.Value] = []
    for members in combinations(range(len(publics)), header.threshold):
        parts = [secrets.token_bytes(KEY_BYTES) for _ in members]
        sealed = [
            seal(part, publics[member], info=_part_info(raw, members, member))
            for part, member in zip(parts, members, strict=True)
        ]
        # Nonce is constant: a set's key is derived from fresh parts and wraps this one key.
        wrapped = AESGCM(_set_key(parts, raw, members)).encrypt(_NONCE, content_key, raw)
        sets.append({"of": list(members), "parts": list(sealed), "wrapped": wrapped})
    # Nonce is constant: the content key is fresh and seals this one body.
    sealed_body = AESGCM(content_key).encrypt(_NONCE, body, raw)
    file = sign1(canonical.encode({"header": raw, "sets": sets, "body": sealed_body}), key, aad=labels.BACKUP)
    if len(file) > MAX_FILE:
        raise BackupRefused(f"backup: expected at most {MAX_FILE} bytes, got {len(file)}")
    return file


def check_recipients(publics: Sequence[bytes], threshold: int) -> None:
    """Raises BackupRefused unless k of these n can be served."""
    if not 1 <= len(publics) <= MAX_RECIPIENTS:
        raise BackupRefused(f"recipients: expected 1 to {MAX_RECIPIENTS}, got {len(publics)}")
    if len(set(publics)) != len(publics):
        raise BackupRefused("recipients: expected different keys")
    if not 1 <= threshold <= len(publics):
        raise BackupRefused(f"threshold: expected 1 to {len(publics)}, got {threshold}")
    if comb(len(publics), threshold) > MAX_SETS:
        sets = comb(len(publics), threshold)
        raise BackupRefused(f"{threshold} of {len(publics)} are {sets} sets: expected at most {MAX_SETS}")
    try:
        for public in publics:
            check_public(public)
    except EvidenceError as error:
        raise BackupRefused(f"recipient: {error}") from error


def read_header(file: bytes, key: Ed25519PublicKey) -> Header:
    """Who may open a backup, once its authority's journal key says so. Raises BackupRefused."""
    return _verified(file, key)[0]


def open_backup(file: bytes, keys: Sequence[HybridPrivateKey], journal_key: Ed25519PublicKey) -> tuple[Header, bytes]:
    """Header and body of a backup. Raises BackupRefused, also for one key fewer than the threshold.

    1. the file is signed by the authority's journal key;
    2. its header is in the form, and as many different recipients as it asks for are here;
    3. the set of exactly these opens: each part under its own key, the content key under all parts;
    4. the body opens under the content key and this header.
    """
    header, raw, fields = _verified(file, journal_key)  # 1, 2
    here = {header.recipients.index(one): key for key in keys if (one := recipient_id(key.public)) in header.recipients}
    if len(here) < header.threshold:
        need = f"expected keys of {header.threshold} of the {len(header.recipients)} recipients"
        raise BackupRefused(f"{need}, got {len(here)}")
    members = tuple(sorted(here))[: header.threshold]
    try:
        found = _set_of(fields, members)
        parts = [
            here[member].open(part, info=_part_info(raw, members, member))
            for member, part in zip(members, cast("list[bytes]", found["parts"]), strict=True)
        ]
        content_key = AESGCM(_set_key(parts, raw, members)).decrypt(_NONCE, cast("bytes", found["wrapped"]), raw)  # 3
        return header, AESGCM(content_key).decrypt(_NONCE, cast("bytes", fields["body"]), raw)  # 4
    except (EvidenceError, InvalidTag, ValueError, TypeError) as error:
        raise BackupRefused("the backup does not open: it was changed") from error


def _verified(file: bytes, key: Ed25519PublicKey) -> tuple[Header, bytes, dict[str, canonical.Value]]:
    try:
        message = parse_sign1(file, "backup", limit=MAX_FILE)
        if not message.tagged:
            raise BackupRefused("backup: expected a tagged COSE_Sign1")
        payload = message.verify(key, aad=labels.BACKUP, what="backup")
        fields = canonical.decode_map(payload, "backup", limit=MAX_FILE, fields=_FILE)
        raw = cast("bytes", fields["header"])
        said = canonical.decode_map(raw, "backup header", limit=MAX_FILE, fields=_HEADER)
    except EvidenceError as error:
        raise BackupRefused(f"backup: {error}") from error
    recipients = cast("list[object]", said["recipients"])
    if said["v"] != VERSION or not all(isinstance(one, bytes) for one in recipients):
        raise BackupRefused(f"backup: expected version {VERSION} and recipients by digest, got version {said['v']!r}")
    header = Header(
        cast("bytes", said["backup"]),
        cast("str", said["authority"]),
        cast("str", said["key_id"]),
        Milliseconds(cast("int", said["made"])),
        cast("int", said["threshold"]),
        tuple(cast("list[bytes]", recipients)),
    )
    if not 1 <= header.threshold <= len(header.recipients) <= MAX_RECIPIENTS:
        raise BackupRefused(f"backup: threshold {header.threshold} of {len(header.recipients)} recipients")
    return header, raw, fields


def _set_of(fields: Mapping[str, canonical.Value], members: tuple[int, ...]) -> dict[str, canonical.Value]:
    for one in cast("list[canonical.Value]", fields["sets"]):
        found = canonical.check_map(one, "backup set", _SET)
        if found["of"] == list(members):
            return found
    raise BackupRefused(f"backup: no copy is wrapped for recipients {', '.join(map(str, members))}")


def _header_fields(header: Header) -> dict[str, canonical.Value]:
    return {
        "v": VERSION,
        "backup": header.backup,
        "authority": header.authority,
        "key_id": header.key_id,
        "made": header.made,
        "threshold": header.threshold,
        "recipients": list(header.recipients),
    }


def _part_info(header: bytes, members: Sequence[int], member: int) -> bytes:
    return length_prefixed(labels.BACKUP_PART, labelled(labels.BACKUP_HEADER, header), bytes(members), bytes([member]))


def _set_key(parts: Sequence[bytes], header: bytes, members: Sequence[int]) -> bytes:
    info = length_prefixed(labels.BACKUP_SET, bytes(members))
    return hkdf(length_prefixed(*parts), salt=labelled(labels.BACKUP_HEADER, header), info=info, length=KEY_BYTES)
