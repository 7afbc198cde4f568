"""The XKS face over HTTP: POST only, four paths, JSON, and an answer in KMS's 250 ms or the word that there is none."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Guard
from anchorhold.authority.keystore.opener import open_keystore
from anchorhold.authority.keystore.secret_file import Ask
from anchorhold.authority.keystore.store import Keystore
from anchorhold.authority.xks.authenticate import Signatures
from anchorhold.authority.xks.batches import Batches, TooMany
from anchorhold.authority.xks.decide import Around
from anchorhold.authority.xks.denials import Denials
from anchorhold.authority.xks.face import XksFace
from anchorhold.authority.xks.faults import Error, XksFault
from anchorhold.authority.xks.fields import MAX_BODY, too_large
from anchorhold.authority.xks.health import Health
from anchorhold.authority.xks.paths import parse_path
from anchorhold.authority.xks.state import DATABASE, SCHEMA, State
from anchorhold.authority.xks.turn import Answer, Asked
from anchorhold.wire import sigv4

BUDGET_S = 0.2  # KMS gives a call 250 ms; the rest is for the way there and back, which may take 35
JOURNAL_HANDLE = "journal"
PROXY_MODEL = "anchorhold xks 1"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def make_app(
    state_dir: Path,
    clock: Callable[[], Milliseconds],
    *,
    budget_s: float = BUDGET_S,
    ask: Ask | None = None,
    sharers: int = 1,
) -> Starlette:
    """The XKS face of the authority in `state_dir`, one of `sharers` processes that serve it.

    A request that is not done in `budget_s` is answered DependencyTimeoutException. Raises FileNotFoundError,
    KeystoreError or CannotOpen.
    """
    ticks = time.monotonic
    prefix, face = _load(state_dir, clock, ticks, ask, sharers)
    batches = Batches(face.run)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batches.close)
        face.close()

    async def endpoint(request: Request) -> Response:
        deadline = ticks() + budget_s
        if request.method != "POST":
            return Response(status_code=405, headers={"Allow": "POST"})
        try:
            async with asyncio.timeout(budget_s):
                answer = await _answer(request, prefix, batches, deadline)
        except XksFault as fault:
            return _refusal(fault)
        except (TimeoutError, ClientDisconnect):
            # What is decided meanwhile is journaled; its caller is not told in time and gets nothing of it.
            return _refusal(XksFault(Error.DEPENDENCY_TIMEOUT, "no answer in time"))
        except Exception:  # noqa: BLE001 - outside, every fault of ours is the same; nothing was committed
            return _refusal(XksFault(Error.INTERNAL, "internal"))
        return JSONResponse(answer)

    return Starlette(routes=[Route("/{path:path}", endpoint, methods=list(_METHODS))], lifespan=lifespan)


def _load(
    state_dir: Path, clock: Callable[[], Milliseconds], ticks: Callable[[], float], ask: Ask | None, sharers: int
) -> tuple[str, XksFace]:
    """The path prefix and the face of a state folder."""
    state = State.load(state_dir / DATABASE)
    guard, keystore = state.guarded_by(Guard(SCHEMA, state_dir)), open_keystore(state_dir, ask)
    identity = state.identity()
    model = PROXY_MODEL if identity.anchor_class == "production" else f"{PROXY_MODEL} (simulated)"
    face = XksFace(
        state,
        Around(identity, guard, keystore, Health(keystore, keystore.kind, model, ticks)),
        keystore,
        state.journal(journal_key(state, keystore)),
        clock=clock,
        ticks=ticks,
        signatures=Signatures(),
        denials=Denials(sharers),
    )
    return identity.prefix, face


def journal_key(state: State, keystore: Keystore) -> Ed25519PrivateKey:
    """The key that signs this face's journal. Raises CannotOpen."""
    return Ed25519PrivateKey.from_private_bytes(keystore.open(JOURNAL_HANDLE, state.journal_key(), b""))


async def _answer(
    request: Request, prefix: str, batches: "Batches[Asked, Answer | XksFault]", deadline: float
) -> Answer:
    """The answer, on disk. Raises XksFault, TimeoutError, and what the database raised."""
    raw_path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    path, query = raw_path.decode("latin-1"), request.scope["query_string"].decode("latin-1")
    target = parse_path(path, query, prefix)
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw)
    signed = sigv4.Request(request.method, path, query, headers, await _read(request))
    try:
        waiting = batches.submit(Asked(signed, target, str(uuid.uuid4()), deadline))
    except TooMany as error:
        raise XksFault(Error.THROTTLING, "too many requests wait") from error
    # A caller who is gone, or out of time, does not take its entry out of the batch.
    reply = await asyncio.shield(asyncio.wrap_future(waiting))
    if isinstance(reply, XksFault):
        raise reply
    return reply


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise too_large()
    return bytes(body)


def _refusal(fault: XksFault) -> Response:
    return JSONResponse(fault.body(), fault.error.status)
