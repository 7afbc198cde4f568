"""Answers as two kinds of client see them, with the moment at which each piece arrived.

The tiny model writes one printable ASCII character a token, so characters are tokens.
"""

import itertools
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from anchorhold.attestation.channel.client import Delta, Finished
from anchorhold.client.sdk import Client, Settings
from anchorhold.client.trust import Trust

from .conftest import ROOT

READ = 65_536


@dataclass(slots=True)
class Arrivals:
    """When how many tokens came, by this machine's clock in milliseconds."""

    pieces: list[tuple[float, int]] = field(default_factory=list)

    def note(self, tokens: int) -> None:
        self.pieces.append((time.time_ns() / 1e6, tokens))

    @property
    def tokens(self) -> int:
        return sum(tokens for _, tokens in self.pieces)

    @property
    def first_ms(self) -> float:
        return self.pieces[0][0]

    @property
    def last_ms(self) -> float:
        return self.pieces[-1][0]

    @property
    def longest_gap_ms(self) -> float:
        """The longest wait between two pieces: at most so long did one token take on its way here."""
        return max((later - earlier for (earlier, _), (later, _) in itertools.pairwise(self.pieces)), default=0.0)


class SdkStream(threading.Thread):
    """One answer through the SDK, in a thread of its own."""

    def __init__(self, trust: Trust, question: str, max_tokens: int) -> None:
        super().__init__(daemon=True)
        self._trust, self._question, self._max_tokens = trust, question, max_tokens
        self.arrivals = Arrivals()
        self.finished: Finished | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with Client(self._trust) as client:
                for event in client.stream(self._question, Settings(max_tokens=self._max_tokens)):
                    if isinstance(event, Delta):
                        self.arrivals.note(len(event.text))
                    else:
                        self.finished = event
        except Exception as error:  # noqa: BLE001 - which one it is is what the test asks
            self.error = error


class CliStream(threading.Thread):
    """One answer through `anchorhold ask`, whose standard output is read as it comes."""

    def __init__(self, trust: Path, question: str, max_tokens: int, receipt: Path) -> None:
        super().__init__(daemon=True)
        command = [str(Path(sys.executable).parent / "anchorhold"), "ask", "--trust", str(trust)]
        self._process = subprocess.Popen(
            [*command, "--max-tokens", str(max_tokens), "--receipt", str(receipt), question],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        self.arrivals = Arrivals()
        self.said = ""
        self.code: int | None = None

    def run(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        while piece := os.read(self._process.stdout.fileno(), READ):
            # The new line that ends the text comes with the error; it is no token.
            if tokens := len(piece) - piece.count(b"\n"):
                self.arrivals.note(tokens)
        self.said = self._process.stderr.read().decode()
        self._process.stdout.close()
        self._process.stderr.close()
        self.code = self._process.wait()
