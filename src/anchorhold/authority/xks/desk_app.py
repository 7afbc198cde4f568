"""The guard of an XKS face, administered: its routes alone, for a listener of their own.

KMS's listener takes one client and has four paths; operators come with their tokens to another address, over TLS under
the same certificate. Both work on one state: what is done here, the next request there obeys.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import Connection
from starlette.applications import Starlette

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.admin.desk import Act, Desk, Fields
from anchorhold.authority.admin.routes import guard_routes
from anchorhold.authority.guard import Guard
from anchorhold.authority.keystore.opener import open_keystore
from anchorhold.authority.keystore.secret_file import Ask
from anchorhold.authority.xks.app import journal_key
from anchorhold.authority.xks.state import DATABASE, SCHEMA, State, Transaction


def make_desk_app(state_dir: Path, clock: Callable[[], Milliseconds], ask: Ask | None = None) -> Starlette:
    """The guard's desk of the XKS face in `state_dir`. Raises what `make_app` raises."""
    state = State.load(state_dir / DATABASE)
    guard = state.guarded_by(Guard(SCHEMA, state_dir))
    keystore, identity = open_keystore(state_dir, ask), state.identity()
    journal = state.journal(journal_key(state, keystore))

    @contextmanager
    def connection() -> Iterator[Connection]:
        with state.transaction() as transaction:
            yield transaction.connection

    def keys(act: Act) -> Fields:
        external = Transaction(act.connection).keys()
        known = [
            {
                "name": key.key_id,
                "kind": "external key" if key.kms_key is None else f"external key of {key.kms_key}",
                "state": "enabled" if key.enabled else "disabled",
            }
            for key in external
        ]
        facts = {"face": "xks", "anchor class": identity.anchor_class, "keystore": keystore.kind}
        return {"facts": facts, "keys": known}

    return Starlette(routes=guard_routes(Desk(guard, journal, connection, state.snapshot, clock), keys))
