"""An incident's steps where no owner's journal has them: JSON lines in a file of its own (docs/spec/lifecycle.md 5.4).

A file appears whole, with its opening; each line after it is added under a lock and synced. A last line without its end
was being written when a command was cut off: it is no step, and the next one takes its place. Nobody signs the file: it
is what the operator asserts.
"""

import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.lease import checked_name
from anchorhold.attestation.types import SHA384_BYTES, Milliseconds, ModelDigest
from anchorhold.authority.owner.incidents import STEPS, Note
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.times import now_ms
from anchorhold.log.files import create_folder, sync_folder

MAX_LINE_BYTES = 16_384  # the facts of a step are 8,192 at most in a journal; JSON takes more
MAX_FILE_BYTES = 4 << 20  # some thousand steps: an incident has a few, each given again some times
MAX_TIME_MS = 253_402_300_799_999  # the end of the year 9999
ARN = "arn:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")  # it is a file's name
_FIELDS = {"incident": str, "step": str, "model": str, "key": str, "reason": str, "facts": dict, "at": int}
_HINT = "anchorhold authority revoke --at kms stops it without the file; then put the file back from a copy"


@dataclass(frozen=True, slots=True)
class Line:
    """One step, and the operator's clock when it was written."""

    note: Note
    at: Milliseconds


@dataclass(frozen=True, slots=True)
class Lines:
    """What a file says. `torn`: its last line has no end, and is left out."""

    steps: tuple[Line, ...]
    torn: bool


class IncidentFile:
    """The file of one incident in a folder of them. No file is made before its opening is noted."""

    def __init__(self, folder: Path, incident: str) -> None:
        if not _NAME.fullmatch(incident):
            raise CommandError(
                f"incident: expected 1 to 96 of A-Z a-z 0-9 . _ -, got {incident!r:.100}", hint="it names a file"
            )
        self.incident = incident
        self.path = folder / f"{incident}.jsonl"

    def opened(self) -> tuple[ModelDigest, str]:
        """The model, and the KMS key's ARN. Raises CommandError, also for an incident that nobody opened."""
        first = self.lines().steps[0].note
        return first.model, first.key

    def lines(self) -> Lines:
        """Every step so far. Raises CommandError."""
        try:
            return self._read(self.path.read_bytes())
        except FileNotFoundError as error:
            hint = "anchorhold authority incident open, or the right --incident-state"
            raise CommandError(f"incident {self.incident!r} was not opened here", hint=hint) from error
        except OSError as error:
            raise CommandError(f"incident file {str(self.path)!r}: {error.strerror}", hint=_HINT) from error

    def note(self, given: Note) -> int:
        """The number of the line, from 1. Raises CommandError, or Malformed for a reason that is not in the form."""
        raw = self._encoded(given)
        try:
            if given.step == "open" and self._created(raw):
                return 1
            return self._added(given, raw)
        except OSError as error:
            raise CommandError(f"incident file {str(self.path)!r}: {error.strerror}") from error

    def _encoded(self, given: Note) -> bytes:
        checked_name(given.reason, "reason")
        value = {
            "incident": self.incident,
            "step": given.step,
            "model": given.model.hex(),
            "key": given.key,
            "reason": given.reason,
            "facts": dict(given.facts),
            "at": now_ms(),
        }
        raw = _encode(value) + b"\n"
        if len(raw) > MAX_LINE_BYTES:
            raise CommandError(f"incident file: expected a step of at most {MAX_LINE_BYTES} bytes, got {len(raw)}")
        return raw

    def _created(self, raw: bytes) -> bool:
        """Whether the file was made: it is linked to its name only when it is on disk, and never over another."""
        create_folder(self.path.parent)
        beside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, self.path)
        except FileExistsError:
            return False
        finally:
            beside.unlink()
        sync_folder(self.path.parent)
        return True

    def _added(self, given: Note, raw: bytes) -> int:
        with self._locked() as descriptor:
            before = _all_of(descriptor)
            lines = self._read(before)
            first = lines.steps[0].note
            if (given.model, given.key) != (first.model, first.key):
                raise CommandError(
                    f"incident {self.incident!r} is another one: it was opened for model {first.model.hex()[:16]}... "
                    f"and key {first.key!r}",
                    hint="another --id",
                    code=REFUSED,
                )
            whole = before.rfind(b"\n") + 1
            if whole + len(raw) > MAX_FILE_BYTES:
                raise CommandError(f"incident file {str(self.path)!r} is full: at most {MAX_FILE_BYTES} bytes")
            os.ftruncate(descriptor, whole)  # a torn last line; what has its end is never cut
            with os.fdopen(os.dup(descriptor), "ab") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            return len(lines.steps) + 1

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Two commands at once write one after the other; the lock goes with the descriptor."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise CommandError(f"incident {self.incident!r} was not opened here") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _read(self, raw: bytes) -> Lines:
        try:
            return self._parsed(raw)
        except _NotInTheForm as error:
            raise CommandError(f"incident file {str(self.path)!r} is not in the form: {error}", hint=_HINT) from error

    def _parsed(self, raw: bytes) -> Lines:
        if len(raw) > MAX_FILE_BYTES:
            raise _NotInTheForm(f"expected at most {MAX_FILE_BYTES} bytes")
        *lines, last = raw.split(b"\n")
        if not lines:
            raise _NotInTheForm("expected a first line that opens it, got none")
        steps = tuple(self._line(line, number) for number, line in enumerate(lines, 1))
        if len({(one.note.model, one.note.key) for one in steps}) > 1:
            raise _NotInTheForm("expected one model and one key, got several")
        return Lines(steps, torn=bool(last))

    def _line(self, raw: bytes, number: int) -> Line:
        value = _value(raw, number)
        if value["incident"] != self.incident:
            raise _NotInTheForm(f"line {number}: expected incident {self.incident!r}, got {value['incident']!r:.100}")
        if value["step"] not in STEPS or (number == 1 and value["step"] != "open"):
            raise _NotInTheForm(f"line {number}: step {value['step']!r:.40}")
        if not re.fullmatch(f"[0-9a-f]{{{2 * SHA384_BYTES}}}", value["model"]):
            raise _NotInTheForm(f"line {number}: model: expected its digest D, got {value['model']!r:.100}")
        if not value["key"].startswith(ARN) or not 0 <= value["at"] <= MAX_TIME_MS:
            raise _NotInTheForm(f"line {number}: expected a key's ARN and a time, got others")
        model = ModelDigest(bytes.fromhex(value["model"]))
        note = Note(self.incident, value["step"], model, value["key"], value["reason"], value["facts"])
        return Line(note, Milliseconds(value["at"]))


class _NotInTheForm(Exception):
    """Which line, and what was expected there."""


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _value(raw: bytes, number: int) -> dict[str, Any]:
    """A line's members, of their types, and written as this file writes them."""
    wrong = _NotInTheForm(f"line {number}: expected {{{', '.join(_FIELDS)}}}")
    try:
        value = json.loads(raw) if len(raw) < MAX_LINE_BYTES else None
        if not isinstance(value, dict) or {name: type(one) for name, one in value.items()} != _FIELDS:
            raise wrong
        if _encode(value) != raw:
            raise wrong
        checked_name(value["key"], "key")
        checked_name(value["reason"], "reason")
    except (ValueError, RecursionError, EvidenceError) as error:
        raise wrong from error
    return value


def _all_of(descriptor: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return file.read(MAX_FILE_BYTES + 1)
