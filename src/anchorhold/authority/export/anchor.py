"""Heads of the journal into a transparency log: at each alert, and else once in a while.

The log's answer is checked as every sender checks it: the leaf is in the tree of a checkpoint under the pinned key, and
that tree extends the one seen before. A head is signed by the journal key, so the exporter holds it for this one use.
"""

import http.client
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.journal import JournalHead, sign_head
from anchorhold.attestation.transcript.append import MAX_REPLY, AppendReply, AppendRequest
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.transcript.tree import leaf_hash, verify_consistency, verify_inclusion
from anchorhold.authority.export.events import Event
from anchorhold.authority.export.follow import write_whole
from anchorhold.authority.export.sinks import TIMEOUT_S, SinkAway

PATH = "/append"
Append = Callable[[AppendRequest], AppendReply]


class LogContradicts(Exception):
    """The log's answer does not hold under its key, or forgets what it had shown. It is not asked again."""


@dataclass(frozen=True, slots=True)
class Every:
    """How often a head is given to the log without an alert."""

    entries: int
    milliseconds: int


class Anchor:
    """A sink: takes every event and gives the log a head where one is due."""

    def __init__(
        self, authority: str, key: Ed25519PrivateKey, log: Vkey, append: Append, every: Every, seen: Path
    ) -> None:
        """`seen` keeps the last checkpoint from run to run: a log that forgets it contradicts itself."""
        self._authority = authority
        self._key = key
        self._log = log
        self._append = append
        self._every = every
        self._seen = seen
        self._last: tuple[int, int] | None = None

    def take(self, event: Event) -> None:
        """See Sink. Raises SinkAway and LogContradicts."""
        entry = event.exported.entry
        if not event.alerts and not self._due(entry.seq, entry.t):
            return
        alert = event.alerts[0] if event.alerts else None
        head = JournalHead(self._authority, entry.seq, event.exported.digest, entry.t, alert)
        self._give(sign_head(head, self._key))
        self._last = (entry.seq, entry.t)

    def settle(self) -> None:
        """The log answered once its disk had the leaf."""

    def _due(self, seq: int, at: int) -> bool:
        if self._last is None:
            return True
        return seq - self._last[0] >= self._every.entries or at - self._last[1] >= self._every.milliseconds

    def _give(self, leaf: bytes) -> None:
        try:
            known = self._log.open_checkpoint(self._seen.read_bytes()) if self._seen.exists() else None
            reply = self._append(AppendRequest(leaf, (), 0 if known is None else known.size))
            # 1. The head is in the tree that the log's key signs. 2. That tree extends the one seen before.
            now = self._log.open_checkpoint(reply.checkpoint)
            verify_inclusion(leaf_hash(leaf), reply.index, now.size, reply.proof, now.root)
            if known is not None:
                verify_consistency(known.size, now.size, known.root, now.root, reply.consistency)
            write_whole(self._seen, reply.checkpoint)
        except EvidenceError as error:
            raise LogContradicts(f"the log's answer does not hold: {error}") from error
        except OSError as error:
            raise SinkAway(f"{self._seen}: {error.strerror}") from error


def http_append(url: str, ca: Path | None) -> Append:
    """`POST /append` at a log's address; plain http is enough, since the answer is signed."""
    parts = urlsplit(url)
    host, path = parts.hostname or "", parts.path.rstrip("/") + PATH

    def append(request: AppendRequest) -> AppendReply:
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=None if ca is None else str(ca))
            connection = http.client.HTTPSConnection(host, parts.port or 443, timeout=TIMEOUT_S, context=context)
        else:
            connection = http.client.HTTPConnection(host, parts.port or 80, timeout=TIMEOUT_S)
        try:
            connection.request("POST", path, request.encode(), {"Content-Type": "application/cbor"})
            answer = connection.getresponse()
            raw = answer.read(MAX_REPLY + 1)
            if answer.status != http.HTTPStatus.OK:
                raise SinkAway(f"{url}: HTTP status {answer.status}")
            return AppendReply.decode(raw)
        except (OSError, http.client.HTTPException) as error:
            raise SinkAway(f"{url}: {error}") from error
        except EvidenceError as error:
            raise LogContradicts(f"the log's answer is not in the form: {error}") from error
        finally:
            connection.close()

    return append
