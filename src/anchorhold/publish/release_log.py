"""Release statements into a log: each signed statement is a leaf; the log's answer is checked before it is kept.

The caller brings the log's key; the log's own word about itself counts for nothing.
"""

import http.client
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.bundle import BundledStatement, Inclusion, UnverifiedBundle
from anchorhold.attestation.transcript.append import MAX_REPLY, AppendReply, AppendRequest
from anchorhold.attestation.transcript.checkpoint import Checkpoint, Vkey
from anchorhold.attestation.transcript.tree import verify_consistency
from anchorhold.publish.errors import PublishError

TIMEOUT_S = 20  # a log answers once its disk has the record
PATH = "/append"

Append = Callable[[AppendRequest], AppendReply]
"""Hands one leaf to a log; the answer is not believed."""


class LogUnavailable(PublishError):
    """The log could not be reached, or will not take the statement."""

    code = "log-unavailable"


class LogRefused(PublishError):
    """The log answered with something its key does not stand for, or it forgot what it had shown before."""

    code = "log-refused"


def log_statements(bundle: UnverifiedBundle, append: Append, log: Vkey) -> UnverifiedBundle:
    """The bundle with a proof for every statement that has signatures and no proof under `log`.

    Each answer must extend the largest tree known so far, from this bundle or this run. Raises LogRefused.
    """
    known = max(
        (seen for one in bundle.statements if (seen := _seen(one, log))), key=lambda one: one.size, default=None
    )
    logged: list[BundledStatement] = []
    for one in bundle.statements:
        if _seen(one, log) is not None or not one.signed.signatures:
            logged.append(one)
            continue
        inclusion, known = _append(one, append, log, known)
        logged.append(replace(one, log=inclusion))
    return replace(bundle, statements=tuple(logged))


def http_append(url: str, ca: Path | None = None) -> Append:
    """`POST /append` at a log's address; plain http is enough, since the answer is signed. Raises PublishError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise PublishError(f"log: expected an http or https address, got {url!r}")
    host, port, secure = parts.hostname, parts.port, parts.scheme == "https"
    path = parts.path.rstrip("/") + PATH
    tls = ssl.create_default_context(cafile=None if ca is None else str(ca)) if secure else None

    def append(request: AppendRequest) -> AppendReply:
        connection = (
            http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
            if tls is None
            else http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=tls)
        )
        try:
            connection.request("POST", path, request.encode(), {"Content-Type": "application/cbor"})
            answer = connection.getresponse()
            raw = answer.read(MAX_REPLY + 1)
        except (OSError, http.client.HTTPException) as error:
            raise LogUnavailable(f"log at {url!r}: {type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            words = raw[:80].decode("ascii", "backslashreplace").strip()
            raise LogUnavailable(f"log at {url!r}: expected 200, got {answer.status}: {words!r}")
        try:
            return AppendReply.decode(raw)
        except EvidenceError as error:
            raise LogRefused(f"log at {url!r}: {error}") from error

    return append


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
