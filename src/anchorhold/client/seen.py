"""What a client remembers of release lists: the newest version it has verified, and what it has seen revoked.

Who hands lists around can hand out an old one; signatures and age do not show that, only memory does. The first list
is remembered, later ones may not go back. A memory that does not read back as it was written is refused, never begun
anew: whoever could damage it would have had a rollback for it.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Value, encode
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.release.pin import ReleasePin
from anchorhold.attestation.release.statement import MAX_TIME_MS
from anchorhold.attestation.release.verify import REVOKED, AcceptedReleases, ListRefused, NoAcceptedRelease
from anchorhold.attestation.types import Milliseconds
from anchorhold.client.errors import ReleaseMemoryInvalid
from anchorhold.client.files import write_whole

VERSION = 1
MAX_REVOKED = 1_024  # digests not yet past their own end; a list holds at most 256
MAX_MEMORY = 262_144  # bytes; 1,024 revoked digests take 130,000
LOCK_S = 5.0  # a client holds it for one small file's writing
_AGAIN_S = 0.02
_BUSY = "see which process holds the lock, and end it; no client holds it for longer than a moment"
_WRITABLE = "keep the trust file in a folder that this user may write: what was seen is kept beside it"
_FIELDS = ("version", "quorum", "list_version", "list", "issued_at", "revoked")
Listed = AcceptedReleases | NoAcceptedRelease
"""A list that was verified, also where it accepts nothing any more."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest list verified (version 0: none), and the statements seen revoked, each with its own end."""

    version: int = 0
    digest: bytes = b""
    issued_at: int = 0
    revoked: Mapping[bytes, int] = field(default_factory=lambda: MappingProxyType({}))

    def after(self, listed: Listed, now: Milliseconds) -> "Seen":
        """What is remembered once `listed` was verified. Raises EvidenceError where it goes back on that."""
        # 1. Versions only grow, also past a client that looked at the same time.
        if listed.version < self.version:
            raise ListRefused(
                f"release list: version: expected at least {self.version}, got {listed.version}",
                code="list-rolled-back",
            )
        # 2. One version, one list.
        if listed.version == self.version and listed.digest != self.digest:
            what = f"release list of version {self.version}"
            raise Mismatch(what, expected=self.digest, actual=listed.digest, code="list-forked")
        # 3. A revocation may be left out of a file; it is not taken back.
        for statement in listed.accepted if isinstance(listed, AcceptedReleases) else ():
            if statement.digest in self.revoked:
                raise ListRefused(
                    f"release list: accepts {statement.release!r}, which this client has seen revoked",
                    code="list-unrevokes",
                )
        return Seen(listed.version, listed.digest, listed.issued_at, self._revoked(listed, now))

    def _revoked(self, listed: Listed, now: Milliseconds) -> Mapping[bytes, int]:
        # A statement past its own end need not be remembered.
        kept: dict[bytes, int] = {digest: end for digest, end in self.revoked.items() if end > now}
        kept |= {one.digest: one.not_after for one, code in listed.refused if code == REVOKED and one.not_after > now}
        if len(kept) > MAX_REVOKED:
            raise ListRefused(
                f"release list: revoked: expected at most {MAX_REVOKED} remembered, got {len(kept)}",
                code="list-unrevokes",
            )
        return MappingProxyType(kept)


class Memory(Protocol):
    """Where what was seen is kept between sessions."""

    def read(self) -> Seen:
        """Raises ReleaseMemoryInvalid."""
        ...

    def note(self, listed: Listed, now: Milliseconds) -> None:
        """Durable on return. Raises EvidenceError or ReleaseMemoryInvalid."""
        ...


class OwnMemory:
    """For as long as this object lives: a trust given as bytes has no place to keep a file beside."""

    def __init__(self) -> None:
        self._seen = Seen()

    def read(self) -> Seen:
        """See Memory."""
        return self._seen

    def note(self, listed: Listed, now: Milliseconds) -> None:
        """See Memory."""
        self._seen = self._seen.after(listed, now)


class FileMemory:
    """A file beside the trust file: written beside, synced and renamed, under a lock on a file of its own."""

    def __init__(self, path: Path, pin: ReleasePin, *, lock_s: float = LOCK_S) -> None:
        self.path = path
        self.lock = path.with_name(f"{path.name}.lock")
        self._lock_s = lock_s
        self._quorum = pin.digest

    @classmethod
    def beside(cls, trust_file: Path, pin: ReleasePin) -> "FileMemory":
        """One for each quorum: another quorum's versions are no measure of this one's."""
        return cls(trust_file.with_name(f"{trust_file.name}.{pin.digest.hex()[:16]}.seen"), pin)

    def read(self) -> Seen:
        """See Memory. Empty at first use."""
        try:
            with self.path.open("rb") as file:
                raw = file.read(MAX_MEMORY + 1)
        except FileNotFoundError:
            return Seen()
        except OSError as error:
            raise ReleaseMemoryInvalid(f"{self.path}: {error.strerror}") from error
        try:
            return _decode(raw, self._quorum)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ReleaseMemoryInvalid(f"{self.path}: not as it was written: {error}") from error

    def note(self, listed: Listed, now: Milliseconds) -> None:
        """See Memory."""
        seen = self.read()
        if seen.after(listed, now) == seen:
            return  # nothing to write, so nobody to wait for
        with self._locked():
            seen = self.read()
            self._write(seen, seen.after(listed, now))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """No other client of this trust file writes meanwhile."""
        try:
            # Not the folder: whoever may read that could hold its lock for ever. The lock outlives its use; a file that
            # is removed and made anew would be two.
            held = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ReleaseMemoryInvalid(f"{self.lock}: {error.strerror}", hint=_WRITABLE) from error
        try:
            self._wait_for(held)
            yield
        finally:
            os.close(held)

    def _wait_for(self, held: int) -> None:
        end = time.monotonic() + self._lock_s
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= end:
                    message = f"{self.lock}: expected it free within {self._lock_s:g} s, another process holds it"
                    raise ReleaseMemoryInvalid(message, hint=_BUSY) from error
            except OSError as error:
                raise ReleaseMemoryInvalid(f"{self.lock}: {error.strerror}") from error
            else:
                return
            time.sleep(_AGAIN_S)

    def _write(self, before: Seen, seen: Seen) -> None:
        if seen == before:
            return
        try:
            write_whole(self.path, _encode(seen, self._quorum))
        except OSError as error:
            # Not remembered is not verified: the next list could be older.
            raise ReleaseMemoryInvalid(f"{self.path}: cannot be written: {error.strerror}", hint=_WRITABLE) from error


def _encode(seen: Seen, quorum: bytes) -> bytes:
    members: dict[str, Value] = {
        "version": VERSION,
        "quorum": quorum.hex(),
        "list_version": seen.version,
        "list": seen.digest.hex(),
        "issued_at": seen.issued_at,
        "revoked": {digest.hex(): end for digest, end in sorted(seen.revoked.items())},
    }
    return json.dumps({**members, "check": _check(members)}, indent=2).encode() + b"\n"


def _decode(raw: bytes, quorum: bytes) -> Seen:
    if len(raw) > MAX_MEMORY:
        raise ValueError(f"expected at most {MAX_MEMORY} bytes")
    members = json.loads(raw)
    if not isinstance(members, dict) or tuple(members) != (*_FIELDS, "check") or members["version"] != VERSION:
        raise ValueError(f"expected version {VERSION} and the fields {[*_FIELDS, 'check']}")
    if members["quorum"] != quorum.hex():
        raise ValueError("it is of another quorum")
    # No secret keys this: it shows damage and a careless hand, not whoever may write the trust file anyway.
    if members.pop("check") != _check(members):
        raise ValueError("its check differs")
    revoked = members["revoked"]
    if not isinstance(revoked, dict):
        raise TypeError("revoked: expected an object")
    return Seen(
        _whole(members["list_version"]),
        bytes.fromhex(members["list"]),
        _whole(members["issued_at"]),
        MappingProxyType({bytes.fromhex(name): _whole(end) for name, end in revoked.items()}),
    )


def _whole(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= MAX_TIME_MS:
        raise ValueError(f"expected a whole number, got {value!r:.40}")
    return value


def _check(members: Mapping[str, Value]) -> str:
    return labelled(labels.RELEASES_SEEN, encode(members)).hex()
