"""A backup opens for k of its n recipients and for nobody else, and not at all once a byte of it changed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.channel.seal import HybridPrivateKey
from anchorhold.attestation.cose import parse_sign1, sign1
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.escrow.recipient import make_recipient, read_recipient, read_recipient_secret
from anchorhold.authority.escrow.sealed import (
    MAX_FILE,
    BackupRefused,
    Header,
    check_recipients,
    open_backup,
    read_header,
    recipient_id,
    seal_backup,
)

BODY = b"shares and seeds" * 10
SIGNER = Ed25519PrivateKey.generate()
KEYS = [HybridPrivateKey(bytes([number]) * 96) for number in range(1, 5)]
STRANGER = HybridPrivateKey(b"s" * 96)
PUBLICS = [key.public for key in KEYS]
HEADER = Header(b"b" * 32, "owner", "owner-key", Milliseconds(7), 3, tuple(recipient_id(one) for one in PUBLICS))
FILE = seal_backup(HEADER, PUBLICS, BODY, SIGNER)


def test_any_three_of_four_open_it_and_no_two_do() -> None:
    for members in combinations(KEYS, 3):
        assert open_backup(FILE, members, SIGNER.public_key()) == (HEADER, BODY)
    assert open_backup(FILE, [*KEYS[::-1], STRANGER], SIGNER.public_key())[1] == BODY
    for pair in combinations(KEYS, 2):
        for keys in (pair, [*pair, STRANGER], [*pair, *pair]):
            with pytest.raises(BackupRefused, match="3 of the 4 recipients, got 2"):
                open_backup(FILE, keys, SIGNER.public_key())
    with pytest.raises(BackupRefused, match="got 0"):
        open_backup(FILE, [STRANGER], SIGNER.public_key())


def test_nothing_of_the_body_stands_in_it_and_two_backups_share_nothing() -> None:
    assert BODY[:16] not in FILE
    again = seal_backup(HEADER, PUBLICS, BODY, SIGNER)
    assert _payload(FILE)["body"] != _payload(again)["body"]


def test_any_changed_byte_is_refused() -> None:
    for at in range(0, len(FILE), 97):
        changed = FILE[:at] + bytes([FILE[at] ^ 1]) + FILE[at + 1 :]
        with pytest.raises(BackupRefused):
            open_backup(changed, KEYS, SIGNER.public_key())
    for cut in (b"", FILE[:-1], FILE + b"\0", FILE[1:]):
        with pytest.raises(BackupRefused):
            open_backup(cut, KEYS, SIGNER.public_key())


def test_a_backup_by_anyone_else_is_refused_before_a_key_is_used() -> None:
    planted = seal_backup(HEADER, PUBLICS, b"shares of the attacker", Ed25519PrivateKey.generate())
    for act in (
        lambda: open_backup(planted, KEYS, SIGNER.public_key()),
        lambda: read_header(planted, SIGNER.public_key()),
    ):
        with pytest.raises(BackupRefused):
            act()


Members = dict[str, canonical.Value]
_OTHER = seal_backup(replace(HEADER, backup=b"o" * 32), PUBLICS, b"another body", SIGNER)


def _sets(fields: Members) -> list[Members]:
    sets = fields["sets"]
    assert isinstance(sets, list)
    return sets


def _header(fields: Members, **changes: canonical.Value) -> None:
    raw = fields["header"]
    assert isinstance(raw, bytes)
    header = canonical.decode(raw, "header", limit=MAX_FILE)
    assert isinstance(header, dict)
    fields["header"] = canonical.encode({**header, **changes})


# Signed again by the right key: what is left is what the sealing itself binds.
FORGERIES: Mapping[str, Callable[[Members], object]] = {
    "the body of another backup": lambda fields: fields.update(body=_payload(_OTHER)["body"]),
    "the sets of another backup": lambda fields: fields.update(sets=_payload(_OTHER)["sets"]),
    "the header of another backup": lambda fields: fields.update(header=_payload(_OTHER)["header"]),
    "a lower threshold": lambda fields: _header(fields, threshold=2),
    "another time": lambda fields: _header(fields, made=8),
    "a threshold of none": lambda fields: _header(fields, threshold=0),
    "another version": lambda fields: _header(fields, v=2),
    "an unknown member": lambda fields: _header(fields, more=1),
    "no sets": lambda fields: fields.update(sets=[]),
    "sets under each other's names": lambda fields: [one.update(of=[1, 2, 3]) for one in _sets(fields)],
    "a wrapped key of another set": lambda fields: _sets(fields)[0].update(wrapped=_sets(fields)[1]["wrapped"]),
    "parts of another set": lambda fields: _sets(fields)[0].update(parts=_sets(fields)[1]["parts"]),
    "fewer parts": lambda fields: _sets(fields)[0].update(parts=[]),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_parts_put_together_anew_open_nothing(forgery: str) -> None:
    fields = _payload(FILE)
    FORGERIES[forgery](fields)
    forged = sign1(canonical.encode(fields), SIGNER, aad=labels.BACKUP)
    with pytest.raises(BackupRefused):
        open_backup(forged, KEYS[:3], SIGNER.public_key())


@pytest.mark.parametrize(
    ("count", "threshold", "words"),
    [(0, 1, "1 to 16"), (17, 2, "1 to 16"), (3, 0, "1 to 3"), (3, 4, "1 to 3"), (16, 8, "12870 sets")],
)
def test_an_order_that_cannot_be_served_is_refused(count: int, threshold: int, words: str) -> None:
    publics = [bytes([number]) * 1216 for number in range(count)]
    with pytest.raises(BackupRefused, match=words):
        check_recipients(publics, threshold)


def test_recipients_are_different_and_real_keys() -> None:
    with pytest.raises(BackupRefused, match="different"):
        check_recipients([PUBLICS[0], PUBLICS[0]], 2)
    with pytest.raises(BackupRefused, match="1216 bytes"):
        check_recipients([b"no key"], 1)
    check_recipients(PUBLICS, 4)


def test_a_recipients_files_are_two_and_the_secret_one_is_private(tmp_path: Path) -> None:
    public = make_recipient(tmp_path / "ada")
    assert public.name == "ada.pub"
    assert (tmp_path / "ada").stat().st_mode & 0o777 == 0o600
    key = read_recipient_secret(tmp_path / "ada")
    assert read_recipient(public) == key.public
    with pytest.raises(FileExistsError):
        make_recipient(tmp_path / "ada")
    for wrong in (tmp_path / "ada", tmp_path / "none"):
        with pytest.raises(BackupRefused):
            read_recipient(wrong)
    (tmp_path / "ada").chmod(0o644)
    with pytest.raises(BackupRefused, match="0644"):
        read_recipient_secret(tmp_path / "ada")
    with pytest.raises(BackupRefused):
        read_recipient_secret(public)


def _payload(file: bytes) -> Members:
    raw = parse_sign1(file, "backup", limit=MAX_FILE).verify(SIGNER.public_key(), aad=labels.BACKUP)
    fields = canonical.decode(raw, "backup", limit=MAX_FILE)
    assert isinstance(fields, dict)
    return fields
