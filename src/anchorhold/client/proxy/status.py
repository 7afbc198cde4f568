"""`/anchorhold/status`: what was proved, what was not, and the last receipts, in words that claim no more than that.

The form is docs/schema/status.schema.json. Nothing of a conversation is in it.
"""

from dataclasses import dataclass

from anchorhold import __version__
from anchorhold.client.openai_api.core import Gone
from anchorhold.client.openai_api.kept import Receipts
from anchorhold.client.proxy.keeper import Keeper
from anchorhold.client.sdk import AsyncClient
from anchorhold.client.session import Session
from anchorhold.client.trust import Trust

VERSION = 1
SHOWN_RECEIPTS = 20
Object = dict[str, object]


@dataclass(slots=True)
class Counters:
    """Since the start. Requests whose callers left were neither answered nor did they fail."""

    requests: int = 0
    answered: int = 0
    failed: int = 0

    def note(self, error: Exception | None) -> None:
        self.requests += 1
        if error is None:
            self.answered += 1
        elif not isinstance(error, Gone):
            self.failed += 1


class Status:
    """Makes the object anew each time it is asked."""

    def __init__(
        self, trust: Trust, keeper: Keeper, receipts: Receipts, counters: Counters, client: AsyncClient
    ) -> None:
        self._trust = trust
        self._keeper = keeper
        self._receipts = receipts
        self._counters = counters
        self._client = client

    def __call__(self) -> Object:
        (standing, session), trust = self._keeper.now(), self._trust
        counters = self._counters
        return {
            "version": VERSION,
            "proxy": __version__,
            "state": standing.state.value,
            "since": standing.since,
            "code": standing.code,
            "message": standing.message,
            "hint": standing.hint,
            "simulated": trust.simulated,
            "deployment": {
                "name": trust.name,
                "gateway": trust.gateway,
                "alias": trust.alias,
                "model": trust.model.hex(),
                "configuration": trust.configuration.hex(),
                "platforms": sorted(one.value for one in trust.platforms),
            },
            "verified_at": self._keeper.verified_at,
            "session": None if session is None else session_object(session),
            "proved": [] if session is None else proved(session, self._sealed_to()),
            "asserted": [] if session is None else asserted(session),
            "not_proved": not_proved(session),
            "hops": None if session is None else [hop.as_json() for hop in self._client.hops(session)],
            "receipts": [one.summary() for one in self._receipts.last(SHOWN_RECEIPTS)],
            "counters": {
                "requests": counters.requests,
                "answered": counters.answered,
                "failed": counters.failed,
                "resealed": self._client.resealed,
            },
        }

    def _sealed_to(self) -> int:
        held = self._client.sealed_to
        return 1 if held is None else len(held.sessions)


def session_object(session: Session) -> Object:
    """The enclave that requests are sealed to."""
    channel = session.channel
    return {
        "platform": channel.evidence.platform.value,
        "simulated": channel.evidence.simulated,
        "release": session.release,
        "statement": channel.statement.hex(),
        "key_id": channel.key_id.hex(),
        "boot": channel.serve.boot_id.hex(),
        "measurements": {str(index): value.hex() for index, value in sorted(channel.evidence.pcrs.items())},
        "document_at": channel.evidence.timestamp_ms,
        "epoch_end": channel.serve.not_after,
        "lease_end": session.lease_end,
        "purposes": list(session.configuration.purposes),
        "leases": [
            {
                "source": held.lease.source,
                "custodian": held.custodian,
                "asserted": held.asserted,
                "keystore": held.lease.keystore,
                "not_after": held.lease.not_after,
            }
            for held in session.leases
        ],
    }


def proved(session: Session, sealed_to: int) -> list[Object]:
    """What follows from signatures that this process has checked under keys its user pinned."""
    evidence = session.channel.evidence
    root = "the pinned simulated root" if evidence.simulated else "the pinned root of the platform's maker"
    claims = [
        _claim("enclave", f"A document signed under {root}, made for this proxy's own random number."),
        _claim("software", "Its measurements are those that the trust file accepts."),
        _claim("configuration", "It runs the pinned configuration, and no debug mode."),
        _claim("model", "It says, under that signature, that it serves the pinned model."),
        _claim("channel", "Requests are sealed to a key of this enclave; answers count under its key alone."),
    ]
    if sealed_to > 1:
        words = f"Requests are sealed to {sealed_to} enclaves, each verified so. Each can read them; one answers."
        claims.append(_claim("enclaves", words))
    if session.release is not None:
        claims.append(_claim("release", f"The pinned signers accept it as release {session.release}."))
    claims += [
        _claim("lease", f"{held.custodian} lets it serve, by a lease signed with their key.")
        for held in session.leases
        if not held.asserted
    ]
    return claims


def asserted(session: Session) -> list[Object]:
    """Somebody's word."""
    claims = [
        _claim(
            "kms-lease", f"The enclave says that {held.custodian}'s key service lets it serve; no such lease is signed."
        )
        for held in session.leases
        if held.asserted
    ]
    claims += [
        _claim("keystore", f"{held.custodian} says that its key lies in this keystore: {held.lease.keystore}.")
        for held in session.leases
        if not held.asserted
    ]
    if len({held.custodian for held in session.leases}) < len(session.leases):
        claims.append(_claim("same-custodian", "One party holds more than one share of the model's key."))
    return claims


def not_proved(session: Session | None) -> list[Object]:
    """What no check here shows."""
    if session is None:
        return [_claim("nothing-verified", "Nothing is verified now. Requests are refused, none is sent unsealed.")]
    claims = [
        _claim("answers", "That what the model says is true."),
        _claim("this-machine", "That this machine, and the programs on it that talk to the proxy, are honest."),
        _claim("traffic", "Nothing hides that requests are made, when, and about how long they are."),
    ]
    if session.channel.evidence.simulated:
        claims.insert(0, _claim("simulated", "Everything: a toy root stands in for hardware. Send nothing secret."))
    return claims


def _claim(code: str, words: str) -> Object:
    return {"code": code, "words": words}
