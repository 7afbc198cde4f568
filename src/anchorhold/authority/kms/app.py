"""The KMS face as an ASGI application: one path, one method, the operation in X-Amz-Target.

Every call is: authenticate, run, journal, commit, answer. A fault of ours is KMSInternalException without a word more.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.canonical import Value
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.admin.desk import Act, Desk
from anchorhold.authority.admin.routes import guard_routes
from anchorhold.authority.guard import Guard
from anchorhold.authority.keystore import Keystore, KeystoreBusy, KeystoreFull, NotSupported, open_keystore
from anchorhold.authority.keystore.secret_file import Ask
from anchorhold.authority.kms import deletion, importing, journal
from anchorhold.authority.kms.authenticate import authenticate
from anchorhold.authority.kms.call import Answer, Call, Surroundings
from anchorhold.authority.kms.faults import KmsFault, internal, key_unavailable, limit_exceeded, throttled, unsupported
from anchorhold.authority.kms.fields import MAX_BODY, Fields, parse_body
from anchorhold.authority.kms.operations import DONE, OTHER_OPERATIONS
from anchorhold.authority.kms.rows.keys import KeyRows
from anchorhold.authority.kms.state import SCHEMA, State
from anchorhold.authority.kms.xks_proxy import TIMEOUT_S, ProxyTls
from anchorhold.wire import sigv4

DATABASE = "state.db"
MAX_SHOWN_KEYS = 1_000  # at the desk; ListKeys has them all
CONTENT_TYPE = "application/x-amz-json-1.1"
TARGET = "TrentService."
JOURNAL_HANDLE = "journal"
MAX_LOGGED = 256  # characters of the caller's own words in the journal
MAX_WAITING = 32  # calls at the lock; fewer than the server has threads, or they would wait for one unseen
_NOTED = (
    "KeyId", "TargetKeyId", "SourceKeyId", "DestinationKeyId", "EncryptionAlgorithm", "KeySpec", "KeyUsage", "Origin",
    "NumberOfBytes", "PolicyName", "DryRun", "PendingWindowInDays", "BypassPolicyLockoutSafetyCheck",
    "SigningAlgorithm", "MessageType", "KeyAgreementAlgorithm", "KeyPairSpec", "WrappingAlgorithm", "WrappingKeySpec",
    "ExpirationModel", "ImportType", "KeyMaterialId",
)  # fmt: skip
# CloudTrail's names for what comes due by itself.
_DUE = {"DeleteKey": deletion.carry_out, "DeleteExpiredKeyMaterial": importing.carry_out}


class KmsFace:
    """The calls of one state folder, one at a time: SQLite has one writer, and the journal one end."""

    def __init__(self, state: State, around: Surroundings, clock: Callable[[], Milliseconds]) -> None:
        self._state = state
        self._around = around
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)

    def call(self, request: sigv4.Request, source_address: str, request_id: str) -> Answer:
        """The answer of one call, once it is in the journal. Raises KmsFault, whatever happens."""
        if not self._waiting.acquire(blocking=False):
            raise throttled()
        agent = (request.header("user-agent") or "")[:MAX_LOGGED]
        draft = journal.Draft("unknown", request_id, source_address, agent)
        now = self._clock()
        try:
            with self._lock:
                try:
                    return self._journaled(request, draft, now)
                except KmsFault:
                    raise
                except Exception as error:
                    self._fault(draft, error, now)
                    raise internal() from error
        finally:
            self._waiting.release()

    def _journaled(self, request: sigv4.Request, draft: journal.Draft, now: Milliseconds) -> Answer:
        """Run and journal in one transaction: a fault of the caller's is committed, one of ours takes all with it."""
        around = self._around
        fault: KmsFault | None = None
        answer: Answer = {}
        with self._state.transaction() as transaction:
            principal = authenticate(request, transaction, around.realm, around.keystore, now)
            asked = _target(request)
            draft.name = (asked or draft.name)[:MAX_LOGGED]
            for event, carry_out in _DUE.items():
                for key in carry_out(transaction, around.keystore, now):
                    gone = journal.service_entry(around.realm, event, key.key_id, now)
                    around.journal.append(transaction.connection, now, journal.ENTRY, gone)
            try:
                # An operation refuses before it writes: what a guard counted for a denial is committed with it.
                name = _operation(asked)
                fields = parse_body(request.body)
                _note(draft, fields)
                answer = _operate(name, Call(around, transaction, principal, fields, draft, now))
            except KmsFault as raised:
                fault = raised
            body = journal.entry(around.realm, principal, draft, fault, now)
            around.journal.append(transaction.connection, now, journal.ENTRY, body)
        if fault is not None:
            raise fault
        return answer

    def _fault(self, draft: journal.Draft, error: Exception, now: Milliseconds) -> None:
        """Journal the cause of a fault of ours. If even that fails, the caller hears of the fault all the same."""
        with suppress(Exception), self._state.transaction() as transaction:
            body = journal.fault_entry(draft, error)
            self._around.journal.append(transaction.connection, now, journal.FAULT, body)

    def close(self) -> None:
        self._state.close()


def journal_key(state: State, keystore: Keystore) -> Ed25519PrivateKey:
    """The key that signs this face's journal. Raises CannotOpen."""
    return Ed25519PrivateKey.from_private_bytes(keystore.open(JOURNAL_HANDLE, state.journal_key(), b""))


def make_app(
    state_dir: Path,
    clock: Callable[[], Milliseconds],
    ask: Ask | None = None,
    *,
    proxy_timeout_s: float = TIMEOUT_S,
) -> Starlette:
    """The application over the state in `state_dir`. Raises FileNotFoundError or KeystoreError.

    `ask` reads a passphrase or PIN for which no file is named. An external key store proxy has `proxy_timeout_s` for
    each call.
    """
    state = State.load(state_dir / DATABASE)
    guard = state.guarded_by(Guard(SCHEMA, state_dir))
    anchors = tuple(Anchor(name, root) for name, root in sorted(state.anchors().items()))
    keystore = open_keystore(state_dir, ask)
    journal_of_state = state.journal(journal_key(state, keystore))
    proxy_tls = ProxyTls.load(state_dir, proxy_timeout_s)
    around = Surroundings(state.realm(), anchors, keystore, journal_of_state, guard, proxy_tls=proxy_tls)
    face = KmsFace(state, around, clock)

    async def endpoint(request: Request) -> Response:
        request_id = str(uuid.uuid4())
        headers = {"x-amzn-RequestId": request_id}
        try:
            asked = await _read(request)
            address = request.client.host if request.client is not None else "unknown"
            answer = await run_in_threadpool(face.call, asked, address, request_id)
        except KmsFault as fault:
            return JSONResponse(fault.body(), fault.status, headers, CONTENT_TYPE)
        except Exception:  # noqa: BLE001 - outside, every fault of ours is the same; nothing was committed
            ours = internal()
            return JSONResponse(ours.body(), ours.status, headers, CONTENT_TYPE)
        # AWS answers an operation without output by an empty body.
        return JSONResponse(answer, 200, headers, CONTENT_TYPE) if answer else Response(b"", 200, headers, CONTENT_TYPE)

    def keys(act: Act) -> Mapping[str, Value]:
        known = KeyRows(act.connection).after("", MAX_SHOWN_KEYS)
        rows = [
            {
                "name": around.realm.key_arn(key.key_id),
                "kind": f"{key.spec}, {key.origin.value}",
                "state": key.state.value,
            }
            for key in known
        ]
        facts = {"face": "kms", "anchor class": around.realm.anchor_class, "keystore": keystore.kind}
        return {"facts": facts, "keys": rows}

    desk = Desk(around.guard, around.journal, state.connection, state.snapshot, clock)
    return Starlette(routes=[Route("/", endpoint, methods=["POST"]), *guard_routes(desk, keys)])


async def _read(request: Request) -> sigv4.Request:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise KmsFault("RequestEntityTooLargeException", f"expected at most {MAX_BODY} bytes", status=413)
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw)
    return sigv4.Request(request.method, request.url.path, request.url.query, headers, bytes(body))


def _target(request: sigv4.Request) -> str | None:
    """The operation that is asked for, whether there is one of this name or not; None for what asks for none."""
    target = request.header("x-amz-target") or ""
    if not target.startswith(TARGET) or (request.header("content-type") or "").split(";")[0] != CONTENT_TYPE:
        return None
    return target.removeprefix(TARGET)


def _operation(asked: str | None) -> str:
    if asked is None:
        raise KmsFault("UnknownOperationException", "expected an operation of TrentService in JSON 1.1")
    return asked


def _operate(name: str, call: Call) -> Answer:
    operation = DONE.get(name)
    if operation is not None:
        try:
            return operation(call)
        except NotSupported as error:
            raise unsupported(f"{name}: the keystore here does not do this with this key") from error
        except KeystoreBusy as error:
            raise key_unavailable() from error
        except KeystoreFull as error:
            raise limit_exceeded("the keystore holds as many keys as it may") from error
    if name in OTHER_OPERATIONS:
        raise unsupported(f"{name} is not supported by this KMS")
    raise KmsFault("UnknownOperationException", "there is no such operation")


def _note(draft: journal.Draft, fields: Fields) -> None:
    """The parameters CloudTrail shows: names and settings, never a plaintext, blob, policy or document."""
    for name in _NOTED:
        value = fields.members.get(name)
        if isinstance(value, str | int):
            draft.parameters[name[0].lower() + name[1:]] = value[:MAX_LOGGED] if isinstance(value, str) else value
