"""The routes of a guard's administration: POST /v1/admin/guard/NAME, canonical CBOR in and out, a bearer token each.

Mounted on every face. A stranger gets 401; an operator whose role does not have the act gets 403 and is journaled.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.admin import desk
from anchorhold.authority.admin.desk import Act, ActRefused, Desk, Fields
from anchorhold.authority.guard.operators import Operator
from anchorhold.authority.guard.roles import may

CBOR = "application/cbor"
PREFIX = "/v1/admin/guard/"
MAX_BODY = 262_144  # bytes; a report of 4,000 request ids
OK, BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, TOO_LARGE, UNAVAILABLE = 200, 400, 401, 403, 413, 503
KILL = "guard:Kill"
UNWRITTEN = "the switch is set and holds, but no entry says whose word that was: kill again"
Shape = Mapping[str, type | tuple[type, ...]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One route: the act it is to roles, what its body has, and what does it; `first` is done before it has a turn."""

    act: str
    shape: Shape
    run: Callable[[Act], Fields]
    first: Callable[[Desk, Fields, Milliseconds], None] | None = None


ENTRIES: Mapping[str, Entry] = {
    "show": Entry("guard:Show", {}, desk.show),
    "put": Entry("guard:PutPolicy", {"policy": str}, desk.put_policy),
    "kill": Entry(KILL, {"reason": str}, desk.kill, desk.kill_now),
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
    """Do one act and commit it. Raises ActRefused, EvidenceError or SQLAlchemyError."""
    fields = canonical.decode_map(body, "body", limit=MAX_BODY, fields=entry.shape)
    if not may(operator.role, entry.act):
        now = at.clock()
        with at.transaction() as connection:
            refused = {"operator": operator.name, "role": operator.role.value, "act": entry.act, "rule": "guard-role"}
            at.journal.append(connection, now, "guard-deny", refused)
        raise ActRefused("guard-role", f"{entry.act} is no act of this role: {operator.role.value}")
    began = at.clock()
    if entry.first is not None:
        entry.first(at, fields, began)
    with at.transaction() as connection:
        # A kill is of the moment it was set at.
        now = at.clock() if entry.first is None else began
        answer = entry.run(Act(at, connection, operator, fields, now))
    # Only now is it on disk: a latch that opened before could be open without its entry.
    if entry.act == "guard:Acknowledge":
        at.guard.latch.open()
    return answer


def _endpoint(at: Desk, entry: Entry) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                return _reply(TOO_LARGE, {"code": "too-large"})
        return await run_in_threadpool(_answer, at, entry, bearer(request), bytes(body))

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
    except (SQLAlchemyError, OSError):
        # Nothing was committed, or a switch could not be moved and stays as it was.
        if entry.act == KILL and at.guard.kill_file.kill() is not None:
            return _reply(UNAVAILABLE, {"code": "killed-unwritten", "detail": UNWRITTEN})
        return _reply(UNAVAILABLE, {"code": "unavailable"})


def _reply(status: int, fields: Fields) -> Response:
    return Response(canonical.encode(fields), status, media_type=CBOR)
