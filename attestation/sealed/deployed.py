"""Whether a signed adapter is one for a deployment: what its enclave asks before any key, and a replay once more."""

from anchorhold.attestation.configuration import Configuration
from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.sealed.manifest import Manifest, PurposeClass, ShareRole, WrappedShare


def check_deployed(adapter: Manifest, configuration: Configuration) -> tuple[WrappedShare, ...]:
    """Its shares for serving, sorted by source (docs/spec/adapters.md 3.2). Raises Mismatch.

    1. Its base is the configuration's model. 2. It has a share of each of the configuration's sources, and no other.
    3. A KMS key of it is in the account and region that the configuration names: no manifest chooses others.
    """
    # 1.
    base = adapter.descriptor.base
    if base != configuration.model:
        actual = "none" if base is None else base
        raise Mismatch("base of the adapter", expected=configuration.model, actual=actual, code="base")
    # 2.
    shares = adapter.wrapped(ShareRole.SHARE, PurposeClass.SERVE)
    sources = {source.name: source for source in configuration.sources}
    if (named := [share.source for share in shares]) != sorted(sources):
        raise Mismatch("sources", expected=sorted(sources), actual=named)
    # 3.
    for share in shares:
        source = sources[share.source]
        place, of_share = source.key.rpartition("/")[0], share.key.rpartition("/")[0]
        if source.kind == "kms" and of_share != place:
            raise Mismatch(f"place of the key of {source.name!r}", expected=place, actual=of_share)
    return shares
