"""A relay that keeps every byte: put between the parent and whoever it talks to, at each of its sockets.

One file a connection and direction. It changes nothing and adds no framing, so neither side can tell.
"""

import contextlib
import itertools
import socket
import threading
from collections import Counter
from pathlib import Path

BACKLOG = 64
PIECE = 256 * 1024
Address = str | tuple[str, int]


class Recording:
    """Relays that write into one folder. `close` ends them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.bytes: Counter[str] = Counter()
        """By relay and direction: `NAME.up` from who connects, `NAME.down` back."""
        self._numbers = itertools.count()
        self._listeners: list[socket.socket] = []
        self._lock = threading.Lock()

    def unix(self, name: str, listen: Path, target: Path) -> None:
        """Whoever connects to `listen` reaches `target`."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(listen))
        self._serve(name, listener, str(target))

    def tcp(self, name: str, target: str) -> str:
        """The address at which `target` (HOST:PORT) is reached from now on."""
        host, _, port = target.rpartition(":")
        listener = socket.create_server(("127.0.0.1", 0))
        self._serve(name, listener, (host, int(port)))
        return f"127.0.0.1:{listener.getsockname()[1]}"

    def close(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _serve(self, name: str, listener: socket.socket, target: Address) -> None:
        listener.listen(BACKLOG)
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(name, listener, target), daemon=True).start()

    def _accept(self, name: str, listener: socket.socket, target: Address) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(name, near, target), daemon=True).start()

    def _join(self, name: str, near: socket.socket, target: Address) -> None:
        far = socket.socket(socket.AF_UNIX if isinstance(target, str) else socket.AF_INET, socket.SOCK_STREAM)
        with near, far:
            try:
                far.connect(target)
            except OSError:
                return  # nobody there: who connected sees its connection close
            number = next(self._numbers)
            back = threading.Thread(target=self._pump, args=(f"{name}.down", number, far, near), daemon=True)
            back.start()
            self._pump(f"{name}.up", number, near, far)
            back.join()

    def _pump(self, way: str, number: int, source: socket.socket, sink: socket.socket) -> None:
        with (self.folder / f"{way}.{number}").open("xb") as kept, contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                # Kept before it is passed on: what the other side refuses has crossed all the same.
                kept.write(piece)
                kept.flush()
                with self._lock:
                    self.bytes[way] += len(piece)
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
