"""Where events go: an append-only file, or syslog. A sink has an event when `take` returns; it may get one twice.

Each sink goes at its own pace: one that is away holds up no other, and nothing is dropped for it.
"""

import base64
import json
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from anchorhold.authority.export.events import Event, cloudtrail, ocsf
from anchorhold.authority.export.lines import append, open_lines

FACILITY = 13  # RFC 5424 6.2.1: log audit
MAX_DATAGRAM = 60_000  # bytes; what UDP and Unix datagrams carry with room for headers
TIMEOUT_S = 10.0
_SEVERITY = {"alert": 1, "denied": 4, "done": 6}  # RFC 5424 6.2.1: alert, warning, informational


class SinkAway(Exception):
    """It took nothing; the same event is offered again later."""


class Sink(Protocol):
    """One way out."""

    def take(self, event: Event) -> None:
        """Raises SinkAway."""

    def settle(self) -> None:
        """What was taken is safe from here on. Raises SinkAway."""


def signed(event: Event) -> dict[str, object]:
    """The entry itself, for whoever checks the journal (`audit verify --journal`)."""
    exported = event.exported
    return {"seq": exported.entry.seq, "signed": base64.b64encode(exported.signed).decode()}


FORMS: Mapping[str, Callable[[Event], dict[str, object]]] = {"signed": signed, "cloudtrail": cloudtrail, "ocsf": ocsf}


class LineFile:
    """One JSON object a line, only ever appended; on disk before `settle` returns.

    After a crash the last lines may stand twice, and a half line is ended: readers skip what is no JSON, and know an
    entry by its number (`audit verify --journal` does).
    """

    def __init__(self, path: Path, form: str) -> None:
        self._path = path
        self._form = FORMS[form]
        self._descriptor: int | None = None
        self._unsafe: OSError | None = None  # why what was taken since the last `settle` may not be on disk

    def take(self, event: Event) -> None:
        """See Sink."""
        line = json.dumps(self._form(event), separators=(",", ":"), sort_keys=True).encode() + b"\n"
        try:
            if self._descriptor is None:
                self._descriptor = open_lines(self._path)
            append(self._descriptor, line)
        except OSError as error:
            # Opened anew by the next one, which ends half a line. What was taken before is to be safe all the same.
            self._sync()
            self._close()
            raise SinkAway(f"{self._path}: {error.strerror}") from error

    def settle(self) -> None:
        """See Sink."""
        self._sync()
        error, self._unsafe = self._unsafe, None
        if error is not None:
            self._close()
            raise SinkAway(f"{self._path}: {error.strerror}") from error

    def _sync(self) -> None:
        try:
            if self._descriptor is not None:
                os.fsync(self._descriptor)
        except OSError as error:
            self._unsafe = error

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Syslog:
    """RFC 5424 messages, their text in one of the forms, by UDP, a Unix socket or TCP (RFC 6587 3.4.1)."""

    def __init__(self, address: str, form: str, host: str) -> None:
        """`address` is udp://HOST:PORT, tcp://HOST:PORT or unix:PATH (checked by the settings)."""
        self._address = address
        self._form = FORMS[form]
        self._host = host
        self._stream: socket.socket | None = None

    def take(self, event: Event) -> None:
        """See Sink. A datagram is gone once it is sent: nobody confirms it."""
        message = rfc5424(event, self._form(event), self._host)
        try:
            if self._address.startswith("tcp://"):
                self._write(message)
            else:
                self._datagram(message)
        except OSError as error:
            self._drop()
            raise SinkAway(f"{self._address}: {error.strerror or error}") from error

    def settle(self) -> None:
        """Nothing more can be known: TCP has it, or the network."""

    def _write(self, message: bytes) -> None:
        if self._stream is None:
            host, _, port = self._address.removeprefix("tcp://").rpartition(":")
            self._stream = socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT_S)
        # RFC 6587 3.4.1: octet counting.
        self._stream.sendall(str(len(message)).encode() + b" " + message)

    def _datagram(self, message: bytes) -> None:
        if len(message) > MAX_DATAGRAM:
            message = message[:MAX_DATAGRAM]  # RFC 5424 6.1: a receiver may cut; the entry's number stands in front
        if self._address.startswith("unix:"):
            with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as out:
                out.settimeout(TIMEOUT_S)
                out.sendto(message, self._address.removeprefix("unix:"))
            return
        host, _, port = self._address.removeprefix("udp://").rpartition(":")
        family, kind, _, _, target = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
        with closing(socket.socket(family, kind)) as out:
            out.sendto(message, target)

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def rfc5424(event: Event, content: Mapping[str, object], host: str) -> bytes:
    """One message: PRI, version, time, host, application, no process id, the operation as MSGID, no structured data."""
    severity = _SEVERITY["alert" if event.alerts else "denied" if event.denied else "done"]
    at = datetime.fromtimestamp(event.exported.entry.t / 1000, UTC).isoformat(timespec="milliseconds")
    head = f"<{FACILITY * 8 + severity}>1 {at.replace('+00:00', 'Z')} {_word(host, 255)} anchorhold - "
    text = json.dumps(content, separators=(",", ":"), sort_keys=True)  # ASCII: no control character, no line's end
    return f"{head}{_word(event.name, 32)} - seq={event.exported.entry.seq} {text}".encode()


def _word(text: str, most: int) -> str:
    """PRINTUSASCII without spaces, as RFC 5424 6 wants it; `-` where nothing is left."""
    return "".join(char for char in text if "!" <= char <= "~")[:most] or "-"
