"""What is decided about one authenticated request, in this order; whatever denies is named in the journal.

1 the body is in the form; 2 the external key exists; 3 the guard allows the use; 4 the KMS key and the KMS operation
are among the external key's; 5 the key is enabled; 6 it is for this use. Only then is there work with the key.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Decision, Face, Guard, Use
from anchorhold.authority.keystore.store import RawGcm
from anchorhold.authority.xks import envelope
from anchorhold.authority.xks.faults import Error, XksFault
from anchorhold.authority.xks.fields import (
    Body,
    DecryptRequest,
    EncryptRequest,
    HealthRequest,
    MetadataRequest,
    RequestMetadata,
    parse_body,
)
from anchorhold.authority.xks.health import Health
from anchorhold.authority.xks.state import ExternalKey, Identity
from anchorhold.authority.xks.turn import Answer, Turn

KMS_OPERATIONS = frozenset(
    {
        "CreateKey",
        "DescribeKey",
        "Encrypt",
        "Decrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
    }
)
"""What a new external key may be asked for. Not ReEncrypt: it takes no attested recipient, so it goes round one."""
_ARN = re.compile(
    r"arn:(?P<partition>[a-z0-9-]{1,64}):kms:(?P<region>[a-z0-9-]{1,64}):[0-9]{12}:key/[A-Za-z0-9-]{1,64}"
)
# The guard's rules that are more than a denial to KMS: it stops the store, or slows down.
_STATE_RULES = frozenset({"guard-kill", "guard-log"})
_RATE_RULES = frozenset({"guard-rate", "guard-budget", "guard-burst"})


@dataclass(frozen=True, slots=True)
class Around:
    """What stays the same from request to request."""

    identity: Identity
    guard: Guard
    store: RawGcm
    health: Health


def decide(
    turn: Turn, keys: Mapping[str, ExternalKey], connection: Connection, around: Around, now: Milliseconds
) -> None:
    """Sets `turn.use` where the request is allowed. Raises XksFault where it is not."""
    target = turn.asked.target
    # 1. The body.
    turn.rule = "form"
    body = parse_body(target.operation, turn.asked.request.body)
    turn.meta, turn.rule = body.meta, None
    if isinstance(body, HealthRequest):
        turn.use = around.health.answer
        return
    # 2. The key. Before the guard: nothing is used where there is no key, and KMS has a word for it.
    key = keys.get(target.key)
    if key is None:
        turn.rule = "key-unknown"
        raise XksFault(Error.KEY_NOT_FOUND, "there is no such external key")
    # 3. The guard, in this transaction.
    decision = around.guard.decide(connection, _use(turn, body.meta, around.identity), now)
    turn.decision = decision
    if not decision.allowed:
        raise XksFault(_error_of(decision), decision.detail)
    # 4. to 6. The external key's own limits.
    _check_binding(turn, key, body.meta)
    if isinstance(body, MetadataRequest):
        turn.use = lambda: _key_metadata(key)
        return
    turn.rule = "key-disabled"
    if not key.enabled:
        raise XksFault(Error.INVALID_STATE, "the external key is disabled")
    turn.rule = "key-usage"
    _check_usage(key, body)
    turn.rule = None
    _prepare(turn, key, body, around.store)


def _check_binding(turn: Turn, key: ExternalKey, meta: RequestMetadata) -> None:
    turn.rule = "kms-key"
    if key.kms_key is not None and meta.key_arn not in (key.kms_key, None):
        raise XksFault(Error.ACCESS_DENIED, f"the external key serves {key.kms_key}, got {meta.key_arn!r:.160}")
    turn.rule = "kms-operation"
    if meta.operation not in key.kms_operations:
        raise XksFault(Error.ACCESS_DENIED, f"KMS operation {meta.operation!r:.80} is not among the external key's")
    turn.rule = None


def _check_usage(key: ExternalKey, body: Body) -> None:
    encrypting = isinstance(body, EncryptRequest)
    if not (key.may_encrypt if encrypting else key.may_decrypt):
        raise XksFault(Error.INVALID_KEY_USAGE, f"the external key may not {'encrypt' if encrypting else 'decrypt'}")
    # An integrity value vouches for a trial decryption, which this key could not do.
    if isinstance(body, EncryptRequest) and body.integrity and not key.may_decrypt:
        raise XksFault(Error.INVALID_KEY_USAGE, "an integrity value needs a key that may decrypt too")


def _prepare(turn: Turn, key: ExternalKey, body: EncryptRequest | DecryptRequest, store: RawGcm) -> None:
    if isinstance(body, EncryptRequest):
        turn.version = key.version
        turn.use = lambda: _encrypt(store, key, body)
        return
    turn.rule = "version"
    turn.version = envelope.version_of(body.ciphertext_metadata)
    if not 1 <= turn.version <= key.version:
        raise XksFault(Error.INVALID_CIPHERTEXT, f"version: expected 1 to {key.version}, got {turn.version}")
    turn.rule = None
    turn.use = lambda: _decrypt(store, key, body)


def _encrypt(store: RawGcm, key: ExternalKey, body: EncryptRequest) -> Answer:
    answer: dict[str, object] = {}
    if body.integrity:
        sealed, integrity = envelope.seal_with_integrity(store, key.key_id, key.version, body.plaintext, body.aad)
        answer["ciphertextDataIntegrityValue"] = _base64(integrity)
    else:
        sealed = envelope.seal(store, key.key_id, key.version, body.plaintext, body.aad)
    return answer | {
        "ciphertext": _base64(sealed.ciphertext),
        "ciphertextMetadata": _base64(sealed.metadata),
        "initializationVector": _base64(sealed.iv),
        "authenticationTag": _base64(sealed.tag),
    }


def _decrypt(store: RawGcm, key: ExternalKey, body: DecryptRequest) -> Answer:
    sealed = envelope.Sealed(body.ciphertext, body.ciphertext_metadata or b"", body.iv, body.tag)
    return {"plaintext": _base64(envelope.open_sealed(store, key.key_id, sealed, body.aad))}


def _key_metadata(key: ExternalKey) -> Answer:
    usage = [word for word, may in (("ENCRYPT", key.may_encrypt), ("DECRYPT", key.may_decrypt)) if may]
    return {"keySpec": "AES_256", "keyUsage": usage, "keyStatus": "ENABLED" if key.enabled else "DISABLED"}


def _use(turn: Turn, meta: RequestMetadata, identity: Identity) -> Use:
    """The use in the guard's words. Partition and region are the KMS key's; without one, the proxy's own."""
    match = None if meta.key_arn is None else _ARN.fullmatch(meta.key_arn)
    here = (identity.partition, identity.region) if meta.key_arn is None else (None, None)
    partition, region = here if match is None else (match["partition"], match["region"])
    return Use(
        face=Face.XKS,
        principal=meta.principal,
        operation=f"xks:{turn.asked.target.operation.value}",
        key=turn.asked.target.key,
        partition=partition,
        region=region,
        vpc=meta.vpc,
        vpce=meta.vpce,
        via_service=meta.via_service,
        told=meta.told,
        request_id=meta.request_id,
    )


def _error_of(decision: Decision) -> Error:
    if decision.rule in _STATE_RULES:
        return Error.INVALID_STATE
    return Error.THROTTLING if decision.rule in _RATE_RULES else Error.ACCESS_DENIED


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
