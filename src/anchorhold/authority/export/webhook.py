"""Alerts to a webhook: HTTPS, a MAC over time and body, retries that double, and a dead letter for what was not taken.

The body names the journal's entry by number and digest and carries the event; no secret is in it. A receiver checks
`Anchorhold-Signature: t=SECONDS,v1=HEX` where HEX is HMAC-SHA-256 over `SECONDS.BODY` under the shared secret.
"""

import fcntl
import hashlib
import hmac
import http.client
import json
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.export.events import Event, ocsf
from anchorhold.authority.export.follow import write_whole
from anchorhold.authority.export.lines import append, open_lines
from anchorhold.authority.export.sinks import TIMEOUT_S, SinkAway

VERSION = 1
TRIES = 8  # with pauses of 1, 2, 4 ... s: about two minutes, longer than a receiver's restart
MAX_REPLY = 65_536  # bytes that are read of an answer
_TAKEN = range(200, 300)


class Webhook:
    """A sink for alerts alone: entries without one are taken silently."""

    def __init__(
        self,
        url: str,
        secret: bytes,
        dead: Path,
        *,
        ca: Path | None,
        clock: Callable[[], Milliseconds],
        pause: Callable[[float], bool],
    ) -> None:
        """`pause` waits that many seconds; True says that the process is to end."""
        self._url = url
        self._secret = secret
        self._dead = dead
        self._ca = ca
        self._clock = clock
        self._pause = pause

    def take(self, event: Event) -> None:
        """See Sink. Raises SinkAway only where it is interrupted, or where not even the dead letter can be written."""
        if not event.alerts:
            return
        body = json.dumps(_body(event), separators=(",", ":"), sort_keys=True).encode()
        reason = ""
        for tried in range(TRIES):
            if tried and self._pause(2.0 ** (tried - 1)):
                raise SinkAway(f"{self._url}: interrupted; the alert is offered again")
            try:
                self._post(body)
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
            else:
                return
        self._bury(body, reason)

    def settle(self) -> None:
        """Whatever was taken was answered for, or lies in the dead letter."""

    def resend(self) -> tuple[int, int]:
        """Offers every dead letter once more; how many were taken, and how many are left. Raises OSError.

        What an exporter that runs beside it buries meanwhile is left.
        """
        taken = {line for line in self._letters() if self._taken_again(line)}
        if not taken:
            return 0, len(self._letters())
        with _alone(self._dead.parent):
            left = [line for line in self._letters() if line not in taken]
            write_whole(self._dead, b"".join(left))
        return len(taken), len(left)

    def _letters(self) -> list[bytes]:
        try:
            return self._dead.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []

    def _taken_again(self, line: bytes) -> bool:
        try:
            self._post(json.loads(line)["body"].encode())
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
            return False
        return True

    def _post(self, body: bytes) -> None:
        parts = urlsplit(self._url)
        seconds = str(self._clock() // 1000)
        mac = hmac.new(self._secret, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "Anchorhold-Signature": f"t={seconds},v1={mac}"}
        connection = self._connection(parts.scheme, parts.hostname or "", parts.port)
        try:
            connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
            answer = connection.getresponse()
            answer.read(MAX_REPLY)
            # A redirect would carry the alert to whomever the answer names.
            if answer.status not in _TAKEN:
                raise http.client.HTTPException(f"HTTP status {answer.status}")
        finally:
            connection.close()

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme == "http":  # the settings allow it on loopback alone
            return http.client.HTTPConnection(host, port or 80, timeout=TIMEOUT_S)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(self._ca)
        return http.client.HTTPSConnection(host, port or 443, timeout=TIMEOUT_S, context=context)

    def _bury(self, body: bytes, reason: str) -> None:
        line = json.dumps({"reason": reason, "tries": TRIES, "at": self._clock(), "body": body.decode()}) + "\n"
        try:
            with _alone(self._dead.parent):
                descriptor = open_lines(self._dead)
                try:
                    _append_whole(descriptor, line.encode())
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise SinkAway(f"{self._dead}: {error.strerror}") from error


def _append_whole(descriptor: int, line: bytes) -> None:
    """On disk, or not there: half a letter would count as one that nobody takes. Raises OSError."""
    before = os.fstat(descriptor).st_size
    try:
        append(descriptor, line)
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, before)
        raise


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else buries or takes out in this folder meanwhile. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _body(event: Event) -> dict[str, object]:
    exported = event.exported
    return {
        "version": VERSION,
        "authority": event.authority,
        "seq": exported.entry.seq,
        "digest": exported.digest.hex(),
        "time": exported.entry.t,
        "alerts": list(event.alerts),
        "event": ocsf(event),
    }
