"""Which state of a key stands in the way of what, by AWS's table. Asked after authorisation: a stranger learns none."""

from anchorhold.authority.kms.call import Call
from anchorhold.authority.kms.faults import KmsFault, invalid_state
from anchorhold.authority.kms.key import Key, KeyState

_WORDS = {
    KeyState.PENDING_DELETION: "is pending deletion.",
    KeyState.PENDING_IMPORT: "is pending import.",
    KeyState.UNAVAILABLE: "is unavailable.",
    KeyState.DISABLED: "is disabled.",
    KeyState.ENABLED: "is not pending deletion.",
}


def usable(call: Call, key: Key) -> None:
    """For operations that use the key. Raises DisabledException or KMSInvalidStateException."""
    if key.state is KeyState.DISABLED:
        raise KmsFault("DisabledException", f"{call.realm.key_arn(key.key_id)} is disabled.")
    refuse(call, key, KeyState.PENDING_DELETION, KeyState.PENDING_IMPORT, KeyState.UNAVAILABLE)


def refuse(call: Call, key: Key, *states: KeyState) -> None:
    """Raises KMSInvalidStateException in these states."""
    if key.state in states:
        raise invalid_state(f"{call.realm.key_arn(key.key_id)} {_WORDS[key.state]}")
