"""The last record of a boot that never served: why it ended, in the words of every other end (DESIGN 5, 6).

Without it an auditor could not tell a start that was refused from one whose records were withheld.
"""

from anchorhold.attestation.transcript.bodies import Death
from anchorhold.attestation.types import Milliseconds
from anchorhold.enclave.keys.clock import ClockDoubt
from anchorhold.enclave.keys.lease import Event, LeaseEnded
from anchorhold.enclave.keys.source import SourceError, SourceUnavailable
from anchorhold.enclave.serve.scribe import Scribe

UNAVAILABLE = "unavailable"
ENCLAVE = "enclave"


def offer_refusal(scribe: Scribe, error: Exception, *, wiped_ms: Milliseconds, lease_ttl_ms: int) -> None:
    """Offer the death record for `error`. Never raises for the log."""
    source = error.source if isinstance(error, SourceError) else ENCLAVE
    scribe.offer_death(Death(_reason(error), source, None, wiped_ms, lease_ttl_ms, None))


def _reason(error: Exception) -> str:
    if isinstance(error, SourceUnavailable):
        return UNAVAILABLE
    if isinstance(error, SourceError):
        return Event.REFUSED.value
    if isinstance(error, LeaseEnded):
        return Event.DEADLINE.value
    return Event.CLOCK_DOUBT.value if isinstance(error, ClockDoubt) else Event.FAULT.value
