"""The recorder between keeper and scribe: a log that is away loses no entry, and a recorder that breaks says so."""

import contextlib
import queue
import threading
from collections.abc import Sequence

import pytest

from anchorhold.attestation.transcript.bodies import Anomaly, Body
from anchorhold.attestation.types import ModelDigest
from anchorhold.enclave.serve.recorder import MAX_WAITING, Recorder
from anchorhold.enclave.serve.scribe import LogBehind, LogContradiction, LogUnavailable

FIRST, SECOND = Anomaly("first", "", ""), Anomaly("second", "", "")


class Script:
    """The writing side of a scribe: raises what it is told to, in turn, and keeps what it took."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = queue.SimpleQueue[Exception]()
        for fault in faults:
            self.faults.put(fault)
        self.taken: list[Body] = []
        self.hold = threading.Event()
        self.hold.set()

    def write(self, body: Body, attachments: Sequence[bytes] = ()) -> None:
        self.hold.wait()
        try:
            raise self.faults.get_nowait()
        except queue.Empty:
            self.taken.append(body)


def recorder(script: Script, told: list[str]) -> Recorder:
    return Recorder(
        script,
        model=ModelDigest(b"m" * 48),
        purpose_class="serve",
        now_ms=lambda: 1_000,
        boottime=lambda: 1.0,
        on_fault=told.append,
        retry_s=0.01,
    )


def test_an_entry_the_scribe_could_not_sign_is_tried_again_and_keeps_its_place() -> None:
    script = Script(LogBehind("full"), LogBehind("full"))
    made = recorder(script, [])
    made.put(FIRST)
    made.put(SECOND)
    made.barrier(5)
    assert script.taken == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("fault", "code"), [(LogContradiction("lies"), "log-contradiction"), (ValueError("our own mistake"), "ValueError")]
)
def test_whatever_stops_an_entry_for_good_is_a_fault(fault: Exception, code: str) -> None:
    """A recorder whose thread died unseen would let leases go on that no transcript shows."""
    told: list[str] = []
    script = Script(fault, fault)
    made = recorder(script, told)
    made.put(FIRST)
    made.put(SECOND)
    with pytest.raises(LogUnavailable if code == "ValueError" else LogContradiction):
        made.barrier(0.5)
    assert set(told) == {code}
    assert script.taken == []


def test_a_full_recorder_refuses_and_closes_without_waiting() -> None:
    script = Script()
    script.hold.clear()
    made = recorder(script, [])
    with contextlib.suppress(LogUnavailable):
        for _ in range(MAX_WAITING + 1):  # the writing thread may hold one of them
            made.put(FIRST)
    with pytest.raises(LogUnavailable):
        made.put(SECOND)
    with pytest.raises(LogUnavailable):
        made.barrier(0.05)
    made.close()
    script.hold.set()
