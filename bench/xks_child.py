"""An XKS face in a process of its own: SoftHSM, SQLite, mTLS. Prints its port, serves until its stdin ends."""

import socket
import sys
import threading
import time
from pathlib import Path

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.xks.app import make_app
from anchorhold.authority.xks.server import make_mtls_server


def main(folder: Path, client_name: str) -> None:
    server = make_mtls_server(make_app(folder, lambda: Milliseconds(time.time_ns() // 1_000_000)), folder, client_name)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        threading.Thread(target=_until_closed, args=(server,), daemon=True).start()
        server.run(sockets=[listener])


def _until_closed(server: object) -> None:
    sys.stdin.read()
    server.should_exit = True  # type: ignore[attr-defined]  # uvicorn's


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
