"""The signature over `signed/`: an OpenSSF model-signing bundle, EC P-384, certificate mode, made and checked offline.

A sigstore bundle v0.3 around a DSSE envelope around an in-toto statement, as model_signing 1.1 writes it. Nothing of
that package is needed here. The folder signed holds one file, `manifest`, so exactly that is expected.
"""

import base64
import hashlib
from dataclasses import dataclass, fields
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.chain import ChainInvalid, Path, verify_chain
from anchorhold.attestation.errors import Malformed, Mismatch, SignatureInvalid, TooLarge, WrongAlgorithm
from anchorhold.attestation.sealed.manifest import Manifest, UnverifiedManifest, decode_manifest
from anchorhold.attestation.sealed.strict_json import Json, exact, load_object
from anchorhold.attestation.types import ModelDigest

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
SIGNED_FILE = "manifest"
MAX_BUNDLE = 64 << 10  # bytes; a chain of three takes about 5 KiB
MAX_CERTIFICATES = 5  # leaf, three intermediates, root
MAX_SIGNERS = 8  # roots a deployment may name


@dataclass(frozen=True, slots=True)
class SignedBy:
    """Who signed, for people and the transcript: fingerprints of the pinned root and the leaf, the leaf's subject."""

    root: str
    subject: str
    leaf: str


def verify_manifest(
    raw: bytes, bundle: bytes, signers: tuple[bytes, ...], expected: ModelDigest
) -> tuple[Manifest, SignedBy]:
    """The manifest, signed by one of `signers` (DER roots) and of the model `expected`.

    1. the bundle is one DSSE envelope with one signature and a certificate chain, and nothing else;
    2. the chain leads from a code-signing leaf to a root of the signers, at the time the leaf's validity begins;
    3. the leaf signed exactly this envelope, ECDSA P-384 with SHA-384;
    4. the statement is model-signing's, over the one file `manifest`, with no path left out;
    5. its digest is this manifest's;
    6. the manifest is well-formed, and its D is the one expected.

    Raises Malformed, ChainInvalid, SignatureInvalid, WrongAlgorithm or Mismatch.
    """
    # 1. Form (sealed-model.md 6.1).
    chain, payload, signature = _open_bundle(bundle)
    # 2. Who. There is no trusted time in an offline bundle: model-signing judges at the leaf's notBefore, and so do we.
    path, root = _verify_path(chain, signers)
    # 3. The signature.
    try:
        path.leaf_key.verify(signature, pae(payload), ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise SignatureInvalid("model signature: does not verify under the signer's certificate") from error
    # 4. and 5. What was signed is this manifest alone.
    _check_statement(payload, hashlib.sha256(raw).digest())
    # 6. The manifest itself.
    manifest = decode_manifest(raw)
    if manifest.digest != expected:
        raise Mismatch("model digest D", expected=expected, actual=manifest.digest, code="model")
    signed_by = SignedBy(
        Anchor("signer", root).fingerprint,
        path.leaf.subject.rfc4514_string(),
        path.leaf.fingerprint(hashes.SHA256()).hex(),
    )
    return Manifest(**{f.name: getattr(manifest, f.name) for f in fields(UnverifiedManifest)}), signed_by


def pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding of `payload` (secure-systems-lab/dsse, protocol v1)."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def statement(manifest_digest: bytes) -> dict[str, Json]:
    """The in-toto statement over a folder `signed` whose one file `manifest` has this SHA-256."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "signed", "digest": {"sha256": hashlib.sha256(manifest_digest).hexdigest()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
            "resources": [{"name": SIGNED_FILE, "algorithm": "sha256", "digest": manifest_digest.hex()}],
        },
    }


def _open_bundle(bundle: bytes) -> tuple[list[bytes], bytes, bytes]:
    what = "model signature"
    outer = exact(
        load_object(bundle, what, limit=MAX_BUNDLE), what, {"mediaType", "verificationMaterial", "dsseEnvelope"}
    )
    if outer["mediaType"] != MEDIA_TYPE:
        raise Mismatch(f"{what}: media type", expected=MEDIA_TYPE, actual=outer["mediaType"], code="format")
    material = exact(
        outer["verificationMaterial"], f"{what}: material", {"x509CertificateChain"}, frozenset({"tlogEntries"})
    )
    if material.get("tlogEntries", []) != []:
        raise Malformed(f"{what}: expected no transparency log entries in an offline bundle")
    holder = exact(material["x509CertificateChain"], f"{what}: chain", {"certificates"})
    certificates = _list(holder["certificates"], f"{what}: certificates", MAX_CERTIFICATES)
    chain = [_base64(exact(one, f"{what}: certificate", {"rawBytes"})["rawBytes"], what) for one in certificates]
    envelope = exact(outer["dsseEnvelope"], f"{what}: envelope", {"payload", "payloadType", "signatures"})
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise Mismatch(f"{what}: payload", expected=PAYLOAD_TYPE, actual=envelope["payloadType"], code="format")
    signature = _list(envelope["signatures"], f"{what}: signatures", 1)[0]
    sig = exact(signature, f"{what}: signature", {"sig"}, frozenset({"keyid"}))["sig"]
    return chain, _base64(envelope["payload"], what), _base64(sig, what)


def _verify_path(chain: list[bytes], signers: tuple[bytes, ...]) -> tuple[Path, bytes]:
    if not 1 <= len(signers) <= MAX_SIGNERS:
        raise TooLarge("model signers", limit=MAX_SIGNERS, actual=len(signers))
    leaf, above, roots = chain[0], chain[1:], signers
    if above and above[-1] in signers:
        roots, above = (above[-1],), above[:-1]
    begins = _not_before(leaf)
    failure: ChainInvalid | None = None
    for root in roots:
        try:
            path = verify_chain(leaf, (root, *reversed(above)), Anchor("signer", root), begins)
        except ChainInvalid as error:
            failure = error
            continue
        _check_code_signing(path.leaf)
        return path, root
    assert failure is not None
    raise ChainInvalid(f"model signature: no path to a signer named here: {failure}") from failure


def _not_before(leaf: bytes) -> datetime:
    try:
        return x509.load_der_x509_certificate(leaf).not_valid_before_utc
    except (ValueError, x509.InvalidVersion) as error:
        raise Malformed("model signature: leaf: not a readable X.509 certificate") from error


def _check_code_signing(leaf: x509.Certificate) -> None:
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound as error:
        raise ChainInvalid("model signature: leaf: expected the extended key usage codeSigning, got none") from error
    if ExtendedKeyUsageOID.CODE_SIGNING not in usages:
        shown = [usage.dotted_string for usage in usages]
        raise ChainInvalid(f"model signature: leaf: expected the extended key usage codeSigning, got {shown}")


def _check_statement(payload: bytes, digest: bytes) -> None:
    what = "model signature: statement"
    value = exact(
        load_object(payload, what, limit=MAX_BUNDLE), what, {"_type", "subject", "predicateType", "predicate"}
    )
    expected = statement(digest)
    for name in ("_type", "predicateType"):
        if value[name] != expected[name]:
            raise Mismatch(f"{what}: {name}", expected=expected[name], actual=value[name], code="format")
    predicate = exact(value["predicate"], f"{what}: predicate", {"serialization", "resources"})
    _check_serialization(predicate["serialization"], f"{what}: serialization")
    resource = exact(_list(predicate["resources"], f"{what}: resources", 1)[0], what, {"name", "algorithm", "digest"})
    if resource["name"] != SIGNED_FILE:
        raise Mismatch(f"{what}: file signed", expected=SIGNED_FILE, actual=resource["name"], code="signed-file")
    if resource["algorithm"] != "sha256":
        raise WrongAlgorithm(f"{what}: expected sha256, got {resource['algorithm']!r}")
    if resource["digest"] != digest.hex():
        raise Mismatch(f"{what}: digest", expected=digest.hex(), actual=resource["digest"], code="manifest-digest")
    subject = exact(_list(value["subject"], f"{what}: subject", 1)[0], what, {"name", "digest"})
    whole = {"sha256": hashlib.sha256(digest).hexdigest()}
    if subject["digest"] != whole:
        raise Mismatch(f"{what}: subject", expected=whole, actual=subject["digest"], code="manifest-digest")


def _check_serialization(value: Json, what: str) -> None:
    form = exact(value, what, {"method", "hash_type", "allow_symlinks", "ignore_paths"})
    for name, wanted in (("method", "files"), ("hash_type", "sha256"), ("allow_symlinks", False)):
        if form[name] != wanted or type(form[name]) is not type(wanted):
            raise Mismatch(f"{what}: {name}", expected=wanted, actual=form[name], code="format")
    ignored = form["ignore_paths"]
    if not isinstance(ignored, list) or not all(isinstance(path, str) for path in ignored):
        raise Malformed(f"{what}: ignore_paths: expected a list of texts")
    # The folder has one file, and that one may not be left out, by its name or by its folder's.
    if any(str(path).strip("/") in {SIGNED_FILE, "", ".", "./" + SIGNED_FILE} for path in ignored):
        raise Malformed(f"{what}: ignore_paths leave out {SIGNED_FILE!r}")


def _list(value: Json, what: str, limit: int) -> list[Json]:
    if not isinstance(value, list) or not 1 <= len(value) <= limit:
        raise Malformed(f"{what}: expected a list of 1 to {limit}")
    return value


def _base64(value: Json, what: str) -> bytes:
    if not isinstance(value, str):
        raise Malformed(f"{what}: expected base64 text, got {type(value).__name__}")
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError as error:  # binascii.Error is one; text outside ASCII is a plain one
        raise Malformed(f"{what}: not base64") from error
    if base64.b64encode(raw).decode() != value:
        raise Malformed(f"{what}: not canonical base64")
    return raw
