"""One request on its way through a batch: what it asked, what was decided, and the journal entry that says so."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from anchorhold.attestation import canonical
from anchorhold.authority.guard import Decision
from anchorhold.authority.xks.faults import XksFault
from anchorhold.authority.xks.fields import RequestMetadata
from anchorhold.authority.xks.paths import Target
from anchorhold.wire import sigv4

Answer = Mapping[str, object]
ENTRY = "xks"
ENTRY_REFUSED = "xks-refused"
MAX_DETAIL = 256  # characters of a reason in the journal
ALLOWED_UNASKED = "health"  # the rule of what the guard is not asked about


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came. `deadline` is on the process's own clock, in seconds."""

    request: sigv4.Request = field(repr=False)
    target: Target
    request_id: str
    deadline: float


@dataclass(slots=True)
class Turn:
    """Filled in as the batch goes on. `use` is the work with the key that was allowed and is still to be done."""

    asked: Asked
    credential: str | None = None
    meta: RequestMetadata | None = None
    decision: Decision | None = None
    rule: str | None = None
    """The face's own rule that denied, where it was not the guard's."""
    version: int | None = None
    use: Callable[[], Answer] | None = None
    answer: Answer | None = None
    fault: XksFault | None = None

    @property
    def authenticated(self) -> bool:
        return self.credential is not None

    @property
    def open(self) -> bool:
        """Still to be decided."""
        return self.fault is None

    def refusal(self, left_out: int) -> Mapping[str, canonical.Value]:
        """The journal's body for a caller who was not let in; `left_out` others were not journaled before it."""
        assert self.fault is not None
        return {
            "request": self.asked.request_id,
            "operation": self.asked.target.operation.value,
            "error": self.fault.error.error_name,
            "detail": self.fault.detail[:MAX_DETAIL],
            "left_out": left_out,
        }

    def reply(self) -> Answer | XksFault:
        assert self.fault is not None or self.answer is not None
        return self.fault if self.fault is not None else self.answer or {}

    def entry(self) -> Mapping[str, canonical.Value]:
        """The journal's body: never a plaintext, a ciphertext or a secret."""
        decision = self.decision
        rule = self.rule or (ALLOWED_UNASKED if decision is None else decision.rule)
        detail = "" if decision is None else decision.detail
        return {
            "request": self.asked.request_id,
            "operation": self.asked.target.operation.value,
            "key": self.asked.target.key,
            "version": self.version,
            "credential": self.credential,
            "allowed": self.fault is None,
            "rule": rule,
            "detail": (detail if self.fault is None or not self.rule else self.fault.detail)[:MAX_DETAIL],
            "error": None if self.fault is None else self.fault.error.error_name,
            "guard": None if decision is None else decision.record(),
            "kms": None if self.meta is None else _said(self.meta),
        }


def _said(meta: RequestMetadata) -> Mapping[str, canonical.Value]:
    """What KMS said of the call behind this one; the request id joins it with CloudTrail."""
    return {
        "principal": meta.principal,
        "operation": meta.operation,
        "request": meta.request_id,
        "key": meta.key_arn,
        "vpc": meta.vpc,
        "vpce": meta.vpce,
        "via_service": meta.via_service,
        "told": dict(meta.told),
    }
