"""The body of an order for a backup: canonical CBOR {recipients, threshold}, read strictly."""

from typing import cast

from anchorhold.attestation import canonical
from anchorhold.attestation.errors import Malformed
from anchorhold.authority.escrow.backup import BackupOrder
from anchorhold.authority.escrow.sealed import MAX_RECIPIENTS

MAX_ORDER = 32_768  # bytes; sixteen public keys take 20,000


def read_backup(raw: bytes) -> BackupOrder:
    """Raises Malformed."""
    fields = canonical.decode_map(raw, "body", limit=MAX_ORDER, fields={"recipients": list, "threshold": int})
    recipients = cast("list[object]", fields["recipients"])
    if len(recipients) > MAX_RECIPIENTS or not all(isinstance(one, bytes) for one in recipients):
        raise Malformed(f"recipients: expected at most {MAX_RECIPIENTS} public keys")
    return BackupOrder(tuple(cast("list[bytes]", recipients)), cast("int", fields["threshold"]))
