"""Key pairs that the keystore holds: made, shown by their public half, agreed with (docs/spec/kms-asymmetric.md 1, 3).

The private half never leaves the keystore; a pair has one material, and rotation is not for pairs.
"""

from anchorhold.authority.keystore import CannotOpen, NotSupported
from anchorhold.authority.kms import key_states
from anchorhold.authority.kms.call import Answer, Call
from anchorhold.authority.kms.faults import unsupported, validation
from anchorhold.authority.kms.key import SYMMETRIC, Key, Material, MaterialState, Usage
from anchorhold.authority.kms.material import FIRST, current, handle_of, material_id
from anchorhold.authority.kms.outcome import base64_text, for_recipient, permit_use
from anchorhold.authority.kms.recipient import Recipient
from anchorhold.authority.kms.request_values import Asked
from anchorhold.authority.kms.specs import ECDH, published

MAX_PUBLIC_KEY = 8_192  # bytes of an SPKI; the KMS model's limit


def make_pair(call: Call, key: Key) -> Material:
    """The pair of a key to be, before anything is written of it: a token may not make this spec."""
    identifier, handle = material_id(key.key_id, FIRST), handle_of(key.key_id, FIRST)
    try:
        call.around.keystore.create_pair(handle, key.spec)
    except NotSupported as error:
        raise unsupported(f"KeySpec: this keystore makes no {key.spec}") from error
    return Material(key.key_id, FIRST, identifier, handle, MaterialState.CURRENT, call.now)


def get_public_key(call: Call) -> Answer:
    call.fields.allow("KeyId", "GrantTokens")
    key = call.key(by_alias=True)
    call.grant_tokens()
    call.authorise(key, "GetPublicKey")
    if key.spec == SYMMETRIC:
        raise unsupported(f"{call.realm.key_arn(key.key_id)} is a symmetric key: it has no public key")
    key_states.usable(call, key)
    return {
        "KeyId": call.realm.key_arn(key.key_id),
        "PublicKey": base64_text(public_key(call, key)),
        **published(key),
    }


def derive_shared_secret(call: Call) -> Answer:
    """ECDH's raw secret with a peer's public key: in the clear, or for the recipient alone."""
    fields = call.fields
    fields.allow("KeyId", "KeyAgreementAlgorithm", "PublicKey", "GrantTokens", "DryRun", "Recipient")
    algorithm = needed_choice(call, "KeyAgreementAlgorithm", ECDH)
    peer = fields.blob("PublicKey", most=MAX_PUBLIC_KEY)
    key = call.key(by_alias=True)
    recipient = call.recipient()
    asked = Asked(recipient, values={"kms:keyagreementalgorithm": algorithm})
    permit_use(call, key, "DeriveSharedSecret", asked, (Usage.KEY_AGREEMENT, algorithm))
    try:
        secret = call.around.keystore.agree(current(call, key).handle, peer)
    except CannotOpen as error:
        # AWS's words for a key of another curve, or for no key at all, are not public.
        raise validation(f"(simulated) PublicKey: {error}") from error
    return {
        "KeyId": call.realm.key_arn(key.key_id),
        "KeyAgreementAlgorithm": algorithm,
        "KeyOrigin": key.origin.value,
        **for_caller("SharedSecret", secret, recipient),
    }


def public_key(call: Call, key: Key) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return call.around.keystore.public_key(current(call, key).handle)


def needed_choice(call: Call, name: str, *choices: str, also: tuple[str, ...] = ()) -> str:
    """`Fields.choice` of a member that must be there."""
    call.fields.needed_text(name, most=64)
    return call.fields.choice(name, *choices, also=also) or ""


def for_caller(member: str, secret: bytes, recipient: Recipient | None) -> dict[str, object]:
    """A secret in the answer: in `member`, or in CiphertextForRecipient and nowhere else."""
    return {member: base64_text(secret)} if recipient is None else for_recipient(secret, recipient)


OPERATIONS = {"GetPublicKey": get_public_key, "DeriveSharedSecret": derive_shared_secret}
