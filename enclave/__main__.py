"""The enclave's process: wiring, and the one place where a failure becomes an exit code and one line on the console.

The console is the parent's in debug mode and nobody's otherwise; a line holds a code and public values, never content.
"""

import gc
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from anchorhold.attestation.configuration import SERVE_CLASS
from anchorhold.attestation.errors import EvidenceError
from anchorhold.enclave.boot import Launch, boot
from anchorhold.enclave.keys.clock import ClockDoubt
from anchorhold.enclave.keys.lease import LeaseEnded
from anchorhold.enclave.keys.source import SourceError
from anchorhold.enclave.life import Life
from anchorhold.enclave.model.engine import ModelRefused
from anchorhold.enclave.nsm.module import NsmClient, NsmError
from anchorhold.enclave.nsm.nitro import open_nitro
from anchorhold.enclave.nsm.socket import open_inherited
from anchorhold.enclave.phases import PhaseError, Phases, Step
from anchorhold.enclave.resealing import Resealing
from anchorhold.enclave.serve.egress import Ledger
from anchorhold.enclave.serve.log_errors import LogContradiction, LogUnavailable
from anchorhold.enclave.serve.transport import UnixWindow, VsockWindow, Window

EXIT_REFUSED = 4  # before SERVING: something did not hold, and nothing was served
_EXPECTED = (
    EvidenceError,
    SourceError,
    LogUnavailable,
    LogContradiction,
    LeaseEnded,
    ClockDoubt,
    NsmError,
    ModelRefused,
    PhaseError,
    OSError,
)


def main(argv: Sequence[str]) -> int:
    """Run one boot to its end; the exit code ends the enclave."""
    # What was imported stays for good: a full collection that walks it again costs a fifth of a second each time.
    gc.freeze()
    phases, ledger = Phases(), Ledger()
    doubt = _Doubt()
    try:
        booted = boot(_launch(argv), phases, ledger, doubt.raised)
        life = Life(booted) if booted.configuration.purpose_class == SERVE_CLASS else Resealing(booted)
        doubt.attach(life)
        return life.run()
    except _EXPECTED as error:
        reached = phases.now.name
        phases.take(Step.FAILED)
        sys.stderr.write(f"anchorhold enclave: {type(error).__name__} in {reached}: {error}\n")
        return EXIT_REFUSED


class _Doubt:
    """Clock doubt closes the gate; before there is a gate, the boot itself fails by the same error."""

    def __init__(self) -> None:
        self._life: Life | Resealing | None = None
        self._lock = threading.Lock()

    def attach(self, life: Life | Resealing) -> None:
        with self._lock:
            self._life = life

    def raised(self, code: str) -> None:
        with self._lock:
            if self._life is not None:
                self._life.gate.clock_doubt(code)


def _launch(argv: Sequence[str]) -> Launch:
    options = dict(zip(argv[::2], argv[1::2], strict=True))
    nsm: NsmClient
    window: Window
    if "--nsm-fd" in options:
        nsm, window = open_inherited(int(options["--nsm-fd"])), UnixWindow(Path(options["--window"]))
    else:
        nsm, window = open_nitro(), VsockWindow()
    return Launch(Path(options["--image"]), nsm, window)
