"""Turns what the lease keeper sees into transcript entries, in order, without ever holding the keeper up.

A log that cannot be reached delays the entries (the scribe sends them first when it is back, and the log lease ends the
service if it stays away); a log that lies, and whatever else stops an entry for good, closes the gate at once.
"""

import contextlib
import hashlib
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from anchorhold.attestation.lease import lease_id
from anchorhold.attestation.transcript.bodies import Body, KeyDeny, KeyLease, KeyRelease, KeyRequest, Revoke
from anchorhold.attestation.types import ModelDigest
from anchorhold.enclave.keys.keeper import Asked, Denied, Granted, KeeperEvent
from anchorhold.enclave.serve.scribe import LogBehind, LogContradiction, LogUnavailable

MAX_WAITING = 256  # events; a renewal makes two or three, so this is hours of a dead log
SPARE = MAX_WAITING // 2  # of those, kept for what the boot cannot go on without: not for what tenants bring about
RETRY_S = 1.0  # between two tries of an entry that the scribe had no room for
Written = tuple[Body, tuple[bytes, ...]]
Kept = tuple[KeyRequest | KeyRelease | KeyDeny | KeyLease | Revoke, tuple[bytes, ...]]
"""An entry on the keeping of keys: each may be about an adapter."""


class Writer(Protocol):
    """The one thing a recorder wants of the scribe."""

    def write(self, body: Body, attachments: Sequence[bytes] = ()) -> object:
        """Raises LogBehind, LogUnavailable, LogContradiction."""


class Recorder:
    """One thread that writes. `observe` is the keeper's; `barrier` waits until all before it is in the log."""

    def __init__(
        self,
        scribe: Writer,
        *,
        model: ModelDigest,
        purpose_class: str,
        now_ms: Callable[[], int],
        boottime: Callable[[], float],
        on_fault: Callable[[str], None],
        retry_s: float = RETRY_S,
    ) -> None:
        self._scribe = scribe
        self._model = model
        self._purpose_class = purpose_class
        self._now_ms = now_ms
        self._boottime = boottime
        self._on_fault = on_fault
        self._retry_s = retry_s
        self._closed = threading.Event()
        self._waiting: queue.Queue[Written | threading.Event | None] = queue.Queue(MAX_WAITING)
        self._failure: LogUnavailable | LogContradiction | None = None
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def observe(self, event: KeeperEvent, adapter: ModelDigest | None = None) -> None:
        """What came of the model's keys, or of this adapter's. Never blocks.

        Raises LogUnavailable when the log has been away for too long.
        """
        for body, attachments in self._entries(event):
            if adapter is None:
                self.put(body, attachments)
            else:
                self.put(replace(body, adapter=adapter), attachments, spare=SPARE)

    def put(self, body: Body, attachments: Sequence[bytes] = (), *, spare: int = 0) -> None:
        """One entry, in order with the others; it leaves `spare` places for others. Never blocks.

        Raises LogUnavailable.
        """
        if spare and self._waiting.qsize() >= MAX_WAITING - spare:
            raise LogUnavailable(f"{MAX_WAITING - spare} entries wait for the log")
        try:
            self._waiting.put_nowait((body, tuple(attachments)))
        except queue.Full as error:
            raise LogUnavailable(f"{MAX_WAITING} entries wait for the log") from error

    def barrier(self, timeout_s: float) -> None:
        """Until everything put so far is in the log. Raises LogUnavailable, LogContradiction."""
        reached = threading.Event()
        try:
            self._waiting.put(reached, timeout=timeout_s)
        except queue.Full as error:
            raise LogUnavailable(f"{MAX_WAITING} entries wait for the log") from error
        if not reached.wait(timeout_s):
            raise LogUnavailable(f"the log did not take the records within {timeout_s:.0f} s")
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """No more entries; what waits is written or lost with the process."""
        self._closed.set()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
                continue
            try:
                self._write(item)
            except LogUnavailable as error:
                self._failure = error  # signed and kept by the scribe: it goes first with the next entry
            except LogContradiction as error:
                self._failure = error
                self._on_fault(error.code)
            except Exception as error:  # noqa: BLE001 - of whatever kind: no lease goes on that the transcript cannot show
                self._failure = LogUnavailable(f"an entry could not be made: {type(error).__name__}")
                self._on_fault(type(error).__name__)
                return

    def _write(self, item: Written) -> None:
        while True:
            try:
                self._scribe.write(*item)
            except LogBehind:
                if self._closed.wait(self._retry_s):
                    raise
            else:
                self._failure = None
                return

    def _entries(self, event: KeeperEvent) -> list[Kept]:
        if isinstance(event, Asked):
            return [(self._request(event), ())]
        if isinstance(event, Denied):
            return self._denied(event)
        return self._granted(event)

    def _request(self, asked: Asked) -> KeyRequest:
        return KeyRequest(
            source=asked.source,
            custodian=asked.custodian,
            ask=asked.ask.value,
            model=self._model,
            purposes=asked.purposes,
            purpose_class=self._purpose_class,
            request=asked.number,
        )

    def _denied(self, denied: Denied) -> list[Kept]:
        asked = denied.asked
        body = KeyDeny(
            source=asked.source,
            custodian=asked.custodian,
            ask=asked.ask.value,
            model=self._model,
            purposes=asked.purposes,
            request=asked.number,
            code=denied.error.code,
            statement=None,
            document=None,
            facts=dict(denied.error.facts),
        )
        revoked = Revoke(what="lease", source=asked.source, code=denied.error.code, effective_ms=self._now_ms())
        return [(body, ()), (revoked, ())] if denied.final and asked.number > 1 else [(body, ())]

    def _granted(self, granted: Granted) -> list[Kept]:
        asked, released = granted.asked, granted.released
        evidence = (released.statement, released.document, released.lease)
        statement, document, lease = (hashlib.sha256(one).digest() for one in evidence)
        release = KeyRelease(
            source=asked.source,
            custodian=asked.custodian,
            ask=asked.ask.value,
            model=self._model,
            purposes=asked.purposes,
            request=asked.number,
            statement=statement,
            document=document,
            lease=lease,
            facts=dict(released.facts),
        )
        until_ms = self._now_ms() + int((granted.deadline - self._boottime()) * 1000)
        in_force = KeyLease(
            source=asked.source,
            lease=lease,
            lease_id=lease_id(released.lease),
            request=asked.number,
            ttl_ms=released.lease_ttl_ms,
            until_ms=max(until_ms, 0),
            statement=statement,
            document=document,
            keystore=released.granted.keystore,
        )
        return [(release, evidence), (in_force, evidence)]
