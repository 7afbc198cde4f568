"""The last resort: once the leases are over the process ends, whatever hangs (DESIGN 5, End).

A parent that lets one byte through in half a minute can hold the boot's own thread in a read, and an interpreter waits
for its threads at exit. So a thread of its own waits for the end of the leases and then gives everybody else a fixed
time; ending the process is the one wipe that needs nobody's help.
"""

import threading
from collections.abc import Callable

from anchorhold.enclave.keys.gate import Gate

LETTING_GO_S = 5.0  # before SERVING: for the boot's own thread to drop shares, key and buffers
WIPING_S = 12.0  # while SERVING: streams are cut within half a second, the engine's last step may take ten
ENDING_S = 15.0  # after the wipe: the last record is offered for five seconds, the rest is the interpreter's exit
OFFER_S = 1.0  # for the death record of a process that is ended here


class Backstop:
    """Watches one gate. `wiped` says in time that nothing secret is left; then only the exit is waited for."""

    def __init__(
        self,
        gate: Gate,
        *,
        offer: Callable[[float], None],
        end: Callable[[], None],
        letting_go_s: float = LETTING_GO_S,
        wiping_s: float = WIPING_S,
        ending_s: float = ENDING_S,
    ) -> None:
        """`offer` gives the death record its seconds and does not raise; `end` ends the process."""
        self._gate = gate
        self._offer = offer
        self._end = end
        self._letting_go_s = letting_go_s
        self._wiping_s = wiping_s
        self._ending_s = ending_s
        self._serving = threading.Event()
        self._wiped = threading.Event()

    def start(self) -> None:
        """Watch from now on."""
        threading.Thread(target=self._watch, name="backstop", daemon=True).start()

    def serving(self) -> None:
        """From now on the end has streams to cut and an engine to stop."""
        self._serving.set()

    def wiped(self) -> None:
        """Shares, keys, weights and caches are gone."""
        self._wiped.set()

    def _watch(self) -> None:
        self._gate.wait_end()
        if self._wiped.wait(self._wiping_s if self._serving.is_set() else self._letting_go_s):
            threading.Event().wait(self._ending_s)
        else:
            self._offer(OFFER_S)
        self._end()
