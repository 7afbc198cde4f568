"""The routes of a guard's administration: POST /v1/admin/guard/NAME, canonical CBOR in and out, a bearer token each.

Mounted on every face. A stranger gets 401; an operator whose role does not have the act gets 403 and is journaled.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.authority.admin import desk
from anchorhold.authority.admin.desk import Act, ActRefused, Desk, Fields
from anchorhold.authority.guard.operators import Operator
from anchorhold.authority.guard.roles import may
from anchorhold.authority.place import StateRefused

CBOR = "application/cbor"
PREFIX = "/v1/admin/guard/"
MAX_BODY = 262_144  # bytes; a report of 4,000 request ids
OK, BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, TOO_LARGE, UNAVAILABLE = 200, 400, 401, 403, 413, 503
KILL = "guard:Kill"
UNWRITTEN = "the switch is set on this host and holds, but perhaps no entry says whose word that was: kill again"
T = TypeVar("T")
_THREADS = ThreadPoolExecutor(8, thread_name_prefix="desk")
Shape = Mapping[str, type | tuple[type, ...]]


class KilledUnwritten(Exception):
    """The kill holds on this host, and could not be committed for the others."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One route: the act it is to roles, what its body has, and what does it."""

    act: str
    shape: Shape
    run: Callable[[Act], Fields]


ENTRIES: Mapping[str, Entry] = {
    "show": Entry("guard:Show", {}, desk.show),
    "put": Entry("guard:PutPolicy", {"policy": str}, desk.put_policy),
    "kill": Entry(KILL, {"reason": str}, desk.kill),
    "rearm": Entry("guard:Rearm", {}, desk.rearm),
    "acknowledge": Entry("guard:Acknowledge", {}, desk.acknowledge),
    "propose": Entry("guard:Propose", {"kind": str, "details": dict, "valid_ms": int, "max_uses": int}, desk.propose),
    "approvals": Entry("guard:Approvals", {}, desk.approvals),
    "approve": Entry("guard:Approve", {"id": bytes, "signature": bytes}, desk.approve),
    "ticket": Entry("guard:Ticket", {"ticket": bytes}, desk.ticket),
    "starts": Entry("guard:Starts", {"subject": str, "valid_ms": int}, desk.starts),
    "requests": Entry("guard:Requests", {"ids": list}, desk.requests),
    "operators": Entry("guard:Show", {}, desk.operators),
    "operator-add": Entry("guard:Operators", {"name": str, "role": str}, desk.operator_add),
    "operator-remove": Entry("guard:Operators", {"name": str}, desk.operator_remove),
    "denials": Entry("guard:Denials", {}, desk.denials),
}


def guard_routes(at: Desk, keys: Callable[[Act], Fields] | None = None) -> list[Route]:
    """The routes of one face's guard; `keys` tells which keys the face has, where nothing else of it does."""
    entries = dict(ENTRIES) if keys is None else {**ENTRIES, "keys": Entry("guard:Show", {}, keys)}
    return [Route(PREFIX + name, _endpoint(at, entry), methods=["POST"]) for name, entry in entries.items()]


def bearer(request: Request) -> str:
    """The token a request brings, or nothing."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def run(at: Desk, entry: Entry, operator: Operator, body: bytes) -> Fields:
    """Do one act and commit it. Raises ActRefused, KilledUnwritten, EvidenceError, SQLAlchemyError or StateRefused."""
    fields = canonical.decode_map(body, "body", limit=MAX_BODY, fields=entry.shape)
    if not may(operator.role, entry.act):
        now = at.clock()
        with at.transaction() as connection:
            refused = {"operator": operator.name, "role": operator.role.value, "act": entry.act, "rule": "guard-role"}
            at.journal.append(connection, now, "guard-deny", refused)
        raise ActRefused("guard-role", f"{entry.act} is no act of this role: {operator.role.value}")
    if entry.act == KILL:
        return _kill(at, operator, fields)
    with at.transaction() as connection:
        answer = entry.run(Act(at, connection, operator, fields, at.clock()))
    # Only now is it on disk: a latch that opened before could be open without its entry.
    if entry.act == "guard:Acknowledge":
        at.guard.latch.open()
    return answer


def _kill(at: Desk, operator: Operator, fields: Fields) -> Fields:
    now = at.clock()  # it is of the moment it was set at
    left = at.guard.kill_at_once(at.snapshot, desk.kill_reason(fields), now)
    try:
        with at.transaction() as connection:
            return desk.kill(Act(at, connection, operator, fields, now))
    except (SQLAlchemyError, StateRefused, OSError) as error:
        if left is not None and at.guard.kill_file.kill() == left:
            raise KilledUnwritten from error
        raise


async def at_desk(work: Callable[..., T], *arguments: object) -> T:
    """In a thread of the desk's own: a flood of requests for keys takes none of them."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work, *arguments)


def _endpoint(at: Desk, entry: Entry) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                return _reply(TOO_LARGE, {"code": "too-large"})
        return await at_desk(_answer, at, entry, bearer(request), bytes(body))

    return endpoint


def _answer(at: Desk, entry: Entry, token: str, body: bytes) -> Response:
    try:
        operator = at.operator(token)
        if operator is None:
            return _reply(UNAUTHORIZED, {"code": "unauthorized"})
        return _reply(OK, run(at, entry, operator, body))
    except ActRefused as refusal:
        return _reply(FORBIDDEN, {"code": refusal.code, "detail": refusal.detail})
    except EvidenceError as error:
        return _reply(BAD_REQUEST, {"code": error.code, "detail": str(error)})
    except KilledUnwritten:
        return _reply(UNAVAILABLE, {"code": "guard-kill-unwritten", "detail": UNWRITTEN})
    except (SQLAlchemyError, StateRefused, OSError):
        # Nothing was committed, or a switch could not be moved and stays as it was; or the mark could not follow.
        return _reply(UNAVAILABLE, {"code": "unavailable"})


def _reply(status: int, fields: Fields) -> Response:
    return Response(canonical.encode(fields), status, media_type=CBOR)
