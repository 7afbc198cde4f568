"""What kind of key CreateKey is asked for: spec, usage and origin that go together (docs/spec/kms-asymmetric.md 1)."""

from dataclasses import dataclass

from anchorhold.authority.kms.call import Call
from anchorhold.authority.kms.faults import unsupported, validation
from anchorhold.authority.kms.key import SYMMETRIC, Key, KeyState, Material, Origin, Usage
from anchorhold.authority.kms.material import make_material
from anchorhold.authority.kms.pairs import make_pair
from anchorhold.authority.kms.specs import OTHER_SPECS, PAIR_SPECS, usages

_USAGES = tuple(usage.value for usage in (Usage.ENCRYPT_DECRYPT, Usage.SIGN_VERIFY, Usage.KEY_AGREEMENT))
_OTHER_USAGES = ("GENERATE_VERIFY_MAC", "ENCAPSULATE_DECAPSULATE")


@dataclass(frozen=True, slots=True)
class Kind:
    spec: str
    usage: Usage
    origin: Origin

    @property
    def state(self) -> KeyState:
        """A key whose material is imported begins without it."""
        return KeyState.PENDING_IMPORT if self.origin is Origin.EXTERNAL else KeyState.ENABLED


def asked_kind(call: Call) -> Kind:
    """Raises ValidationException, or UnsupportedOperationException for AWS's kinds that are not made here."""
    fields = call.fields
    newer, older = (
        fields.choice(name, SYMMETRIC, *PAIR_SPECS, also=OTHER_SPECS) for name in ("KeySpec", "CustomerMasterKeySpec")
    )
    if newer is not None and older is not None:
        raise validation("You cannot specify KeySpec and CustomerMasterKeySpec in the same request.")
    spec = newer or older or SYMMETRIC
    usage = fields.choice("KeyUsage", *_USAGES, also=_OTHER_USAGES)
    if usage is None and spec != SYMMETRIC:
        raise validation("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
    kind = Kind(spec, Usage(usage or Usage.ENCRYPT_DECRYPT.value), _origin(call))
    if kind.usage not in usages(spec):
        raise validation(f"KeyUsage {kind.usage.value} is not compatible with KeySpec {spec}")
    if kind.origin is not Origin.AWS_KMS and spec != SYMMETRIC:
        raise unsupported(f"Origin: only a symmetric key's material is imported or kept elsewhere here, not of {spec}")
    return kind


def first_material(call: Call, key: Key) -> Material | None:
    """What a new key begins with, if with any: in the keystore, before a row of key or material is written.

    Raises NotSupported, KeystoreBusy or UnsupportedOperationException.
    """
    if key.origin is Origin.EXTERNAL:
        return None
    return make_material(call, key) if key.symmetric else make_pair(call, key)


def _origin(call: Call) -> Origin:
    known = (Origin.AWS_KMS.value, Origin.EXTERNAL.value, Origin.EXTERNAL_KEY_STORE.value)
    asked = call.fields.choice("Origin", *known, also=("AWS_CLOUDHSM",))
    return Origin(asked or Origin.AWS_KMS.value)
