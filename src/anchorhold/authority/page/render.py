"""Snapshots as one HTML page: no script, everybody else's words escaped, each state in words and not by colour."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from anchorhold.authority.page.snapshot import ApprovalRow, DenialRow, KeyRow, LeaseRow, Snapshot

MAX_SHOWN = 96  # characters of a name or a digest in a table; the whole stands in its title
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Key authority</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/page.css"></head><body>
<a class="skip" href="#main">Skip to the authorities</a>
<header><h1>Key authority</h1>
<p>Read only: nothing can be changed from this page. <a href="/">Show it as it is now</a></p></header>
<main id="main" tabindex="-1">
"""
_FOOT = "</main></body></html>\n"


def render(snapshots: Sequence[Snapshot]) -> str:
    """The whole page."""
    return _HEAD + "".join(_face(at, one) for at, one in enumerate(snapshots)) + _FOOT


def _face(at: int, snapshot: Snapshot) -> str:
    state, words = _state(snapshot)
    parts = [
        f'<section aria-labelledby="face-{at}" class="{state}"><h2 id="face-{at}">{_said(snapshot.title)}</h2>',
        f'<p class="state"><strong>{_said(words)}</strong></p>',
        f"<p>As of {_time(snapshot.now)}</p>" if snapshot.now else "",
    ]
    parts += [f'<p class="trouble">Not shown: {_said(trouble)}</p>' for trouble in snapshot.troubles]
    if snapshot.facts:
        facts = "".join(f"<dt>{_said(name)}</dt><dd>{_said(value)}</dd>" for name, value in snapshot.facts)
        parts.append(f"<dl>{facts}</dl>")
    parts += [
        _table("Keys", ("key", "kind", "state"), [_key(row) for row in snapshot.keys]),
        _table("Leases", ("model", "last lease ends", "state"), [_lease(row, snapshot.now) for row in snapshot.leases]),
        _table(
            "Approvals waiting",
            ("kind", "subject", "signatures", "until"),
            [_approval(row) for row in snapshot.approvals],
        ),
        _table(
            "Last denials",
            ("time", "rule", "operation", "principal", "key", "detail"),
            [_denial(row) for row in snapshot.denials],
        ),
        "</section>",
    ]
    return "".join(parts)


def _state(snapshot: Snapshot) -> tuple[str, str]:
    if snapshot.killed is not None:
        return "stopped", f"Killed: every use is refused until a quorum re-arms it ({snapshot.killed})"
    if snapshot.latched:
        return "stopped", "Latched: its journal could not be written, so nothing is served until an operator has looked"
    if snapshot.armed is None or snapshot.latched is None:
        return "unknown", "Unknown: whether it serves could not be read"
    return "serving", "Armed: uses are decided by its policy"


def _table(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return f"<h3>{title}</h3><p>None.</p>"
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>" for line in lines)
    return (
        f'<h3>{title}</h3><div class="wide" tabindex="0" role="region" aria-label="{title}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _key(row: KeyRow) -> tuple[str, ...]:
    return _said(row.name), _said(row.kind), _said(row.state)


def _lease(row: LeaseRow, now: int) -> tuple[str, ...]:
    until = "none was given" if not row.last_not_after else _time(row.last_not_after)
    if row.revoked_at is None:
        state = "granted on renewal" if row.last_not_after > now else "no lease runs"
    else:
        silent = row.last_not_after <= now
        state = f"REVOKED {_time(row.revoked_at)}" + (", silent" if silent else ", last lease still runs")
    return f"{_said(row.model)} {_said(row.digest[:16])}", until, state


def _approval(row: ApprovalRow) -> tuple[str, ...]:
    return _said(row.kind), _said(row.subject), f"{row.have} of {row.need}", _time(row.not_after)


def _denial(row: DenialRow) -> tuple[str, ...]:
    return (
        _time(row.at), f"<code>{_said(row.rule)}</code>", _said(row.operation), _said(row.principal), _said(row.key),
        _said(row.detail),
    )  # fmt: skip


def _time(milliseconds: int) -> str:
    try:
        at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"
    stamp = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    return f'<time datetime="{at.isoformat(timespec="seconds")}">{stamp}</time>'


def _said(words: str) -> str:
    """Somebody else's words as text, without control characters, cut where they are long."""
    plain = "".join(char if char.isprintable() else "\ufffd" for char in words)
    if len(plain) <= MAX_SHOWN:
        return escape(plain)
    return f'<span title="{escape(plain[:2048])}">{escape(plain[:MAX_SHOWN])}\u2026</span>'
