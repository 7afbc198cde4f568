"""From configuration and signed manifest to the key sources of this boot (DESIGN 5).

The blobs, their contexts and their check values come from the manifest, whose signature holds; everything else from the
configuration, which is measured. Of the parent's bytes only two things are used: KMS
credentials, which select a caller, and the operator's purposes, which can only narrow what the configuration allows.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from anchorhold.attestation import canonical
from anchorhold.attestation.configuration import Source
from anchorhold.attestation.errors import EvidenceError, Malformed
from anchorhold.attestation.purpose import MAX_TENANTS, Purpose, checked_text, decode_purposes, tenant_tag
from anchorhold.attestation.sealed.deployed import check_deployed
from anchorhold.attestation.sealed.manifest import Manifest, PurposeClass, ShareRole, WrappedShare
from anchorhold.attestation.sealed.shares import encryption_context, verify_share
from anchorhold.attestation.types import BootId
from anchorhold.enclave.boot import Booted, boottime
from anchorhold.enclave.keys.kms import KmsSource, WrappedSecret
from anchorhold.enclave.keys.owner import OwnerSource
from anchorhold.enclave.keys.source import KeySource, Renewal, SourceContext
from anchorhold.enclave.parent_ports import boot_bytes
from anchorhold.enclave.serve.transport import open_egress
from anchorhold.wire.sigv4 import Credentials

MAX_PURPOSES_BYTES = 65_536  # 16 purposes with 64 tenants whose names have 48 bytes
MAX_CREDENTIALS = 65_536  # bytes; a session token takes about 1,000


def key_sources(booted: Booted, adapter: Manifest | None = None) -> tuple[KeySource, ...]:
    """One source for each of the configuration, in its order: of the model's key, or of this adapter's.

    An adapter's shares are under keys of its own, a tenant's for example: the signed manifest says which.
    Raises Malformed or Mismatch.
    """
    context = SourceContext(
        nsm=booted.nsm,
        boot_id=booted.boot_id,
        genesis=booted.genesis,
        model=booted.manifest.digest,
        receipt_key=booted.keys.receipt,
        open_stream=lambda name: open_egress(booted.launch.window, name),
        boottime=boottime,
        now_ms=booted.clock.now_ms,
        adapter=None if adapter is None else adapter.digest,
    )
    if adapter is None:
        return tuple(_source(booted, booted.manifest, one, context) for one in booted.configuration.sources)
    keys = {share.source: share.key for share in check_deployed(adapter, booted.configuration)}
    own = (replace(one, key=keys[one.name]) for one in booted.configuration.sources)
    return tuple(_source(booted, adapter, one, context) for one in own)


def _source(booted: Booted, sealed: Manifest, source: Source, context: SourceContext) -> KeySource:
    share = _wrapped(booted, sealed, source, ShareRole.SHARE)
    if source.kind == "owner":
        holds = _holds(sealed, share)
        return OwnerSource(source, context, blob=share.blob, holds=holds, renewal=_renewal(booted, source))
    lease = _wrapped(booted, sealed, source, ShareRole.LEASE)
    return KmsSource(
        source,
        context,
        lambda: read_credentials(boot_bytes(booted.launch.window, "credentials")),
        share=_secret(sealed, share),
        lease=_secret(sealed, lease),
        renewal=_renewal(booted, source),
    )


def _renewal(booted: Booted, source: Source) -> Renewal | None:
    """The new key of this source, for the purpose classes the model was sealed for before."""
    new = next((one.key for one in booted.configuration.reseal if one.source == source.name), None)
    if new is None:
        return None
    manifest = booted.manifest
    classes = tuple(one for one in PurposeClass if manifest.wrapped(ShareRole.SHARE, one))
    return Renewal(new, manifest.descriptor.model_id, classes)


def _wrapped(booted: Booted, sealed: Manifest, source: Source, role: ShareRole) -> WrappedShare:
    for share in sealed.wrapped(role, PurposeClass(booted.configuration.purpose_class)):
        if share.source == source.name and share.kind.value == source.kind and share.key == source.key:
            return share
    raise Malformed(f"manifest: no {role.value} of source {source.name!r} under key {source.key!r}")


def _secret(manifest: Manifest, share: WrappedShare) -> WrappedSecret:
    context = encryption_context(
        manifest.descriptor.model_id, manifest.digest, share.role.value, share.purpose_class.value
    )
    return WrappedSecret(share.blob, context, _holds(manifest, share))


def _holds(manifest: Manifest, share: WrappedShare) -> Callable[[bytes | bytearray | memoryview], bool]:
    def holds(secret: bytes | bytearray | memoryview) -> bool:
        try:
            verify_share(secret, share.check, manifest.digest, share.source, share.role)
        except EvidenceError:
            return False
        return True

    return holds


def read_credentials(raw: bytes) -> Credentials:
    """The credentials in the parent's bytes: texts that a header can hold. Raises Malformed."""
    if len(raw) > MAX_CREDENTIALS:
        raise Malformed(f"credentials: expected at most {MAX_CREDENTIALS} bytes, got {len(raw)}")
    try:
        fields = json.loads(raw)
        key, secret, token = fields["access_key_id"], fields["secret_access_key"], fields["session_token"]
    except (ValueError, KeyError, TypeError, RecursionError):
        # Not chained: the error of a JSON reader holds the whole text.
        raise Malformed("credentials: expected access_key_id, secret_access_key and session_token") from None
    if not (_is_word(key) and _is_word(secret) and (token is None or _is_word(token))):
        raise Malformed("credentials: expected printable ASCII text")
    return Credentials(key, secret, token)


def asked_purposes(booted: Booted) -> tuple[Purpose, ...]:
    """What is asked for now: the operator's narrowing, or all the configuration allows. Raises Malformed, OSError."""
    raw = boot_bytes(booted.launch.window, "purposes")
    return read_purposes(raw, booted.configuration.purposes, booted.boot_id)


def read_purposes(raw: bytes, allowed: Sequence[str], boot_id: BootId) -> tuple[Purpose, ...]:
    """A list of {reason, tenants, approver, ticket, expires}, tenants by name; empty bytes ask for all of `allowed`.

    Raises Malformed, also for a reason that the measured configuration does not have.
    """
    if not raw:
        return tuple(Purpose(reason) for reason in allowed)
    value = canonical.decode(raw, "purposes", limit=MAX_PURPOSES_BYTES)
    if not isinstance(value, list):
        raise Malformed("purposes: expected a list")
    purposes = decode_purposes([_tagged(one, boot_id) for one in value], "purposes")
    if others := [one.reason for one in purposes if one.reason not in allowed]:
        raise Malformed(f"purposes: expected one of {', '.join(allowed)}, got {others[0]!r:.80}")
    return purposes


def _tagged(value: canonical.Value, boot_id: BootId) -> canonical.Value:
    """The same purpose with its tenants as tags of this boot."""
    if not isinstance(value, dict) or not isinstance(value.get("tenants"), list):
        raise Malformed("purposes: expected maps with a list of tenants")
    names = value["tenants"]
    assert isinstance(names, list)
    if len(names) > MAX_TENANTS:
        raise Malformed(f"purposes: expected at most {MAX_TENANTS} tenants, got {len(names)}")
    tags = {tenant_tag(boot_id, checked_text(name, "purposes: tenant")) for name in names}
    return {**value, "tenants": sorted(tags)}


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()
