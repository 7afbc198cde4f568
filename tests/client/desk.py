"""People who release: signers with real keys, a real log, and the list they hand out. Tests change one thing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.release.bundle import UnverifiedBundle
from anchorhold.attestation.release.pin import ReleasePin
from anchorhold.attestation.release.quorum import Quorum, SignerRole
from anchorhold.attestation.release.statement import Reason, ReleaseStatement
from anchorhold.attestation.transcript.append import AppendReply, AppendRequest
from anchorhold.attestation.transcript.checkpoint import Vkey
from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.client.trust import LogPin, Trust, milliseconds
from anchorhold.log.server import append as append_to
from anchorhold.log.store import Store, init_state
from anchorhold.publish.release import (
    ReleaseSigner,
    add_statements,
    new_bundle,
    renew,
    revoke,
    sign_bundle,
    write_bundle,
)
from anchorhold.publish.release_log import log_statements

PRODUCT = "gateway"
DAY = timedelta(days=1)
SIGNERS = tuple(
    ReleaseSigner.generate(role.value, role) for role in (SignerRole.OWNER, SignerRole.OPERATOR, SignerRole.CUSTOMER)
)
ORIGIN = "log.example/releases"
Change = Callable[[UnverifiedBundle], UnverifiedBundle]


class Desk:
    """Three signers, of whom two make a release and one ends one; the list lies in `folder`."""

    def __init__(self, folder: Path, now: datetime, log: tuple[Store, Vkey] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.list = folder / "releases.cbor"
        self.now = now
        if log is None:
            key = Ed25519PrivateKey.generate()
            init_state(folder / "log", ORIGIN, key)
            log = Store(folder / "log"), Vkey.of(ORIGIN, key.public_key())
        self.store, self.vkey = log
        self.quorum = Quorum(tuple(one.public for one in SIGNERS), 2, 1)

    def pin(self, source: str | None = None) -> ReleasePin:
        return ReleasePin(PRODUCT, self.quorum, str(self.list) if source is None else source)

    @staticmethod
    def pin_of_all() -> ReleasePin:
        """These signers, wherever their list lies."""
        return ReleasePin(PRODUCT, Quorum(tuple(one.public for one in SIGNERS), 2, 1))

    def trust(self, trust: Trust, source: str | None = None) -> Trust:
        """`trust`, with this desk's signers instead of measurements."""
        log = LogPin(self.vkey.name, str(self.vkey))
        return replace(trust, measurements=None, releases=self.pin(source), log=log)

    def statement(
        self, release: str, image: Mapping[int, bytes], *, begin: timedelta = -DAY, life: timedelta = 90 * DAY
    ) -> ReleaseStatement:
        measured = {index: image[index] for index in (0, 1, 2)}
        start = milliseconds(self.now + begin)
        end = milliseconds(self.now + begin + life)
        return ReleaseStatement(PRODUCT, release, Platform.SIMULATED, (measured,), start, end)

    def release(
        self, *statements: ReleaseStatement, version: int = 1, issued: timedelta = timedelta()
    ) -> UnverifiedBundle:
        """A list of these, signed by two, logged, and handed out."""
        at = milliseconds(self.now + issued)
        bundle = new_bundle(statements, issued_at=at)
        while bundle.unverified_list.version < version:
            bundle = renew(bundle, issued_at=at)
        return self.hand_out(bundle)

    def add(self, bundle: UnverifiedBundle, *statements: ReleaseStatement) -> UnverifiedBundle:
        return self.hand_out(add_statements(bundle, statements, issued_at=milliseconds(self.now)))

    def hand_out(
        self, bundle: UnverifiedBundle, signers: Sequence[ReleaseSigner] = SIGNERS[:2], *, logged: bool = True
    ) -> UnverifiedBundle:
        for signer in signers:
            bundle = sign_bundle(bundle, signer)
        if logged:
            bundle = log_statements(bundle, self.append, self.vkey)
        write_bundle(self.list, bundle)
        return bundle

    def revoke(
        self, bundle: UnverifiedBundle, statement: ReleaseStatement, at: datetime | None = None
    ) -> UnverifiedBundle:
        """One signer's word, handed out with the list as it is."""
        moment = milliseconds(at or self.now)
        ended = revoke(bundle, statement.digest, SIGNERS[2], reason=Reason.COMPROMISE, at=Milliseconds(moment))
        write_bundle(self.list, ended)
        return ended

    def append(self, wanted: AppendRequest) -> AppendReply:
        return append_to(self.store, wanted)
