"""Which releases a client accepts right now: the current list, verified, and never older than what it has seen.

Asked before each session, so that a revocation reaches a client no later than its next session. Nothing is kept of an
earlier answer but the memory: a list that cannot be read, or is too old, is an error and not yesterday's list.
"""

from datetime import datetime
from pathlib import Path

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.bundle import MAX_BUNDLE
from anchorhold.attestation.release.pin import ReleasePin
from anchorhold.attestation.release.verify import AcceptedReleases, NoAcceptedRelease, verify_releases
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import Milliseconds
from anchorhold.client.errors import ReleaseListMissing, ReleaseListRefused
from anchorhold.client.seen import FileMemory, Listed, Memory, OwnMemory
from anchorhold.client.trust import Trust, milliseconds


class Releases:
    """The release list of one trust file."""

    def __init__(
        self, trust: Trust, pin: ReleasePin, *, source: Path | None = None, memory: Memory | None = None
    ) -> None:
        self._trust, self._pin = trust, pin
        self._source = source
        if memory is None:
            memory = OwnMemory() if trust.file is None else FileMemory.beside(trust.file, pin)
        self._memory = memory

    @property
    def source(self) -> Path:
        """Where the list lies. Raises ReleaseListMissing where nobody says."""
        if self._source is not None:
            return self._source
        if self._pin.source is None:
            raise ReleaseListMissing("release list: the trust file names no source, and none was given")
        named = Path(self._pin.source)
        if not named.is_absolute() and self._trust.file is None:
            raise ReleaseListMissing(
                f"release list: {self._pin.source!r} counts from a trust file that was given as bytes"
            )
        return named if self._trust.file is None else self._trust.file.parent / named

    def accepted(self, now: datetime) -> AcceptedReleases:
        """What the list accepts at `now`. Raises ClientError.

        1. the list is there; 2. the memory is as it was written; 3. the pinned quorum signed the list, it is young
        enough, no older than the memory, and every accepted statement is in the pinned log; 4. it is remembered.
        """
        at = milliseconds(now)
        # 1.
        raw = self._read()
        # 2.
        floor = self._memory.read().version
        # 3, 4.
        try:
            listed = self._verify(raw, at, floor)
            self._memory.note(listed, at)
        except EvidenceError as error:
            raise ReleaseListRefused(str(error), error.code) from error
        if isinstance(listed, NoAcceptedRelease):
            codes = {code for _, code in listed.refused}
            raise ReleaseListRefused(str(listed), codes.pop() if len(codes) == 1 else listed.code) from listed
        return listed

    def _verify(self, raw: bytes, now: Milliseconds, floor: int) -> Listed:
        try:
            return verify_releases(
                raw,
                self._pin.quorum,
                product=self._pin.product,
                now=now,
                max_list_age=self._pin.max_list_age,
                version_floor=floor,
                log=Vkey.parse(self._trust.log.key),
            )
        except NoAcceptedRelease as error:
            # The list holds: its version and its revocations are remembered like any other's.
            return error

    def _read(self) -> bytes:
        path = self.source
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BUNDLE + 1)
        except OSError as error:
            raise ReleaseListMissing(
                f"release list {str(path)!r}: {(error.strerror or 'unreadable').lower()}"
            ) from error
        return raw
