"""`exports.json` in an authority's state folder: where its journal goes. Read strictly; a secret is named by its file.

{"version": 1, "exports": [
  {"name": "siem", "to": "syslog", "address": "tcp://siem.internal:601", "form": "ocsf"},
  {"name": "archive", "to": "file", "path": "/var/log/anchorhold/owner.jsonl", "form": "signed"},
  {"name": "pager", "to": "webhook", "url": "https://alerts.internal/in", "secret": "/etc/pager.key"},
  {"name": "log", "to": "log", "url": "https://log.internal", "key": "log.example+1234abcd+AZ...", "every_s": 300}]}
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.authority.export.sinks import FORMS
from anchorhold.authority.kms.strict_json import loads

FILE = "exports.json"
VERSION = 1
MAX_FILE = 65_536
MAX_EXPORTS = 16  # each is a thread
MAX_TEXT = 1_024
SECRET_BYTES = (16, 1_024)  # of a webhook's secret; a shorter one could be guessed
EVERY_ENTRIES = 1_000  # a head is given to the log at least so often
EVERY_S = (10, 86_400)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_SYSLOG = re.compile(r"(udp|tcp)://(\[[0-9a-f:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}|unix:/.+")
_MEMBERS = {
    "file": {"path", "form"},
    "syslog": {"address", "form"},
    "webhook": {"url", "secret", "ca"},
    "log": {"url", "key", "ca", "every_s"},
}
_OPTIONAL = {"ca", "every_s"}


class ExportsInvalid(Exception):
    """`exports.json` does not say, in the one form it has, where the journal goes."""


@dataclass(frozen=True, slots=True)
class Export:
    """One way out. `target` is a path, an address or a URL; the rest is there where its kind has it."""

    name: str
    kind: str
    target: str
    form: str = "signed"
    secret: Path | None = None
    ca: Path | None = None
    log_key: Vkey | None = None
    every_s: int = 300


def read_exports(state_dir: Path) -> tuple[Export, ...]:
    """What the file says; none where there is no file. Raises ExportsInvalid or OSError."""
    path = state_dir / FILE
    if not path.exists():
        return ()
    raw = path.read_bytes()
    if len(raw) > MAX_FILE:
        raise ExportsInvalid(f"{FILE}: expected at most {MAX_FILE} bytes, got {len(raw)}")
    try:
        value = loads(raw)
    except ValueError as error:
        raise ExportsInvalid(f"{FILE}: not a JSON document") from error
    if not isinstance(value, dict) or value.keys() != {"version", "exports"} or value["version"] != VERSION:
        raise ExportsInvalid(f'{FILE}: expected {{"version": {VERSION}, "exports": [...]}}')
    members = value["exports"]
    if not isinstance(members, list) or len(members) > MAX_EXPORTS:
        raise ExportsInvalid(f"{FILE}: exports: expected a list of at most {MAX_EXPORTS}")
    exports = tuple(_export(member, at) for at, member in enumerate(members))
    if len({export.name for export in exports}) != len(exports):
        raise ExportsInvalid(f"{FILE}: a name stands twice")
    return exports


def read_secret(path: Path) -> bytes:
    """A webhook's secret. Raises ExportsInvalid or OSError."""
    secret = path.read_bytes().strip()
    least, most = SECRET_BYTES
    if not least <= len(secret) <= most:
        raise ExportsInvalid(f"secret of a webhook: expected {least} to {most} bytes, got {len(secret)}")
    return secret


def _export(member: object, at: int) -> Export:
    where = f"{FILE}: export {at}"
    if not isinstance(member, dict) or member.get("to") not in _MEMBERS:
        raise ExportsInvalid(f"{where}: expected an object whose `to` is one of {', '.join(_MEMBERS)}")
    kind = member["to"]
    members = member.keys() - {"name", "to"}
    if not _MEMBERS[kind] - _OPTIONAL <= members <= _MEMBERS[kind]:
        raise ExportsInvalid(
            f"{where}: expected name, to, {', '.join(sorted(_MEMBERS[kind]))}, got {sorted(members)!r:.200}"
        )
    name = _text(member, "name", where)
    if not _NAME.fullmatch(name):
        raise ExportsInvalid(f"{where}: name: expected 1 to 32 of a-z, 0-9 and -, got {name!r:.40}")
    form = _text(member, "form", where) if "form" in members else "signed"
    if form not in FORMS:
        raise ExportsInvalid(f"{where}: form: expected one of {', '.join(FORMS)}, got {form!r:.40}")
    return Export(
        name,
        kind,
        _target(kind, member, where),
        form,
        Path(_text(member, "secret", where)) if kind == "webhook" else None,
        Path(_text(member, "ca", where)) if "ca" in members else None,
        _key(member, where) if kind == "log" else None,
        _every(member.get("every_s", 300), where),
    )


def _target(kind: str, member: Mapping[str, object], where: str) -> str:
    target = _text(member, {"file": "path", "syslog": "address"}.get(kind, "url"), where)
    if kind == "file" and not Path(target).is_absolute():
        raise ExportsInvalid(f"{where}: path: expected an absolute one, got {target!r:.80}")
    if kind == "syslog" and not _SYSLOG.fullmatch(target):
        raise ExportsInvalid(
            f"{where}: address: expected udp://HOST:PORT, tcp://HOST:PORT or unix:PATH, got {target!r:.80}"
        )
    if kind in ("webhook", "log"):
        _check_url(target, where, plain=kind == "log")
    return target


def _check_url(url: str, where: str, *, plain: bool) -> None:
    if "@" in url:
        raise ExportsInvalid(f"{where}: url: expected no user and no password in it")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ExportsInvalid(f"{where}: url: not an address") from error
    if not host or parts.scheme not in ("https", "http"):
        raise ExportsInvalid(f"{where}: url: expected https://HOST..., got {url!r:.80}")
    # A log's answer is signed; an alert is not, and says what an attacker would like to hear.
    if parts.scheme == "http" and not plain and not _loopback(host):
        raise ExportsInvalid(f"{where}: url: http is for loopback alone, got {url!r:.80}")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _key(member: Mapping[str, object], where: str) -> Vkey:
    try:
        return Vkey.parse(_text(member, "key", where))
    except EvidenceError as error:
        raise ExportsInvalid(f"{where}: key: {error}") from error


def _every(value: object, where: str) -> int:
    least, most = EVERY_S
    if type(value) is not int or not least <= value <= most:
        raise ExportsInvalid(f"{where}: every_s: expected {least} to {most}, got {value!r:.20}")
    return value


def _text(member: Mapping[str, object], name: str, where: str) -> str:
    value = member.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT:
        raise ExportsInvalid(f"{where}: {name}: expected text of 1 to {MAX_TEXT} characters")
    return value
