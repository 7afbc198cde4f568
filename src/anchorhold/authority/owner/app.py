"""The owner face over HTTP: strict canonical CBOR in and out, a few codes and nothing more to a stranger.

`/v1/challenge` and `/v1/release` are for enclaves and need no token: evidence is what counts there. `/v1/admin/*` needs
the bearer token of the state folder. TLS is the runner's (`authority/serve.py`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.admin.desk import Desk
from anchorhold.authority.admin.routes import at_desk, bearer, guard_routes
from anchorhold.authority.escrow.backup import backup
from anchorhold.authority.escrow.order import read_backup
from anchorhold.authority.escrow.sealed import BackupRefused
from anchorhold.authority.journal import listed
from anchorhold.authority.keystore import KeystoreError
from anchorhold.authority.keystore.secret_file import Ask
from anchorhold.authority.owner import (
    desk,
    ending,
    heartbeat,
    incidents,
    operators,
    order_subject,
    reseal_orders,
    rotation,
    tenant_rotation,
    tenants,
)
from anchorhold.authority.owner.authority import Owner, load_owner
from anchorhold.authority.owner.bodies import (
    MAX_BODY_BYTES,
    MAX_MODEL_BYTES,
    read_floor,
    read_heartbeat,
    read_incident,
    read_model,
    read_order,
    read_page,
    read_reason,
    read_release,
    read_reseal,
    read_reseal_end,
    read_retire,
    read_share,
    read_tenant,
    read_tenant_key,
    read_tenant_reason,
    read_tenant_retire,
)
from anchorhold.authority.owner.desk_refused import DeskRefused
from anchorhold.authority.owner.ending import EndOrder
from anchorhold.authority.owner.release import release
from anchorhold.authority.owner.release_request import ReleaseRefused
from anchorhold.authority.owner.state import Transaction
from anchorhold.authority.place import StateRefused

Act = Callable[[Owner, bytes], Mapping[str, canonical.Value]]
CBOR = "application/cbor"
BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, TOO_LARGE, FAULT, UNAVAILABLE = 400, 401, 403, 413, 500, 503


class _TooLarge(Exception):
    pass


def make_app(state_dir: Path, clock: Callable[[], Milliseconds], ask: Ask | None = None) -> Starlette:
    """The owner face of the authority in `state_dir`. Raises what `load_owner` raises."""
    owner = load_owner(state_dir, clock, ask)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        owner.state.close()

    public = {"/v1/challenge": _challenge, "/v1/release": _release, "/v1/heartbeat": _heartbeat}
    admin = {
        "/v1/admin/models": (order_subject.REGISTER, _register),
        "/v1/admin/shares": (order_subject.SHARE, _share),
        "/v1/admin/revoke": ("owner:Revoke", _revoke),
        "/v1/admin/reinstate": (order_subject.REINSTATE, _reinstate),
        "/v1/admin/floor": (order_subject.FLOOR, _floor),
        "/v1/admin/lower-floor": (order_subject.LOWER_FLOOR, _lower_floor),
        "/v1/admin/heartbeat": ("owner:Heartbeat", _put_heartbeat),
        "/v1/admin/heartbeat-kept": ("owner:HeartbeatKept", _heartbeat),
        "/v1/admin/tenants": (order_subject.TENANT, _tenant),
        "/v1/admin/tenant-keys": (order_subject.TENANT_KEY, _tenant_key),
        "/v1/admin/tenant-rotate": (order_subject.TENANT_ROTATE, _tenant_rotate),
        "/v1/admin/tenant-retire": (order_subject.TENANT_RETIRE, _tenant_retire),
        "/v1/admin/shred": (order_subject.SHRED, _shred),
        "/v1/admin/status": ("owner:Status", _status),
        "/v1/admin/journal": ("owner:Journal", _journal),
        "/v1/admin/backup": (order_subject.BACKUP, _backup),
        "/v1/admin/reseal": (order_subject.RESEAL, _reseal),
        "/v1/admin/reseal-end": ("owner:ResealEnd", _reseal_end),
        "/v1/admin/rotate": ("owner:Rotate", _rotate),
        "/v1/admin/retire": (order_subject.RETIRE, _retire),
        "/v1/admin/incident": ("owner:Incident", _incident),
    }
    at = Desk(owner.guard, owner.journal, owner.state.connection, owner.state.snapshot, owner.clock)
    routes = [Route(path, _endpoint(owner, act, None), methods=["POST"]) for path, act in public.items()]
    routes += [Route(path, _endpoint(owner, act, (at, name)), methods=["POST"]) for path, (name, act) in admin.items()]
    routes += guard_routes(at)
    return Starlette(routes=routes, lifespan=lifespan)


def _endpoint(owner: Owner, act: Act, order: tuple[Desk, str] | None) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            limit = MAX_MODEL_BYTES if act is _register else MAX_BODY_BYTES
            body = await _body(request, limit) if order is None else b""
            if order is not None:
                # Who asks is settled before a byte of the body is read.
                operator = await at_desk(order[0].operator, bearer(request))
                if operator is None:
                    return _reply(UNAUTHORIZED, {"code": "unauthorized"})
                body = await _body(request, limit)
                ordered = await at_desk(operators.ordered, owner, operator, order[1], body)
                return _reply(200, await at_desk(act, ordered, body))
            return _reply(200, await run_in_threadpool(act, owner, body))
        except _TooLarge:
            return _reply(TOO_LARGE, {"code": "too-large"})
        except ReleaseRefused as refusal:
            return _reply(FORBIDDEN, {"code": refusal.code})
        except BackupRefused as refusal:
            return _reply(FORBIDDEN, {"code": "backup", "detail": str(refusal)})
        except DeskRefused as refusal:
            return _reply(FORBIDDEN, {"code": refusal.code, "detail": refusal.detail})
        except (SQLAlchemyError, StateRefused, KeystoreError):
            # Nothing was committed, so nothing was granted; its words would repeat statements and values.
            return _reply(UNAVAILABLE, {"code": "unavailable"})
        except EvidenceError as error:
            # The administrator sees why; a stranger only that it was not in the form.
            return _reply(
                BAD_REQUEST, {"code": error.code, "detail": str(error)} if order is not None else {"code": "malformed"}
            )
        except Exception as error:  # noqa: BLE001 - of whatever kind: what we did not expect is journaled and answered
            return await run_in_threadpool(_fault, owner, request.url.path, error)

    return endpoint


def _fault(owner: Owner, path: str, error: Exception) -> Response:
    """A fault of our own: its type and place go into the journal, its text to nobody, which may quote a secret."""
    body: dict[str, canonical.Value] = {"path": path, "error": type(error).__name__}
    try:
        with owner.state.transaction() as transaction:
            owner.journal.append(transaction.connection, owner.clock(), "fault", body)
    except SQLAlchemyError:
        return _reply(UNAVAILABLE, {"code": "unavailable"})
    return _reply(FAULT, {"code": "fault"})


async def _body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _TooLarge
    return bytes(body)


def _reply(status: int, fields: Mapping[str, canonical.Value]) -> Response:
    return Response(canonical.encode(fields), status, media_type=CBOR)


def _challenge(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    canonical.decode_map(body, "body", limit=MAX_BODY_BYTES, fields={})
    challenge, expires = owner.challenges.issue(owner.clock())
    return {"challenge": challenge, "expires": expires}


def _release(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    answer = release(owner, read_release(body))
    fields: dict[str, canonical.Value] = {"sealed": answer.sealed, "lease": answer.lease}
    if answer.drawn is not None:
        fields |= {"wrapped": dict(answer.drawn.wrapped), "key_id": answer.drawn.key_id}
    return fields


def _register(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    desk.register(owner, read_model(body))
    return {}


def _share(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    share, blob, key_id = desk.share(owner, read_share(body))
    return {"share": share, "blob": blob, "key_id": key_id}


def _revoke(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    order = read_order(body)
    done = ending.revoke(owner, order) if isinstance(order, EndOrder) else desk.revoke(owner, order.model, order.reason)
    return {"at": done.at, "ttl_ms": done.ttl_ms, "last_not_after": done.last_not_after}


def _reinstate(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    order = read_order(body)
    if isinstance(order, EndOrder):
        ending.reinstate(owner, order)
    else:
        desk.reinstate(owner, order.model, order.reason)
    return {}


def _floor(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    floor = ending.raise_floor(owner, *read_floor(body))
    return {"at": floor.at}


def _lower_floor(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    floor = ending.raise_floor(owner, *read_floor(body), approved=True)
    return {"at": floor.at}


def _put_heartbeat(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    heartbeat.put(owner, read_heartbeat(body))
    return {}


def _heartbeat(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    canonical.decode_map(body, "body", limit=MAX_BODY_BYTES, fields={})
    with owner.state.snapshot() as connection:
        return {"heartbeat": Transaction(connection).heartbeat()}


def _tenant(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    return {"credential": desk.issue(owner, read_tenant(body))}


def _tenant_key(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    key = tenants.make_key(owner, read_tenant_key(body))
    return {"key_id": key.key_id, "keeping": key.keeping.value}


def _tenant_rotate(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    key = tenant_rotation.rotate(owner, *read_tenant_reason(body))
    return {"key_id": key.key_id, "keeping": key.keeping.value}


def _tenant_retire(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    done = tenant_rotation.retire(owner, read_tenant_retire(body))
    return {
        "key_id": done.ended.keys[0].key_id,
        "at": done.ended.at,
        **listed("lost", done.lost),
        "shares": done.ended.shares,
        "tried": done.ended.tried,
        "backups": done.ended.backups,
    }


def _shred(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    done = tenants.shred(owner, *read_tenant_reason(body))
    return {
        "key_id": done.keys[-1].key_id,
        "keys": [one.key_id for one in done.keys],
        "at": done.at,
        **listed("models", done.models),
        "shares": done.shares,
        "tried": done.tried,
        "last_not_after": done.last_not_after,
        "backups": done.backups,
    }


def _status(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    canonical.decode_map(body, "body", limit=MAX_BODY_BYTES, fields={})
    return desk.status(owner)


def _journal(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    return desk.journal_page(owner, read_page(body))


def _backup(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    return {"file": backup(owner, read_backup(body))}


def _reseal(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    reseal_orders.order(owner, read_reseal(body))
    return {}


def _reseal_end(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    reseal_orders.withdraw(owner, *read_reseal_end(body))
    return {}


def _rotate(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    return {"key_id": rotation.rotate(owner, read_reason(body))}


def _retire(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    return {"lost": list(rotation.retire(owner, read_retire(body)))}


def _incident(owner: Owner, body: bytes) -> Mapping[str, canonical.Value]:
    return {"seq": incidents.note(owner, read_incident(body))}
