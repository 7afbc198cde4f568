"""What the files of a sealed folder mean together: a model, or an adapter for one. Sealing and opening both ask here.

The descriptor's `base` decides which it is; nothing in the files does.
"""

from collections.abc import Mapping, Sequence

from anchorhold.attestation.errors import Malformed
from anchorhold.attestation.sealed.adapter import check_adapter_tensors, read_adapter
from anchorhold.attestation.sealed.content import check_settings
from anchorhold.attestation.sealed.names import (
    ADAPTER_CONFIGURATION,
    ADAPTER_FILES,
    ADAPTER_WEIGHTS,
    REQUIRED,
    NotAllowed,
    check_name,
)
from anchorhold.attestation.sealed.tensors import Tensor


def check_file(name: str, *, adapter: bool) -> None:
    """Raises NotAllowed unless a model, or an adapter, may have a file of this name."""
    if not adapter:
        check_name(name)
    elif name not in ADAPTER_FILES:
        raise NotAllowed(f"file {name!r} is not one of an adapter's, {sorted(ADAPTER_FILES)}", code="file-name")


def needed_settings(*, adapter: bool) -> frozenset[str]:
    """The files beside the weights that have to be there."""
    return frozenset({ADAPTER_CONFIGURATION}) if adapter else REQUIRED


def check_meaning(
    settings: Mapping[str, bytes | memoryview], tensors: Mapping[str, Sequence[Tensor]], *, adapter: bool
) -> None:
    """All files but the weights by name, and the tensors of each weight file.

    Raises NotAllowed, Malformed or TooLarge. Whether an adapter fits its base, only who has the base can say.
    """
    if not adapter:
        check_settings(settings, settings.keys() | tensors.keys())
        return
    if settings.keys() | tensors.keys() != ADAPTER_FILES:
        raise Malformed(f"adapter: expected {sorted(ADAPTER_FILES)}, got {sorted(settings.keys() | tensors.keys())}")
    check_adapter_tensors(read_adapter(settings[ADAPTER_CONFIGURATION]), tensors[ADAPTER_WEIGHTS])
