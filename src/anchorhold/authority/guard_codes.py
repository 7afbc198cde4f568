"""What the guard of a key authority says: each code, its meaning, what to do (docs/spec/guard.md 3).

Standard library alone: `anchorhold explain` reads it in every installation.
"""

from collections.abc import Mapping
from types import MappingProxyType

_TABLE = """
guard-allowed
Every rule of the guard's policy lets this use through.
Nothing.

guard-kill
The kill switch is set: nothing is served.
Find out why it was set; to serve again, have the quorum approve re-arming.

guard-log
A journal write failed, and what cannot be journaled is not served.
Mend the disk or the database, then: anchorhold authority guard acknowledge.

guard-policy-missing
No guard policy is stored, so nothing is allowed.
Restore the state folder: init writes a policy.

guard-partition
The call came for a partition that the policy does not name.
Find out who signs for that partition; if it is yours, have the policy changed.

guard-region
The call came for a region that the policy does not name.
Find out who signs for that region; if it is yours, have the policy changed.

guard-role
The operator's role does not have this act.
Have it done by somebody whose role it is; duties are apart on purpose.

guard-allow
No tuple of the allow-list names this principal, operation, key, service and network together.
If the use is meant, have a tuple added; if nobody knows the principal, treat it as an incident.

guard-separation
The principal would both use keys and administer them.
Give one of the two duties to another principal, and take it out of the other's tuple.

guard-measured
The tuple asks for measured registers, and the document that was verified does not show them, or there was none.
Compare the registers with the image's; if the image is new and meant, have the policy changed.

guard-told
The tuple asks for registers, and nobody told or proved the right ones.
Compare the registers with the image's; a told register is another's word, so ask whose.

guard-third-party
The reason given is a third party's request for data, which is denied unless the policy names it.
Have a lawyer look at it before anybody changes the policy.

guard-purpose
The reason code is none that the policy accepts.
Ask with a reason code that the policy names, or have it added with its purpose class.

guard-purpose-missing
The tuple asks for a purpose, and neither the use nor a ticket gives one.
Register a signed use ticket that names the purpose, or ask with a reason code.

guard-ticket
The tuple asks for a signed use ticket, and none that fits has a use left.
Have a ticket signed and registered: anchorhold authority ticket.

guard-freeze
The use falls into a freeze window of the policy.
Wait until it is over; in an emergency, have break-glass approved.

guard-hours
The use falls outside the policy's opening hours.
Wait until they begin; in an emergency, have break-glass approved.

guard-rate
A token bucket is empty: more uses than the policy allows at once.
Wait; if nothing of yours asks so often, treat it as an incident.

guard-budget
A daily budget is spent.
Find out who spent it; the next day in the policy's zone begins a new one.

guard-new-principal
The principal was never seen here.
If it is yours, have its approval signed; if nobody knows it, treat it as an incident.

guard-new-measurement
An image that was never seen here asks for a key.
Compare its registers with the release statements; if it is meant, have its approval signed.

guard-burst
More uses in a short time than is ordinary for this principal.
Find out what it does; if it is not yours, kill: anchorhold authority kill.

guard-unknown-start
Nobody announced the start of the enclave, or of the principal, that asks.
Have the control plane announce starts; if nothing was started, treat it as an incident.

guard-unmatched-request
An earlier use has no request that the control plane's own record knows, the use has no request id, or too many wait.
Compare CloudTrail with the denials and the journal; a use without a request is one that somebody hid.

guard-approval
The use waits for approvers.
Have the quorum sign it: anchorhold authority approvals, then approve.

guard-quorum
The act takes the approval of the policy's quorum, and that is not there.
Propose it, and have the approvers sign: anchorhold authority approvals, then approve.

guard-policy
A policy that does not say one thing in the one form it has.
Mend it as the message says; docs/schema/guard.schema.json has the form.

guard-request
An approval request that nobody could sign.
Mend it as the message says.

guard-approval-signature
The signature is no approver's over an open request.
See what waits (anchorhold authority approvals) and sign that.

guard-ticket-form
A use ticket that is not in the form, not signed by a ticket signer of the policy, or over.
Have it signed again by somebody whom the policy names.

guard-start
An announced start without a subject, or for longer than a week.
Announce it again as the message says.

guard-requests
A report of request ids that is not in the form.
Report at most 10,000 ids at once, as text.

guard-operator
An operator who cannot be appointed or dismissed.
Read the message.

guard-not-killed
There is nothing to re-arm.
Nothing: the kill switch is not set.

guard-kill-unwritten
The kill switch is set on that host and holds, but the kill could not be committed.
Kill again once the database takes writes: the other hosts hear of it then, and the journal.

guard-not-latched
There is nothing to acknowledge.
Nothing: the journal works and the latch is open.
"""


def _read() -> dict[str, tuple[str, str]]:
    rows: dict[str, tuple[str, str]] = {}
    for paragraph in _TABLE.strip().split("\n\n"):
        code, meaning, action = paragraph.split("\n")
        if code in rows:
            raise ValueError(f"codes: {code!r} stands twice")
        rows[code] = (meaning, action)
    return rows


GUARD_CODES: Mapping[str, tuple[str, str]] = MappingProxyType(_read())
"""Code: meaning, what to do."""
