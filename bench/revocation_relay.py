"""A TCP relay whose operator may hold everything back or slow it down: what a parent can do to an authority."""

import socket
import threading
import time
from contextlib import suppress

PIECE = 65_536


class Relay:
    """In front of one port of this machine. `cut` swallows what comes and closes nothing, as a partition does."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.cut = False
        self.delay_s = 0.0
        """Before each piece, either way."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def connect(self) -> socket.socket:
        """A connection through it."""
        return socket.create_connection(("127.0.0.1", self.port))

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(near,), daemon=True).start()

    def _relay(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        threading.Thread(target=self._pump, args=(far, near), daemon=True).start()
        self._pump(near, far)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE):
                time.sleep(self.delay_s)
                if not self.cut:
                    sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
