"""The bundle has the structure that model_signing 1.1 writes and reads; each departure from it is refused by name."""

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from anchorhold.attestation.chain import ChainInvalid
from anchorhold.attestation.errors import EvidenceError, Malformed
from anchorhold.attestation.sealed.signature import pae, verify_manifest
from anchorhold.publish.errors import PublishError
from anchorhold.publish.seal import SealedModel
from anchorhold.publish.signing import ModelSigner, create_signer, load_signer, sign_manifest

Json = dict[str, Any]


@pytest.fixture
def raw(sealed: SealedModel) -> bytes:
    return (sealed.out / "signed" / "manifest").read_bytes()


def resign(raw: bytes, signer: ModelSigner, edit: Callable[[Json], None]) -> bytes:
    """A bundle whose statement was changed and signed again by the same signer."""
    bundle = json.loads(sign_manifest(raw, signer))
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    edit(statement)
    payload = json.dumps(statement).encode()
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    signature = signer.key.sign(pae(payload), ec.ECDSA(hashes.SHA384()))
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    return json.dumps(bundle).encode()


def test_the_bundle_is_model_signings_own_structure(raw: bytes, signer: ModelSigner) -> None:
    bundle = json.loads(sign_manifest(raw, signer))
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert bundle["verificationMaterial"]["tlogEntries"] == []
    chain = bundle["verificationMaterial"]["x509CertificateChain"]["certificates"]
    leaf = x509.load_der_x509_certificate(base64.b64decode(chain[0]["rawBytes"]))
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    encoded = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(payload)).encode() + b" " + payload
    key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), encoded, ec.ECDSA(hashes.SHA384()))
    digest = hashlib.sha256(raw)
    assert json.loads(payload) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "signed", "digest": {"sha256": hashlib.sha256(digest.digest()).hexdigest()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
            "resources": [{"name": "manifest", "algorithm": "sha256", "digest": digest.hexdigest()}],
        },
    }


def test_model_signings_own_ignore_list_is_accepted(
    raw: bytes, signer: ModelSigner, root: bytes, sealed: SealedModel
) -> None:
    def edit(statement: Json) -> None:
        ignored = ["../signature", ".git", ".gitattributes", ".github", ".gitignore"]
        statement["predicate"]["serialization"]["ignore_paths"] = ignored

    verify_manifest(raw, resign(raw, signer, edit), (root,), sealed.digest)


def _serialization(name: str, value: object) -> Callable[[Json], None]:
    return lambda statement: statement["predicate"]["serialization"].update({name: value})


def _resource(name: str, value: object) -> Callable[[Json], None]:
    return lambda statement: statement["predicate"]["resources"][0].update({name: value})


@pytest.mark.parametrize(
    "edit",
    [
        _serialization("ignore_paths", ["manifest"]),
        _serialization("ignore_paths", ["."]),
        _serialization("ignore_paths", "manifest"),
        _serialization("method", "shards"),
        _serialization("hash_type", "blake3"),
        _serialization("allow_symlinks", True),
        _serialization("allow_symlinks", 0),
        _serialization("more", 1),
        _resource("name", "manifest2"),
        _resource("algorithm", "sha1"),
        _resource("digest", "00" * 32),
        lambda statement: statement["predicate"]["resources"].append(statement["predicate"]["resources"][0]),
        lambda statement: statement["predicate"].update(resources=[]),
        lambda statement: statement["subject"][0].update(digest={"sha256": "00" * 32}),
        lambda statement: statement.update(predicateType="https://slsa.dev/provenance/v1"),
        lambda statement: statement.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda statement: statement.pop("subject"),
    ],
)
def test_a_statement_about_anything_else_is_refused_though_well_signed(
    raw: bytes, signer: ModelSigner, root: bytes, sealed: SealedModel, edit: Callable[[Json], None]
) -> None:
    with pytest.raises(EvidenceError):
        verify_manifest(raw, resign(raw, signer, edit), (root,), sealed.digest)


@pytest.mark.parametrize(
    "edit",
    [
        lambda bundle: bundle.update(mediaType="application/vnd.dev.sigstore.bundle.v0.2+json"),
        lambda bundle: bundle["verificationMaterial"].update(tlogEntries=[{}]),
        lambda bundle: bundle["verificationMaterial"].update(publicKey={"hint": "x"}),
        lambda bundle: bundle["verificationMaterial"]["x509CertificateChain"].update(certificates=[]),
        lambda bundle: bundle["verificationMaterial"]["x509CertificateChain"]["certificates"][0].update(
            rawBytes="AAAA"
        ),
        lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"),
        lambda bundle: bundle["dsseEnvelope"].update(signatures=[]),
        lambda bundle: bundle["dsseEnvelope"]["signatures"].append(bundle["dsseEnvelope"]["signatures"][0]),
        lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig="!"),
        lambda bundle: bundle.update(extra=1),
    ],
)
def test_a_bundle_of_another_form_is_refused(
    raw: bytes, signer: ModelSigner, root: bytes, sealed: SealedModel, edit: Callable[[Json], None]
) -> None:
    bundle = json.loads(sign_manifest(raw, signer))
    edit(bundle)
    with pytest.raises(EvidenceError):
        verify_manifest(raw, json.dumps(bundle).encode(), (root,), sealed.digest)


def test_one_signature_has_one_text(raw: bytes, signer: ModelSigner, root: bytes, sealed: SealedModel) -> None:
    """RFC 4648, 3.5: the spare bits of the last character are zero."""
    bundle = json.loads(sign_manifest(raw, signer))
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    payload += b" " * (3 - (len(payload) + 2) % 3)
    signature = signer.key.sign(pae(payload), ec.ECDSA(hashes.SHA384()))
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    text = base64.b64encode(payload).decode()
    assert text.endswith("A=="), "a space, and four bits to spare"
    for spare, refused in (("A==", False), ("B==", True), ("P==", True)):
        bundle["dsseEnvelope"]["payload"] = text[:-3] + spare
        assert base64.b64decode(bundle["dsseEnvelope"]["payload"]) == payload
        with pytest.raises(Malformed, match="not canonical base64") if refused else contextlib.nullcontext():
            verify_manifest(raw, json.dumps(bundle).encode(), (root,), sealed.digest)


@pytest.mark.parametrize("spoiled", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b"null", b"{}" * 40_000])
def test_any_other_bytes_give_an_evidence_error_and_nothing_else(
    raw: bytes, root: bytes, sealed: SealedModel, spoiled: bytes
) -> None:
    with pytest.raises(EvidenceError):
        verify_manifest(raw, spoiled, (root,), sealed.digest)


def test_a_certificate_of_a_version_that_does_not_exist_is_refused(
    raw: bytes, signer: ModelSigner, root: bytes, sealed: SealedModel
) -> None:
    bundle = json.loads(sign_manifest(raw, signer))
    certificate = bundle["verificationMaterial"]["x509CertificateChain"]["certificates"][0]
    der = base64.b64decode(certificate["rawBytes"])
    version = bytes.fromhex("a003020102")  # [0] { INTEGER 2 }: version 3
    assert der.count(version) == 1
    certificate["rawBytes"] = base64.b64encode(der.replace(version, bytes.fromhex("a003020105"))).decode()
    with pytest.raises(Malformed):
        verify_manifest(raw, json.dumps(bundle).encode(), (root,), sealed.digest)


def test_an_expired_signer_still_signed_when_it_could(tmp_path: Path, raw: bytes, sealed: SealedModel) -> None:
    from anchorhold.publish.signing import load_root

    create_signer(tmp_path / "old", "old", datetime(2026, 11, 1, tzinfo=UTC) - timedelta(days=1000))
    bundle = sign_manifest(raw, load_signer(tmp_path / "old"))
    verify_manifest(raw, bundle, (load_root(tmp_path / "old"),), sealed.digest)


def test_a_certificate_that_is_not_for_signing_code_is_refused(
    raw: bytes, signer: ModelSigner, sealed: SealedModel
) -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "x")])
    key = ec.generate_private_key(ec.SECP384R1())
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    issuer = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    ).sign(key, hashes.SHA384())  # fmt: skip
    leaf_usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    leaf_name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "leaf")])
    leaf = (
        x509.CertificateBuilder().subject_name(leaf_name).issuer_name(name).public_key(signer.key.public_key())
        .serial_number(2).not_valid_before(now).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(leaf_usage, critical=True)
    ).sign(key, hashes.SHA384())  # fmt: skip
    bundle = sign_manifest(raw, ModelSigner(signer.key, (leaf, issuer)))
    root = issuer.public_bytes(Encoding.DER)
    with pytest.raises(ChainInvalid, match="codeSigning"):
        verify_manifest(raw, bundle, (root,), sealed.digest)


def test_a_signer_whose_key_is_not_the_certificates_is_not_made(signer: ModelSigner) -> None:
    with pytest.raises(PublishError, match="not the key's"):
        ModelSigner(ec.generate_private_key(ec.SECP384R1()), signer.chain)
    with pytest.raises(PublishError, match="P-384"):
        ModelSigner(ec.generate_private_key(ec.SECP256R1()), signer.chain)


def test_the_signers_key_is_readable_by_its_owner_alone(signer_folder: Path) -> None:
    assert (signer_folder / "signer.key.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        create_signer(signer_folder, "again", datetime(2026, 11, 1, tzinfo=UTC))
