"""Runs an XKS face: in this process, or in several behind one listening socket (docs/spec/xks-face.md 12)."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.keystore.secret_file import Ask
from anchorhold.authority.listening import announce, listen
from anchorhold.authority.listening import make_server as make_tls_server
from anchorhold.authority.tls import TlsFiles
from anchorhold.authority.workers import Tell, supervise
from anchorhold.authority.xks.app import make_app
from anchorhold.authority.xks.desk_app import make_desk_app
from anchorhold.authority.xks.server import make_mtls_server, make_plain_server
from anchorhold.authority.xks.state import DATABASE, State


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served, and where. `plain` is HTTP without TLS, which takes a loopback `host`. It crosses processes."""

    state_dir: Path
    clock: Callable[[], Milliseconds]
    host: str
    port: int
    plain: bool = False
    workers: int = 1


def serve(serving: Serving, *, ready_file: Path | None, tell: Tell, ask: Ask | None = None) -> None:
    """Serve until SIGINT or SIGTERM. Port 0 takes a free one; `ready_file` then says {"port": N}.

    Several workers cannot ask anybody for a PIN. Raises NotLoopback, OSError, WorkersFailed and what `make_app` raises.
    """
    # Made here also where workers make their own: a state that cannot be served is refused before anybody is told.
    server = make_server(serving, ask if serving.workers == 1 else None)
    with listen(serving.host, serving.port) as listener:
        if ready_file is not None:
            announce(ready_file, listener.getsockname()[1])
        if serving.workers == 1:
            server.run(sockets=[listener])
        else:
            supervise(partial(serve_on, serving), listener, serving.workers, tell)


def serve_desk(serving: Serving, *, ready_file: Path | None, ask: Ask | None = None) -> None:
    """Serve the administration of the face's guard, in this process. Raises OSError and what `make_desk_app` raises."""
    app = make_desk_app(serving.state_dir, serving.clock, ask)
    server = make_tls_server(app, TlsFiles.within(serving.state_dir))
    with listen(serving.host, serving.port) as listener:
        if ready_file is not None:
            announce(ready_file, listener.getsockname()[1])
        server.run(sockets=[listener])


def serve_on(serving: Serving, listener: socket.socket) -> None:
    """Serve on `listener`: what one worker does."""
    make_server(serving, None).run(sockets=[listener])


def make_server(serving: Serving, ask: Ask | None) -> uvicorn.Server:
    """The face's server, over mTLS or plain. Raises NotLoopback, OSError and what `make_app` raises."""
    app = make_app(serving.state_dir, serving.clock, ask=ask, sharers=serving.workers)
    if serving.plain:
        return make_plain_server(app, serving.host)
    state = State.load(serving.state_dir / DATABASE)
    client_name = state.identity().client_name
    state.close()
    return make_mtls_server(app, serving.state_dir, client_name)
