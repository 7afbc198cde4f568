"""Two switches in the state folder that need no network and no database: the kill switch and the log latch.

The kill switch is set while its file is there; anybody who can write the folder can set it, and each call looks. The
latch is shut unless its file says `open`: it is overwritten in place, because a full disk is what shuts it.
"""

import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.synced import sync_folder, write_new

KILL_FILE, LATCH_FILE = "guard.kill", "guard.latch"
MAX_REASON = 200  # characters
_OPEN, _SHUT = b"open\n", b"shut\n"
_FAILED = "a journal write failed"


@dataclass(frozen=True, slots=True)
class Kill:
    """A set kill switch. A file that a person made names no time."""

    reason: str
    since: Milliseconds | None


class KillFile:
    """The kill switch's file. What cannot be looked at counts as set."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / KILL_FILE

    def kill(self) -> Kill | None:
        """Why and since when it is set, or None if it is not."""
        try:
            text = self._path.read_bytes()[: 8 * MAX_REASON].decode(errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            return Kill(f"the switch cannot be read: {error.strerror}", None)
        since = re.search(r"^since (\d{1,15})$", text, re.MULTILINE)
        return Kill(first_line(text) or "no reason given", None if since is None else Milliseconds(int(since[1])))

    def set(self, reason: str, since: Milliseconds | None = None) -> None:
        """Set it; one that is set keeps its reason. Raises OSError.

        Nobody sees it without its words, where the disk has room for them and knows links.
        """
        words = first_line(reason) or "no reason given"
        content = f"{words}\n{'' if since is None else f'since {since}'}\n".encode()
        beside = self._path.with_name(f"{KILL_FILE}.{secrets.token_hex(8)}")
        try:
            write_new(beside, content)
            os.link(beside, self._path)
        except FileExistsError:
            return
        except OSError:
            # A disk that takes no more words, or knows no links, may still take a name: that is enough.
            with suppress(FileExistsError):
                write_new(self._path, content)
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(self._path.parent)

    def clear(self) -> None:
        for left in self._path.parent.glob(f"{KILL_FILE}.*"):  # by one who was ended while he set it
            left.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)
        sync_folder(self._path.parent)


class Latch:
    """Shut by a failed journal write; opened by an operator once the journal works. Its file is for every worker."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / LATCH_FILE
        self._why = _FAILED
        self._unwritten = False  # shut by this process, and the disk took neither word nor removal

    @staticmethod
    def create(state_dir: Path) -> None:
        """The open latch of a new state. Raises OSError."""
        (state_dir / LATCH_FILE).write_bytes(_OPEN)

    def reason(self) -> str | None:
        """Why it is shut, or None while it is open."""
        if self._unwritten:
            self.shut(self._why)  # as soon as the disk takes it, it is every worker's, and opened for all by one word
        if self._unwritten:
            return self._why
        try:
            return None if self._path.read_bytes() == _OPEN else self._why
        except FileNotFoundError:
            return self._why
        except OSError as error:
            return f"the latch cannot be read: {error.strerror}"

    def shut(self, reason: str) -> None:
        """Never raises: where the disk does not take it, this process remembers until it does, and an absent file is a
        shut one.
        """
        self._why, self._unwritten = first_line(reason) or _FAILED, True
        try:
            self._overwrite(_SHUT)
        except OSError:
            try:
                self._path.unlink(missing_ok=True)
            except OSError:
                return
        self._unwritten = False

    def open(self) -> None:
        """Once an operator has acknowledged. Raises OSError, and then it stays shut."""
        if not self._path.exists():
            self._path.write_bytes(_SHUT)
        self._overwrite(_OPEN)
        self._why, self._unwritten = _FAILED, False

    def _overwrite(self, content: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, content, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def first_line(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else ""
    return "".join(char if char.isprintable() else "?" for char in line)[:MAX_REASON]
