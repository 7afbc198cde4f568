"""What keys do: encryption, decryption, integrity values, usage, metadata."""

import base64
import hashlib
from typing import Any

from tests.authority.xks.conformance.proxy import Proxy, expect, flipped

_CDIV: dict[str, Any] = {"ciphertextDataIntegrityValueAlgorithm": "SHA_256"}


def _opens(proxy: Proxy, encrypted: dict[str, Any], plaintext: bytes, aad: bytes | None = b"aad") -> None:
    opened = proxy.decrypt(proxy.keys.full, encrypted, aad).succeeds()
    expect(base64.b64decode(opened["plaintext"]) == plaintext, "what was decrypted is not what was encrypted")


def what_is_encrypted_is_decrypted(proxy: Proxy) -> None:
    _opens(proxy, proxy.encrypt(proxy.keys.full, b"the plaintext").succeeds(), b"the plaintext")


def additional_data_may_be_left_out(proxy: Proxy) -> None:
    _opens(proxy, proxy.encrypt(proxy.keys.full, b"bare", None).succeeds(), b"bare", None)


def the_parts_have_the_lengths_of_the_specification(proxy: Proxy) -> None:
    made = {
        name: base64.b64decode(value) for name, value in proxy.encrypt(proxy.keys.full, b"x" * 33).succeeds().items()
    }
    expect(len(made["initializationVector"]) in (12, 16), "initializationVector: expected 12 or 16 bytes")
    expect(len(made["authenticationTag"]) == 16, "authenticationTag: expected 16 bytes")
    expect(len(made["ciphertext"]) == 33, "ciphertext: expected the plaintext's length")
    expect(len(made.get("ciphertextMetadata", b"")) <= 20, "ciphertextMetadata: expected at most 20 bytes")


def the_largest_sizes_are_taken(proxy: Proxy) -> None:
    plaintext, aad = bytes(range(250)) * 17 + b"z" * 50, b"a" * 8_192
    expect(len(plaintext) == 4_300, "the suite's own plaintext")
    _opens(proxy, proxy.encrypt(proxy.keys.full, plaintext, aad).succeeds(), plaintext, aad)


def no_two_encryptions_are_alike(proxy: Proxy) -> None:
    first, second = (proxy.encrypt(proxy.keys.full).succeeds() for _ in range(2))
    expect(first["initializationVector"] != second["initializationVector"], "an initialization vector came twice")
    expect(first["ciphertext"] != second["ciphertext"], "a ciphertext came twice")


def other_additional_data_does_not_open(proxy: Proxy) -> None:
    made = proxy.encrypt(proxy.keys.full).succeeds()
    proxy.decrypt(proxy.keys.full, made, b"aaD").fails("InvalidCiphertextException")
    proxy.decrypt(proxy.keys.full, made, None).fails("InvalidCiphertextException")


def a_changed_ciphertext_does_not_open(proxy: Proxy) -> None:
    made = proxy.encrypt(proxy.keys.full).succeeds()
    for part in ("ciphertext", "authenticationTag", "initializationVector"):
        changed = made | {part: flipped(made[part])}
        proxy.decrypt(proxy.keys.full, changed).fails("InvalidCiphertextException")


def changed_metadata_does_not_open(proxy: Proxy) -> None:
    made = proxy.encrypt(proxy.keys.full).succeeds()
    if "ciphertextMetadata" not in made:
        return
    raw = base64.b64decode(made["ciphertextMetadata"])
    for index in range(len(raw)):
        other = bytes(byte ^ (index == at) for at, byte in enumerate(raw))
        changed = made | {"ciphertextMetadata": base64.b64encode(other).decode()}
        proxy.decrypt(proxy.keys.full, changed).fails("InvalidCiphertextException")


def the_integrity_value_is_over_all_parts(proxy: Proxy) -> None:
    for aad in (b"aad", None):
        made = proxy.encrypt(proxy.keys.full, b"counted", aad, **_CDIV).succeeds()
        names = ("ciphertextMetadata", "initializationVector", "ciphertext", "authenticationTag")
        whole = (aad or b"") + b"".join(base64.b64decode(made.get(name, "")) for name in names)
        value = base64.b64decode(made.get("ciphertextDataIntegrityValue", ""))
        expect(value == hashlib.sha256(whole).digest(), "ciphertextDataIntegrityValue is another value")
        _opens(proxy, made, b"counted", aad)


def an_integrity_value_is_given_only_where_asked(proxy: Proxy) -> None:
    made = proxy.encrypt(proxy.keys.full).succeeds()
    expect("ciphertextDataIntegrityValue" not in made, "an integrity value that nobody asked for")


def an_encrypt_only_key_encrypts_and_does_not_decrypt(proxy: Proxy) -> None:
    made = proxy.encrypt(proxy.keys.encrypt_only).succeeds()
    proxy.decrypt(proxy.keys.encrypt_only, made).fails("InvalidKeyUsageException")


def an_encrypt_only_key_gives_no_integrity_value(proxy: Proxy) -> None:
    proxy.encrypt(proxy.keys.encrypt_only, **_CDIV).fails("InvalidKeyUsageException")


def a_decrypt_only_key_does_not_encrypt(proxy: Proxy) -> None:
    proxy.encrypt(proxy.keys.decrypt_only).fails("InvalidKeyUsageException")
    made = proxy.encrypt(proxy.keys.full).succeeds()
    # It may decrypt; this is only not under it.
    proxy.decrypt(proxy.keys.decrypt_only, made).fails("InvalidCiphertextException")


def an_impotent_key_does_neither(proxy: Proxy) -> None:
    made = proxy.encrypt(proxy.keys.full).succeeds()
    proxy.encrypt(proxy.keys.impotent).fails("InvalidKeyUsageException")
    proxy.decrypt(proxy.keys.impotent, made).fails("InvalidKeyUsageException")


def metadata_says_what_a_key_is_for(proxy: Proxy) -> None:
    keys = proxy.keys
    usages = {keys.full: ["DECRYPT", "ENCRYPT"], keys.encrypt_only: ["ENCRYPT"], keys.decrypt_only: ["DECRYPT"]}
    for key, usage in (usages | {keys.impotent: []}).items():
        said = proxy.metadata(key).succeeds()
        expect(said.get("keySpec") == "AES_256", f"keySpec: expected AES_256, got {said.get('keySpec')!r}")
        expect(sorted(said.get("keyUsage", "?")) == usage, f"keyUsage: expected {usage}, got {said.get('keyUsage')!r}")
        expect(said.get("keyStatus") == "ENABLED", f"keyStatus: expected ENABLED, got {said.get('keyStatus')!r}")


def a_disabled_key_says_so_and_is_not_used(proxy: Proxy) -> None:
    key = proxy.keys.disabled
    if key is None:
        return
    expect(proxy.metadata(key).succeeds().get("keyStatus") == "DISABLED", "keyStatus: expected DISABLED")
    proxy.encrypt(key).fails("InvalidStateException")


def one_keys_ciphertext_is_not_anothers(proxy: Proxy) -> None:
    made = proxy.encrypt(proxy.keys.encrypt_only).succeeds()
    proxy.decrypt(proxy.keys.full, made).fails("InvalidCiphertextException")


def health_lists_the_key_managers(proxy: Proxy) -> None:
    said = proxy.health().succeeds()
    for name in ("xksProxyVendor", "xksProxyModel", "ekmVendor"):
        expect(isinstance(said.get(name), str) and said[name], f"{name}: expected text")
    expect(isinstance(said.get("xksProxyFleetSize"), int), "xksProxyFleetSize: expected a number")
    fleet = said.get("ekmFleetDetails")
    expect(isinstance(fleet, list) and 1 <= len(fleet) <= 10, "ekmFleetDetails: expected 1 to 10")
    for one in fleet or ():
        expect(one.get("healthStatus") in ("ACTIVE", "DEGRADED", "UNAVAILABLE"), "healthStatus: not a word of the API")
        expect(bool(one.get("id")) and bool(one.get("model")), "expected id and model")
