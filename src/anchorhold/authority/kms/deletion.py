"""The end of a key: scheduled, called off, and carried out when its day has come.

Material is destroyed before the rows go: if the rows stay because the transaction failed, the key is due all the same,
answers nothing, and is destroyed again at the next call.
"""

from collections.abc import Iterator
from dataclasses import replace

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.keystore import Keystore
from anchorhold.authority.kms import key_states
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.key import Key, KeyState
from anchorhold.authority.kms.state import Transaction

WINDOW_DAYS = (7, 30)
DAY_MS = 86_400_000
_LATER = "kms:schedulekeydeletionpendingwindowindays"


def schedule_key_deletion(call: Call) -> Answer:
    call.fields.allow("KeyId", "PendingWindowInDays")
    key = call.key()
    least, most = WINDOW_DAYS
    days = call.fields.number("PendingWindowInDays", least=least, most=most) or most
    call.authorise(key, "ScheduleKeyDeletion", call.asked({_LATER: str(days)}))
    key_states.refuse(call, key, KeyState.PENDING_DELETION)
    date = Milliseconds(call.now + days * DAY_MS)
    call.transaction.keys.put(replace(key, state=KeyState.PENDING_DELETION, deletion_date=date, pending_window=days))
    arn = call.realm.key_arn(key.key_id)
    call.draft.response = {"keyId": arn, "keyState": KeyState.PENDING_DELETION.value, "pendingWindowInDays": days}
    return {
        "KeyId": arn,
        "DeletionDate": date / 1000,
        "KeyState": KeyState.PENDING_DELETION.value,
        "PendingWindowInDays": days,
    }


def cancel_key_deletion(call: Call) -> Answer:
    """The key is disabled then: who calls deletion off decides anew whether it is used."""
    call.fields.allow("KeyId")
    key = call.key()
    call.authorise(key, "CancelKeyDeletion")
    key_states.refuse(call, key, *(set(KeyState) - {KeyState.PENDING_DELETION}))
    call.transaction.keys.put(replace(key, state=KeyState.DISABLED, deletion_date=None, pending_window=None))
    arn = call.realm.key_arn(key.key_id)
    call.draft.response = {"keyId": arn}
    return {"KeyId": arn}


def carry_out(transaction: Transaction, keystore: Keystore, now: Milliseconds) -> Iterator[Key]:
    """Every key whose day has come, once it is gone."""
    for key in transaction.keys.due(now):
        for material in transaction.keys.materials(key.key_id):
            if keystore.has(material.handle):
                keystore.destroy(material.handle)
        for parameters in transaction.imports.of(key.key_id):
            if keystore.has(parameters.handle):
                keystore.destroy(parameters.handle)
        transaction.keys.remove(key.key_id)
        yield key


OPERATIONS = {"ScheduleKeyDeletion": schedule_key_deletion, "CancelKeyDeletion": cancel_key_deletion}
