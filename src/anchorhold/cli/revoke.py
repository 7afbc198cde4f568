"""`anchorhold authority revoke|reinstate`: order it at either authority or both, then watch the enclaves obey.

Either authority alone suffices (DESIGN 12.8). At the KMS it is DisableKey, at the owner its admin API. The wait is
bounded by the longest lease plus ten seconds; what is printed about the end comes from the death record.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.kms.client import KmsClient, KmsFailed
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.cli import subject
from anchorhold.cli.deaths import Life, TranscriptUnreadable, lives
from anchorhold.cli.main import CommandError
from anchorhold.cli.target import Target, failed
from anchorhold.cli.times import moment_text, now_ms

LIMITS = 3
GRACE_S = 10.0  # past the lease: the wipe, the death record and the log
POLL_S = 0.25
SAY_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Ordered:
    """What the authorities answered. `lease_ttl_ms` is 0 where only a KMS was asked: it grants no lease of its own."""

    revoked_ms: Milliseconds
    lease_ttl_ms: int
    at: str
    failed: tuple[AdminFailed | KmsFailed, ...]


def run_revoke(options: argparse.Namespace) -> int:
    """Order the revocation; unless told not to, wait for the deaths and print the four times."""
    if (other := subject.named(options)) is not None:
        return subject.run(options, "revoke", other)
    target = Target.of(options)
    unread: TranscriptUnreadable | None = None
    alive: tuple[Life, ...] = ()
    try:
        alive = _alive(target)
    except TranscriptUnreadable as error:
        unread = error  # said at the end: a transcript out of order must not hold up a revocation
    ordered = order(target, options.at, options.reason)
    ttl_ms = max([ordered.lease_ttl_ms, *(life.ttl_ms for life in alive)])
    watched = options.wait and bool(alive)
    ended = _await_ends(target, {life.boot for life in alive}, ttl_ms / 1000 + options.grace) if watched else ()
    _print(target, options, ordered, ttl_ms, alive, ended)
    for failure in ordered.failed:
        raise failed(f"revoke: {failure} (done at the {ordered.at}, which suffices)", failure.code)
    if unread is not None:
        raise CommandError(f"transcript: {unread}; the revocation stands, its enclaves were not watched", code=LIMITS)
    return LIMITS if watched and (not ended or any(not life.ended for life in ended)) else 0


def run_reinstate(options: argparse.Namespace) -> int:
    """Undo a revocation: EnableKey at the KMS, the admin API at the owner."""
    if (other := subject.named(options)) is not None:
        return subject.run(options, "reinstate", other)
    target = Target.of(options)
    # Both are named before either is told, as for `revoke`.
    owner = target.owner() if options.at in ("owner", "both") else None
    kms = target.kms() if options.at in ("kms", "both") else None
    try:
        if owner is not None:
            owner.call("reinstate", {"model": target.model, "reason": options.reason})
        if kms is not None:
            _kms(kms, "EnableKey", target.key_arn)
    except (AdminFailed, KmsFailed) as error:
        raise failed(f"reinstate: {error}", error.code) from error
    done = {"model": target.model.hex(), "at": options.at, "reinstated_ms": now_ms()}
    print(json.dumps(done) if options.json else f"reinstated   {target.model.hex()} at {options.at}")
    return 0


def order(target: Target, where: str, reason: str) -> Ordered:
    """Tell the authorities. Raises CommandError where none took it."""
    # Both are named before either is told; then each is told, whatever the other answers: one alone suffices.
    owner = target.owner() if where in ("owner", "both") else None
    kms = target.kms() if where in ("kms", "both") else None
    done: dict[str, Milliseconds] = {}
    refused: list[AdminFailed | KmsFailed] = []
    ttl_ms = 0
    try:
        if owner is not None:
            answer = owner.call("revoke", {"model": target.model, "reason": reason})
            done["owner"] = Milliseconds(_whole(answer["at"]))
            ttl_ms = _whole(answer["ttl_ms"])
    except AdminFailed as error:
        refused.append(error)
    try:
        if kms is not None:
            _kms(kms, "DisableKey", target.key_arn)
            done["kms"] = now_ms()
    except KmsFailed as error:
        refused.append(error)
    if not done:
        raise failed(f"revoke: {'; '.join(str(error) for error in refused)}", refused[0].code)
    return Ordered(min(done.values()), ttl_ms, "both" if len(done) > 1 else next(iter(done)), tuple(refused))


def _kms(client: KmsClient, operation: str, key_arn: str) -> None:
    client.call(operation, {"KeyId": key_arn}, at=datetime.fromtimestamp(now_ms() / 1000, UTC))


def _alive(target: Target) -> tuple[Life, ...]:
    if target.transcript is None:
        return ()
    return tuple(life for life in lives(target.transcript, target.model) if life.serving(now_ms()))


def _await_ends(target: Target, boots: set[bytes], most_s: float) -> tuple[Life, ...]:
    assert target.transcript is not None  # boots came from it
    began = time.monotonic()
    until, say_at = began + most_s, began
    while True:
        try:
            watched = tuple(life for life in lives(target.transcript, target.model) if life.boot in boots)
        except TranscriptUnreadable:
            watched = ()  # the log is writing; it is looked at again
        now = time.monotonic()
        left = [life for life in watched if not life.ended]
        if watched and not left:
            return watched
        if now >= until:
            return watched
        if now >= say_at:
            say_at = now + SAY_EVERY_S
            waited = f"{now - began:.0f} s of at most {until - began:.0f} s"
            sys.stderr.write(f"waiting for {len(left) or len(boots)} enclave(s) to end: {waited}\n")
            sys.stderr.flush()
        time.sleep(POLL_S)


def _print(
    target: Target,
    options: argparse.Namespace,
    ordered: Ordered,
    ttl_ms: int,
    alive: tuple[Life, ...],
    ended: tuple[Life, ...],
) -> None:
    if options.json:
        print(json.dumps(_as_json(target, options, ordered, ttl_ms, alive, ended), indent=2))
        return
    lines = [
        f"lease length   {ttl_ms / 1000:.1f} s",
        f"revoked        {moment_text(ordered.revoked_ms)} at {ordered.at}",
    ]
    for life in ended:
        lines += _life_lines(life, ordered.revoked_ms)
    if target.transcript is None:
        lines.append("enclaves       not watched: no transcript was named (--transcript DIR)")
    elif not alive:
        lines.append("enclaves       none was serving this model, by the transcript")
    elif not options.wait:
        lines.append(f"enclaves       {len(alive)} serving; not waited for")
    print("\n".join(lines))


def _life_lines(life: Life, revoked: Milliseconds) -> list[str]:
    name = life.boot.hex()[:16]
    if life.death is None and life.adapter_end is not None:
        end = life.adapter_end
        said = f"adapter ended: {end.reason}{f' ({end.source})' if end.source else ''}"
        return [f"enclave        {name}: {said}", f"wiped          {_after(end.wiped_ms, revoked)}"]
    if life.death is None:
        word = "closed in order" if life.closed else "NO RECORD OF ITS END within the lease and the grace"
        return [f"enclave        {name}: {word}"]
    death = life.death
    token = "none was sent" if death.last_token_ms is None else _after(death.last_token_ms, revoked)
    return [
        f"enclave        {name}: {death.reason}{f' ({death.source})' if death.source else ''}",
        f"last token     {token}",
        f"wiped          {_after(death.wiped_ms, revoked)}",
    ]


def _after(moment: int, revoked: Milliseconds) -> str:
    seconds = (moment - revoked) / 1000
    side = "after" if seconds >= 0 else "before"
    return f"{moment_text(Milliseconds(moment))}, {abs(seconds):.1f} s {side} the revocation"


def _as_json(
    target: Target,
    options: argparse.Namespace,
    ordered: Ordered,
    ttl_ms: int,
    alive: tuple[Life, ...],
    ended: tuple[Life, ...],
) -> dict[str, object]:
    return {
        "model": target.model.hex(),
        "at": ordered.at,
        "failed": [str(error) for error in ordered.failed],
        "lease_ttl_ms": ttl_ms,
        "revoked_ms": ordered.revoked_ms,
        "serving": len(alive),
        "waited": bool(options.wait),
        "enclaves": [_death_json(life) for life in ended],
    }


def _death_json(life: Life) -> dict[str, object]:
    death = life.death
    end = death or life.adapter_end
    return {
        "boot": life.boot.hex(),
        "closed": life.closed,
        "reason": end.reason if end else None,
        "source": end.source if end else None,
        "lease_ttl_ms": death.lease_ttl_ms if death else None,
        "last_token_ms": death.last_token_ms if death else None,
        "wiped_ms": end.wiped_ms if end else None,
    }


def _whole(value: object) -> int:
    if type(value) is not int:
        raise AdminFailed("answer", f"expected a whole number, got {type(value).__name__}")
    return value
