"""`--credential` and `--credential-key`: the tenant that requests are made for."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from anchorhold.attestation.channel.client import TenantKey
from anchorhold.attestation.channel.tenant import MAX_CREDENTIAL_BYTES, TenantCredential, unverified_credential
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.types import ModelDigest
from anchorhold.cli.limited import read_limited
from anchorhold.cli.main import REFUSED, CommandError

MAX_KEY_BYTES = 4_096  # an Ed25519 key in PEM takes 119
_MAKE_KEY = "make one with: openssl genpkey -algorithm ed25519 -out FILE"
_ISSUE = "the owner authority issues one: anchorhold authority tenant"


def add_credential_options(parser: argparse.ArgumentParser) -> None:
    """Adds the pair."""
    parser.add_argument(
        "--credential",
        type=Path,
        metavar="FILE",
        help="the tenant credential to ask under, as `authority tenant` wrote it; default: none, no tenant's request",
    )
    parser.add_argument(
        "--credential-key",
        type=Path,
        metavar="FILE",
        help="the tenant's Ed25519 private key in PEM, without a passphrase, which signs each request",
    )


def tenant_of(options: argparse.Namespace, adapters: Iterable[ModelDigest]) -> TenantKey | None:
    """Who asks, None for no tenant. Raises CommandError where the files do not fit each other, or lack an adapter.

    The credential is read under nobody's signature: these are its holder's own mistakes. The enclave judges it.
    """
    if options.credential is None and options.credential_key is None:
        if any(True for _ in adapters):
            raise CommandError("--adapter: expected --credential and --credential-key beside it", hint=_ISSUE)
        return None
    if options.credential is None or options.credential_key is None:
        missing = "--credential" if options.credential is None else "--credential-key"
        raise CommandError(f"{missing}: missing: a credential and its key are given together")
    raw, key = read_limited(options.credential, MAX_CREDENTIAL_BYTES), _key(options.credential_key)
    said = _said(options.credential, raw)
    if key.public_key().public_bytes_raw() != said.key:
        raise CommandError(
            f"--credential-key: {str(options.credential_key)!r} is not the key of this credential",
            hint=f"the credential is of tenant {said.tenant!r}, for public key {said.key.hex()}",
        )
    for adapter in adapters:
        if adapter not in said.adapters:
            hint = "ask the owner authority for a credential that lists it"
            raise CommandError(f"--adapter: the credential does not list {adapter.hex()}", hint=hint, code=REFUSED)
    return TenantKey(raw, key)


def _said(path: Path, raw: bytes) -> TenantCredential:
    try:
        return unverified_credential(raw)
    except EvidenceError as error:
        raise CommandError(f"--credential: {str(path)!r}: {error}", hint=_ISSUE) from error


def _key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(read_limited(path, MAX_KEY_BYTES), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a passphrase
        words = "expected a private key in PEM, without a passphrase"
        raise CommandError(f"--credential-key: {str(path)!r}: {words}", hint=_MAKE_KEY) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CommandError(f"--credential-key: {str(path)!r}: expected an Ed25519 key", hint=_MAKE_KEY)
    return key
