"""An instance with a NitroTPM as recipient: its registers never pass for an enclave's, whoever is told of them."""

import dataclasses

import pytest

from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.attestation.verify import Genuine
from anchorhold.authority.guard import Guard
from anchorhold.authority.keystore import open_keystore
from anchorhold.authority.kms import external
from anchorhold.authority.kms.app import DATABASE, journal_key
from anchorhold.authority.kms.call import Call, Surroundings
from anchorhold.authority.kms.fields import Fields
from anchorhold.authority.kms.journal import Draft
from anchorhold.authority.kms.recipient import Recipient
from anchorhold.authority.kms.state import SCHEMA, State

from .conftest import RSA_KEY, Kms

PCRS = {index: bytes([index]) * 48 for index in range(24)}
ENCLAVE = Recipient(
    RSA_KEY.public_key(),
    Genuine(Platform.NITRO_ENCLAVE, "i-0-enc0", Milliseconds(0), {0: PCRS[1], 4: PCRS[4]}, None, None, None),
)
INSTANCE = Recipient(
    RSA_KEY.public_key(), Genuine(Platform.NITRO_TPM, "i-0-tpm0", Milliseconds(0), PCRS, None, None, None)
)


def told(kms: Kms, recipient: Recipient) -> dict[str, object]:
    """What an external key store hears of such a recipient."""
    state, store = State.load(kms.folder / DATABASE), open_keystore(kms.folder)
    guard, journal = Guard(SCHEMA, kms.folder), state.journal(journal_key(state, store))
    around = Surroundings(state.realm(), (), store, journal, guard)
    draft = Draft("Decrypt", "request", "127.0.0.1", "agent", registers=recipient.registers())
    with state.transaction() as transaction:
        principal = transaction.principal(kms.caller("enclave").access_key_id)
        assert principal is not None
        said = external.request_metadata(
            Call(around, transaction, principal, Fields({}), draft, Milliseconds(kms.now)), None
        )
    state.close()
    return {name: value for name, value in said.items() if "Attestation" in name}


def test_an_external_key_store_is_told_an_enclave_s_registers_and_not_an_instance_s(kms: Kms) -> None:
    image, fourth = PCRS[1].hex(), PCRS[4].hex()
    assert told(kms, ENCLAVE) == {
        "kmsRecipientAttestationPCR0": image,
        "kmsRecipientAttestationPCR4": fourth,
        "kmsRecipientAttestationImageSha384": image,
    }
    assert told(kms, INSTANCE) == {}


def test_the_journal_names_registers_as_cloudtrail_does() -> None:
    assert ENCLAVE.journal_fields() == {
        "attestationDocumentModuleId": "i-0-enc0",
        "attestationDocumentEnclaveImageDigest": PCRS[1].hex(),
        "attestationDocumentEnclavePCR4": PCRS[4].hex(),
    }
    names = {f"attestationDocumentNitroTPMPCR{index}": PCRS[index].hex() for index in (4, 7, 8, 9, 16, 23)}
    assert INSTANCE.journal_fields() == {"attestationDocumentModuleId": "i-0-tpm0"} | names


@pytest.mark.parametrize("platform", list(Platform))
def test_policy_guard_and_journal_agree_whose_registers_they_are(platform: Platform) -> None:
    recipient = dataclasses.replace(INSTANCE, document=dataclasses.replace(INSTANCE.document, platform=platform))
    tpm = platform is Platform.NITRO_TPM
    assert all(name.startswith("NitroTPM") is tpm for name in recipient.registers())
    assert all(("nitrotpm" in name.lower()) is tpm for name in recipient.condition_values())
    assert any("Enclave" in name for name in recipient.journal_fields()) is not tpm
