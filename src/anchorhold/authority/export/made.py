"""The sinks that `exports.json` asks for, over one opened journal."""

import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.export.anchor import Anchor, Every, http_append
from anchorhold.authority.export.place import Place
from anchorhold.authority.export.settings import EVERY_ENTRIES, Export, read_secret
from anchorhold.authority.export.sinks import LineFile, Sink, Syslog
from anchorhold.authority.export.webhook import Webhook


def make_sinks(
    exports: Sequence[Export],
    place: Place,
    *,
    folder: Path,
    clock: Callable[[], Milliseconds],
    ending: threading.Event,
) -> dict[str, Sink]:
    """By name. Raises ExportsInvalid or OSError for a secret that cannot be read."""
    return {export.name: _sink(export, place, folder, clock, ending) for export in exports}


def make_webhook(export: Export, folder: Path, clock: Callable[[], Milliseconds], ending: threading.Event) -> Webhook:
    """One webhook. Raises ExportsInvalid or OSError."""
    assert export.secret is not None, "a webhook's settings name its secret"
    dead = folder / f"{export.name}.dead.jsonl"
    return Webhook(export.target, read_secret(export.secret), dead, ca=export.ca, clock=clock, pause=ending.wait)


def _sink(
    export: Export, place: Place, folder: Path, clock: Callable[[], Milliseconds], ending: threading.Event
) -> Sink:
    if export.kind == "file":
        return LineFile(Path(export.target), export.form)
    if export.kind == "syslog":
        return Syslog(export.target, export.form, socket.gethostname())
    if export.kind == "webhook":
        return make_webhook(export, folder, clock, ending)
    assert export.log_key is not None, "a log's settings name its key"
    return Anchor(
        place.identity.authority,
        place.signing,
        export.log_key,
        http_append(export.target, export.ca),
        Every(EVERY_ENTRIES, export.every_s * 1000),
        folder / f"{export.name}.checkpoint",
    )
