"""Runs one face over TLS. Says where only once it listens; logs no request."""

import socket
from functools import partial
from pathlib import Path

from anchorhold.authority.faces import Clock, face_of
from anchorhold.authority.keystore.secret_file import Ask
from anchorhold.authority.listening import announce, listen, make_server
from anchorhold.authority.tls import TlsFiles
from anchorhold.authority.workers import Tell, supervise


def serve(  # noqa: PLR0913 - what the command line says
    state_dir: Path,
    clock: Clock,
    *,
    host: str,
    port: int,
    ready_file: Path | None,
    workers: int = 1,
    tell: Tell = lambda _: None,
    ask: Ask | None = None,
) -> None:
    """Serve the face in `state_dir` until SIGINT or SIGTERM. Port 0 takes a free one; `ready_file` then says
    {"port": N}. Several workers cannot ask anybody for a PIN. Raises OSError, what the face's `make_app` raises, or
    WorkersFailed.
    """
    # Made here also where workers make their own: a state that cannot be served is refused before anybody is told.
    app = face_of(state_dir).make_app(state_dir, clock, ask if workers == 1 else None)
    server = make_server(app, TlsFiles.within(state_dir))
    with listen(host, port) as listener:
        if ready_file is not None:
            announce(ready_file, listener.getsockname()[1])
        if workers == 1:
            server.run(sockets=[listener])
        else:
            supervise(partial(serve_on, state_dir, clock), listener, workers, tell)


def serve_on(state_dir: Path, clock: Clock, listener: socket.socket) -> None:
    """Serve the face in `state_dir` on `listener`: what one worker does."""
    app = face_of(state_dir).make_app(state_dir, clock, None)
    make_server(app, TlsFiles.within(state_dir)).run(sockets=[listener])
