"""A listening socket, and a server on it that speaks TLS only and says nothing about its callers."""

import json
import socket
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from anchorhold.authority.tls import TlsFiles

BACKLOG = 128
IDLE_SECONDS = 15  # an idle connection is closed; callers reconnect
SHUTDOWN_SECONDS = 5


def listen(host: str, port: int) -> socket.socket:
    """A listening socket: from here on callers are queued, not refused. Raises OSError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def announce(ready_file: Path, port: int) -> None:
    """Say on which port a face listens."""
    fresh = ready_file.with_name(ready_file.name + ".new")
    fresh.write_text(json.dumps({"port": port}))
    fresh.replace(ready_file)  # atomic: a reader sees the whole file or none


def make_server(app: Starlette, tls_files: TlsFiles) -> uvicorn.Server:
    """A server that speaks TLS only and says nothing about its callers. Raises OSError for unreadable files."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        ssl_certfile=str(tls_files.certificate),
        ssl_keyfile=str(tls_files.key),
    )
    config.load()
    return uvicorn.Server(config)
