"""The hop ledger: every leg of a request and of the keys behind it, who ends it, and with which key exchange.

`proved` is what this client saw or verified itself; `asserted` follows from the attested configuration and the measured
code, with no evidence of any one connection; `not-checked` is what nobody here knows. Pure: a verified session and what
was seen of the connection come in, rows go out (docs/spec/channel.md 13.2).

Post-quantum everywhere (`require_pq`) asks one thing of each hop: whoever records it today and breaks classical key
exchange later learns nothing that is not public. So a hop counts when its own key exchange is post-quantum, when it
stays inside one machine, when it carries what is public anyway, or when what it carries is useless without a
post-quantum part: the KMS's share of a model key that also needs the owner's.
"""

from dataclasses import dataclass
from enum import Enum

from anchorhold.attestation.channel.seal import SUITE
from anchorhold.attestation.configuration import Configuration, Source
from anchorhold.client.errors import ClientError
from anchorhold.client.session import Session
from anchorhold.client.tls import GatewayTls, post_quantum

NONE, UNKNOWN = "none", "unknown"
_KMS_EXCHANGE = "RSA-2048 (RSAES-OAEP-SHA-256 envelope, inside TLS)"
_OWNER_EXCHANGE = f"{SUITE} (one-time key, inside TLS)"


class HopStatus(Enum):
    """What a row rests on."""

    PROVED = "proved"
    ASSERTED = "asserted"
    NOT_CHECKED = "not-checked"


@dataclass(frozen=True, slots=True)
class Hop:
    """One leg. `post_quantum` is None where nobody knows; `covered` is why it counts although it is not, empty else."""

    name: str
    between: str
    ends_at: str
    key_exchange: str
    post_quantum: bool | None
    status: HopStatus
    detail: str
    covered: str = ""

    @property
    def holds(self) -> bool:
        """Whether `require_pq` takes it."""
        return self.post_quantum is True or bool(self.covered)

    def as_json(self) -> dict[str, object]:
        """As `docs/schema/status.schema.json` has it."""
        return {
            "name": self.name,
            "between": self.between,
            "ends_at": self.ends_at,
            "key_exchange": self.key_exchange,
            "post_quantum": self.post_quantum,
            "status": self.status.value,
            "detail": f"{self.detail}; counts all the same: {self.covered}" if self.covered else self.detail,
        }


class HopNotPostQuantum(ClientError):
    """Every hop must be post-quantum, and this one is not, or nobody knows. Nothing was sent."""

    code = "hop-not-pq"
    hint = "the demand is the trust file's `require_pq`; a gateway with TLS is pinned there under `tls`"

    def __init__(self, hop: str, key_exchange: str) -> None:
        super().__init__(f"hop {hop!r}: expected a post-quantum key exchange, got {key_exchange}")
        self.hop = hop
        self.key_exchange = key_exchange


def ledger(session: Session, tls: GatewayTls | None) -> tuple[Hop, ...]:
    """The rows, from the client outwards. `tls` is None where the gateway cannot say."""
    configuration = session.configuration
    return (
        _to_gateway(tls),
        _window(),
        _channel(session),
        *(_to_source(source, configuration) for source in configuration.sources),
        _to_log(configuration),
    )


def require_pq(hops: tuple[Hop, ...]) -> None:
    """Raises HopNotPostQuantum with the first hop that does not count."""
    for hop in hops:
        if not hop.holds:
            raise HopNotPostQuantum(hop.name, hop.key_exchange)


def _to_gateway(tls: GatewayTls | None) -> Hop:
    name, between, ends_at = "client-gateway", "this client and the gateway", "the gateway's operator"
    if tls is None:
        exchange, pq, status, detail = UNKNOWN, None, HopStatus.NOT_CHECKED, "this transport does not say"
    elif not tls.encrypted:
        exchange, pq, status = NONE, False, HopStatus.PROVED
        detail = "no TLS: the header (alias, key ids, padding, deadline) is in clear; the rest is sealed"
    elif tls.group is None:
        exchange, pq, status = UNKNOWN, None, HopStatus.NOT_CHECKED
        detail = f"TLS to {tls.server!r}: no handshake was seen yet"
    else:
        exchange, pq, status = tls.group, post_quantum(tls.group), HopStatus.PROVED
        detail = f"TLS to {tls.server!r}, under a certificate pinned in the trust file; read from its ServerHello"
    return Hop(name, between, ends_at, exchange, pq, status, detail)


def _window() -> Hop:
    return Hop(
        "gateway-enclave",
        "the gateway and the enclave",
        "the enclave, by way of its parent",
        NONE,
        None,
        HopStatus.ASSERTED,
        "a socket of the parent's machine (vsock, or a Unix socket in simulation): the same sealed frames",
        covered="it does not leave the machine, and what it carries is sealed to the enclave",
    )


def _channel(session: Session) -> Hop:
    serve = session.channel.serve
    return Hop(
        "client-enclave",
        "this client and the enclave",
        f"the enclave of boot {serve.boot_id.hex()[:16]}",
        serve.suite,
        True,
        HopStatus.PROVED,
        "the channel key is in the attested `serve` statement; prompt and answer are sealed under it, end to end",
    )


def _to_source(source: Source, configuration: Configuration) -> Hop:
    at = f"{source.custodian} ({source.endpoint})"
    if source.kind == "owner":
        return Hop(
            f"enclave-owner-{_word(source.name)}",
            "the enclave and the owner's authority",
            at,
            _OWNER_EXCHANGE,
            True,
            HopStatus.ASSERTED,
            "the share comes sealed to a one-time key of an attested statement; the lease is signed",
        )
    owner = next((other.name for other in configuration.sources if other.kind == "owner"), None)
    covered = f"the model key needs the share of {owner!r} too, and that one is sealed post-quantum"
    return Hop(
        f"enclave-kms-{_word(source.name)}",
        "the enclave and the KMS",
        at,
        _KMS_EXCHANGE,
        False,
        HopStatus.ASSERTED,
        "the KMS's envelope is classical whatever TLS did; TLS ends in the enclave",
        covered="" if owner is None else covered,
    )


def _to_log(configuration: Configuration) -> Hop:
    return Hop(
        "enclave-log",
        "the enclave and the log",
        f"the log {configuration.log.origin!r}, by way of the parent",
        NONE,
        None,
        HopStatus.ASSERTED,
        "signed records and salted commitments, in clear",
        covered="everything it carries is published",
    )


def _word(name: str) -> str:
    """As a code is written: whoever composed C chose the name."""
    kept = "".join(char if char.isascii() and char.isalnum() else "-" for char in name.lower())
    return "-".join(part for part in kept.split("-") if part)[:32].rstrip("-") or "unnamed"
