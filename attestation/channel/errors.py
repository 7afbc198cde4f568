"""What can be wrong with a channel; one family, all EvidenceError: the other side or somebody between sent it."""

from anchorhold.attestation.errors import EvidenceError


class ChannelError(EvidenceError):
    """A frame that cannot belong to this exchange."""

    code = "channel"


class OutOfOrder(ChannelError):
    """An event the state table does not have."""

    code = "out-of-order"


class RecordInvalid(ChannelError):
    """A record that does not open under this exchange's key, counter and position: changed, moved, or another's."""

    code = "record"


class Truncated(ChannelError):
    """The stream ended before the final record. What was delivered is not an answer."""

    code = "truncated"


class UnknownKey(ChannelError):
    """A request sealed to none of the channel keys that are open now."""

    code = "unknown-key"


class SlotInvalid(ChannelError):
    """A slot that does not open: sealed to another key, statement, header or place, or changed."""

    code = "slot"
