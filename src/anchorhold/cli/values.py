"""Values on the command line: numbers with their limits and units, addresses, digests. Each says what it expects."""

import argparse
import errno
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from anchorhold.attestation.channel.tenant import MAX_QUOTA_REQUESTS, MAX_QUOTA_SECONDS
from anchorhold.attestation.types import SHA384_BYTES, ModelDigest
from anchorhold.cli.main import CommandError

MAX_PORT = 65_535
MAX_MODEL_NAME = 128  # characters: it stands in a URL and in every answer
_CANNOT_LISTEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number within limits."""

    def read(text: str) -> int:
        value = int(text) if text.isascii() and text.lstrip("-").isdecimal() and len(text) < 20 else None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, got {text!r}")
        return value

    return read


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A time in seconds within limits."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # never true of NaN
            raise argparse.ArgumentTypeError(f"expected seconds from {low:g} to {high:g}, got {text!r}")
        return value

    return read


def address(text: str) -> tuple[str, int]:
    """HOST:PORT; an IPv6 host in brackets."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or len(port) > 5 or int(port) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}")
    return host.strip("[]"), int(port)


def listen(text: str) -> str:
    """HOST:PORT, as text."""
    address(text)
    return text


def approver(text: str) -> tuple[str, str]:
    """NAME=HEX: somebody, and the Ed25519 public key that speaks for them."""
    name, _, key = text.partition("=")
    if not name or not name.isprintable() or not re.fullmatch(r"[0-9a-f]{64}", key):
        raise argparse.ArgumentTypeError(f"expected NAME=HEX with 64 hex digits, got {text!r:.100}")
    return name, key


def named_adapter(text: str) -> tuple[str, ModelDigest]:
    """NAME=HEX: what callers call it, and an adapter's digest."""
    name, _, digest = text.rpartition("=")
    if not name or not name.isprintable() or len(name) > MAX_MODEL_NAME:
        raise argparse.ArgumentTypeError(
            f"expected NAME=HEX, a name of 1 to {MAX_MODEL_NAME} characters, got {text!r:.200}"
        )
    return name, model_digest(digest)


def quota(text: str) -> dict[str, int]:
    """N/SECONDS: so many requests in that time."""
    requests, _, seconds_ = text.partition("/")
    try:
        return {"requests": whole(1, MAX_QUOTA_REQUESTS)(requests), "seconds": whole(1, MAX_QUOTA_SECONDS)(seconds_)}
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"expected N/SECONDS, as 600/60: {error}") from error


def model_digest(text: str) -> ModelDigest:
    """A model's D in hex, or an adapter's."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != SHA384_BYTES:
        raise argparse.ArgumentTypeError(f"expected {2 * SHA384_BYTES} hex digits, got {text!r:.120}")
    return ModelDigest(raw)


@contextmanager
def listening(where: str) -> Iterator[None]:
    """An address that is taken, or not ours, is said with its name. Raises CommandError."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _CANNOT_LISTEN:
            words = os.strerror(error.errno).lower()
            raise CommandError(f"cannot listen on {where}: {words}", hint="another --listen HOST:PORT") from error
        raise
