"""The recipient of an attested call: a document verified now, its RSA key, and what policies and journal read of it.

Verified as a key service must (`verify_genuine`): chain now, signature, no debug enclave, at most MAX_AGE_MS old.
As with AWS, nonce and user_data are the caller's own affair here; the answer opens for the key alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import DEFAULT_MAX_AGE_MS
from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.attestation.verify import Genuine, verify_genuine
from anchorhold.authority.kms.condition_keys import recipient_key
from anchorhold.authority.kms.faults import bad_document

MAX_AGE_MS = DEFAULT_MAX_AGE_MS  # 5 minutes is our rule; AWS publishes none
RSA_BITS = (2_048, 3_072, 4_096)  # AWS's own SDK makes 2048
RSA_EXPONENT = 65_537
# CloudTrail's lists. An enclave's PCR0 is there as its image digest; neither PCR16 nor a NitroTPM's PCR12 is.
_LOGGED_ENCLAVE, _LOGGED_TPM = (1, 2, 3, 4, 8), (4, 7, 8, 9, 16, 23)


@dataclass(frozen=True, slots=True)
class Recipient:
    """A verified document's key and measurements."""

    public_key: rsa.RSAPublicKey
    document: Genuine

    def condition_values(self) -> Mapping[str, str]:
        """The `kms:RecipientAttestation:*` keys this document fills."""
        pcrs = self.document.pcrs
        if self.document.platform is Platform.NITRO_TPM:
            return {recipient_key(f"NitroTPMPCR{index}"): value.hex() for index, value in pcrs.items()}
        values = {recipient_key(f"PCR{index}"): value.hex() for index, value in pcrs.items()}
        if 0 in pcrs:
            values[recipient_key("ImageSha384")] = pcrs[0].hex()
        return values

    def registers(self) -> Mapping[str, str]:
        """What was measured, by the names that guard policies use."""
        tpm = "NitroTPM" if self.document.platform is Platform.NITRO_TPM else ""
        return {f"{tpm}PCR{index}": value.hex() for index, value in self.document.pcrs.items()}

    def journal_fields(self) -> Mapping[str, str]:
        """`additionalEventData.recipient` by CloudTrail's names."""
        fields = {"attestationDocumentModuleId": self.document.module_id}
        pcrs, tpm = self.document.pcrs, self.document.platform is Platform.NITRO_TPM
        if 0 in pcrs and not tpm:
            fields["attestationDocumentEnclaveImageDigest"] = pcrs[0].hex()
        name, logged = ("NitroTPM", _LOGGED_TPM) if tpm else ("Enclave", _LOGGED_ENCLAVE)
        return fields | {f"attestationDocument{name}PCR{index}": pcrs[index].hex() for index in logged if index in pcrs}


def verify_recipient(unverified_document: bytes, anchors: tuple[Anchor, ...], now: Milliseconds) -> Recipient:
    """The recipient that a document proves. Raises ValidationException."""
    try:
        document = verify_genuine(
            unverified_document, anchors, datetime.fromtimestamp(now / 1000, UTC), max_age_ms=MAX_AGE_MS
        )
    except EvidenceError as error:
        raise bad_document(error.code) from error
    return Recipient(_rsa_key(document.public_key), document)


def _rsa_key(spki: bytes | None) -> rsa.RSAPublicKey:
    if not spki:
        raise bad_document("no public key")
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise bad_document("the public key is not an SPKI") from error
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size not in RSA_BITS:
        raise bad_document("the public key is not RSA of 2048, 3072 or 4096 bits")
    if key.public_numbers().e != RSA_EXPONENT:
        raise bad_document("the public key's exponent is not 65537")
    # The enclave finds its envelope by the digest of the SPKI: another encoding of the same key would not be found.
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != spki:
        raise bad_document("the public key is not in DER")
    return key
