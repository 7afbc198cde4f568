"""Turns what the lease keeper sees into transcript entries, in order, without ever holding the keeper up.

The scribe gives each its place at once: whatever is signed later, a batch or the last record too, stands behind it. A
log that cannot be reached delays the entries (the scribe sends them first when it is back, and the log lease ends the
service if it stays away); a log that lies, and whatever else stops an entry for good, closes the gate at once.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from anchorhold.attestation.lease import lease_id
from anchorhold.attestation.transcript.bodies import Body, KeyDeny, KeyLease, KeyRelease, KeyRequest, Revoke
from anchorhold.attestation.types import ModelDigest
from anchorhold.enclave.keys.clock import RecordClock
from anchorhold.enclave.keys.keeper import Asked, Denied, Granted, KeeperEvent
from anchorhold.enclave.serve.log_errors import EntryUnmade, LogBehind, LogContradiction, LogUnavailable
from anchorhold.enclave.serve.scribe import MAX_POSTED

SPARE = MAX_POSTED // 2  # kept for what the boot cannot go on without: not for what tenants bring about
RETRY_S = 1.0  # between two tries of an entry that the scribe had no room for
Kept = tuple[KeyRequest | KeyRelease | KeyDeny | KeyLease | Revoke, tuple[bytes, ...]]
"""An entry on the keeping of keys: each may be about an adapter."""


class Writer(Protocol):
    """What a recorder wants of the scribe."""

    def post(self, body: Body, attachments: Sequence[bytes] = (), *, spare: int = 0) -> None:
        """See Scribe. Never blocks. Raises LogUnavailable, TooLarge."""

    def push(self, timeout_s: float | None = None) -> None:
        """See Scribe. Raises LogBehind, EntryUnmade, LogUnavailable, LogContradiction."""


class Recorder:
    """`observe` is the keeper's; `barrier` waits until all before it is in the log. One thread sends, and retries."""

    def __init__(
        self,
        scribe: Writer,
        *,
        model: ModelDigest,
        purpose_class: str,
        clock: RecordClock,
        on_fault: Callable[[str], None],
        retry_s: float = RETRY_S,
    ) -> None:
        self._scribe = scribe
        self._model = model
        self._purpose_class = purpose_class
        self._clock = clock
        self._on_fault = on_fault
        self._retry_s = retry_s
        self._closed = threading.Event()
        self._posted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def observe(self, event: KeeperEvent, adapter: ModelDigest | None = None) -> None:
        """What came of the model's keys, or of this adapter's. Never blocks.

        Raises LogUnavailable when the log has been away for too long, TooLarge for what no log takes.
        """
        for body, attachments in self._entries(event):
            if adapter is None:
                self.put(body, attachments)
            else:
                self.put(replace(body, adapter=adapter), attachments, spare=SPARE)

    def put(self, body: Body, attachments: Sequence[bytes] = (), *, spare: int = 0) -> None:
        """One entry, in order with the others; it leaves `spare` places for others. Never blocks.

        Raises LogUnavailable, TooLarge.
        """
        self._scribe.post(body, attachments, spare=spare)
        self._posted.set()

    def barrier(self, timeout_s: float) -> None:
        """Until everything put so far is in the log. Raises LogUnavailable, LogContradiction."""
        self._scribe.push(timeout_s)

    def close(self) -> None:
        """Nothing is sent any more but with the scribe's own."""
        self._closed.set()
        self._posted.set()

    def _run(self) -> None:
        while True:
            self._posted.wait()
            self._posted.clear()
            if self._closed.is_set():
                return
            try:
                self._scribe.push()
            except LogBehind:
                self._closed.wait(self._retry_s)
                self._posted.set()
            except (EntryUnmade, LogContradiction) as error:
                self._on_fault(error.code)
                return
            except LogUnavailable:
                pass  # all is signed and kept by the scribe: it goes first with the next entry
            except Exception as error:  # noqa: BLE001 - of whatever kind: no lease goes on that the transcript cannot show
                if not self._closed.is_set():
                    self._on_fault(type(error).__name__)
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
        revoked = Revoke(what="lease", source=asked.source, code=denied.error.code, effective_ms=self._clock.now_ms())
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
        in_force = KeyLease(
            source=asked.source,
            lease=lease,
            lease_id=lease_id(released.lease),
            request=asked.number,
            ttl_ms=released.lease_ttl_ms,
            until_ms=self._clock.at_ms(granted.deadline),
            statement=statement,
            document=document,
            keystore=released.granted.keystore,
        )
        return [(release, evidence), (in_force, evidence)]
