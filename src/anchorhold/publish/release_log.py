"""Release statements into a log: each signed statement is a leaf; the log's answer is checked before it is kept.

The caller brings the log's key; the log's own word about itself counts for nothing.
"""

import http.client
import queue
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.bundle import BundledStatement, Inclusion, UnverifiedBundle
from anchorhold.attestation.transcript.append import MAX_REPLY, AppendReply, AppendRequest
from anchorhold.attestation.transcript.checkpoint import Checkpoint, Vkey
from anchorhold.attestation.transcript.tree import verify_consistency
from anchorhold.publish.errors import PublishError

TIMEOUT_S = 20.0  # of one exchange as a whole; a log answers once its disk has the record
PATH = "/append"

Append = Callable[[AppendRequest], AppendReply]
"""Hands one leaf to a log; the answer is not believed."""


class LogUnavailable(PublishError):
    """The log could not be reached, or will not take the statement."""

    code = "log-unavailable"


class LogRefused(PublishError):
    """The log answered with something its key does not stand for, or it forgot what it had shown before."""

    code = "log-refused"


Keep = Callable[[UnverifiedBundle], None]
"""Takes the bundle each time it has one more proof."""


def log_statements(bundle: UnverifiedBundle, append: Append, log: Vkey, keep: Keep | None = None) -> UnverifiedBundle:
    """The bundle with a proof for every statement that has signatures and no proof under `log`.

    Each answer must extend the largest tree known so far, from this bundle or this run. What fails at one statement
    leaves the proofs before it with `keep`: a leaf sent again is another leaf. Raises LogRefused.
    """
    known = max(
        (seen for one in bundle.statements if (seen := _seen(one, log))), key=lambda one: one.size, default=None
    )
    for number, one in enumerate(bundle.statements):
        if _seen(one, log) is not None or not one.signed.signatures:
            continue
        inclusion, known = _append(one, append, log, known)
        logged = replace(one, log=inclusion)
        bundle = replace(bundle, statements=(*bundle.statements[:number], logged, *bundle.statements[number + 1 :]))
        if keep is not None:
            keep(bundle)
    return bundle


def http_append(url: str, ca: Path | None = None, *, timeout_s: float = TIMEOUT_S) -> Append:
    """`POST /append` at a log's address; plain http is enough, since the answer is signed. Raises PublishError."""
    parts, port = _address(url)
    tls = ssl.create_default_context(cafile=None if ca is None else str(ca)) if parts.scheme == "https" else None
    host, path = parts.hostname or "", parts.path.rstrip("/") + PATH

    def append(request: AppendRequest) -> AppendReply:
        connection = (
            http.client.HTTPConnection(host, port, timeout=timeout_s)
            if tls is None
            else http.client.HTTPSConnection(host, port, timeout=timeout_s, context=tls)
        )
        try:
            status, raw = _exchange(connection, path, request.encode(), timeout_s)
        # Of one read or of the whole: whichever is noticed first.
        except (TimeoutError, queue.Empty) as error:
            raise LogUnavailable(f"log at {url!r}: expected a whole answer within {timeout_s:g} s") from error
        # ValueError: a host or a path that the protocol cannot write.
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LogUnavailable(f"log at {url!r}: {type(error).__name__}") from error
        if status != http.client.OK:
            words = raw[:80].decode("ascii", "backslashreplace").strip()
            raise LogUnavailable(f"log at {url!r}: expected 200, got {status}: {words!r}")
        try:
            return AppendReply.decode(raw)
        except EvidenceError as error:
            raise LogRefused(f"log at {url!r}: {error}") from error

    return append


_Answer = tuple[int, bytes]


def _address(url: str) -> tuple[SplitResult, int]:
    # Before anything repeats the address: what stands before an @ may be a password, whatever else is wrong with it.
    if "@" in url:
        raise PublishError("log: expected an address without a user or a password: a log asks for none")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise PublishError(f"log: expected an http or https address, got {url!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PublishError(f"log: expected an http or https address, got {url!r}")
    if port == 0:
        raise PublishError(f"log: expected a port from 1 to 65535, got {url!r}")
    return parts, port or (http.client.HTTPS_PORT if parts.scheme == "https" else http.client.HTTP_PORT)


def _exchange(connection: http.client.HTTPConnection, path: str, body: bytes, timeout_s: float) -> _Answer:
    """Status and body. Raises what the connection raises, or queue.Empty once `timeout_s` is over."""
    done: queue.Queue[_Answer | Exception] = queue.Queue()

    def talk() -> None:
        try:
            connection.request("POST", path, body, {"Content-Type": "application/cbor"})
            answer = connection.getresponse()
            done.put((answer.status, answer.read(MAX_REPLY + 1)))
        except Exception as error:  # noqa: BLE001  # raised again below, in the caller's thread
            done.put(error)
        finally:
            connection.close()

    # A socket's timeout is of one read; who sends a byte at a time would hold us for as long as they like.
    threading.Thread(target=talk, name="log-append", daemon=True).start()
    answer = done.get(timeout=timeout_s)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _seen(one: BundledStatement, log: Vkey) -> Checkpoint | None:
    if one.log is None:
        return None
    try:
        one.log.verify(one.signed.encode(), log)
        return log.open_checkpoint(one.log.checkpoint)
    except EvidenceError:
        return None


def _append(one: BundledStatement, append: Append, log: Vkey, known: Checkpoint | None) -> tuple[Inclusion, Checkpoint]:
    leaf = one.signed.encode()
    reply = append(AppendRequest(leaf, (), 0 if known is None else known.size))
    inclusion = Inclusion(reply.index, reply.checkpoint, reply.proof)
    try:
        # 1. The statement is in the tree that the log's key signs.
        inclusion.verify(leaf, log)
        # 2. That tree extends the one seen before.
        checkpoint = log.open_checkpoint(reply.checkpoint)
        if known is not None:
            verify_consistency(known.size, checkpoint.size, known.root, checkpoint.root, reply.consistency)
    except EvidenceError as error:
        raise LogRefused(f"log {log.name!r}: {error}") from error
    return inclusion, checkpoint
