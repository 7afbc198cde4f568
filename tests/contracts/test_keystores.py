"""Every keystore keeps the same promises: the three software kinds, and a PKCS#11 token (docs/spec/keystores.md 1)."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from tests.authority.hsm import token_for_tests

from anchorhold.authority.keystore import (
    CannotOpen,
    Choice,
    FullKeystore,
    KeyExhausted,
    Kind,
    NotSupported,
    init_keystore,
    open_keystore,
)
from anchorhold.authority.keystore.store import MAX_RAW_SEALS
from anchorhold.authority.keystore.uses import BLOCK, FILE

PASSPHRASE = "correct horse battery staple"
KINDS = {
    Kind.BESIDE: "software, key beside it",
    Kind.KEY_FILE: "software, file key",
    Kind.PASSPHRASE: "software, passphrase",
    Kind.PKCS11: "pkcs11 anchorhold",
}


def choice(kind: Kind, elsewhere: Path) -> Choice:
    """How a test asks for a store of this kind; what is kept apart from the state is in `elsewhere`."""
    if kind is Kind.PKCS11:
        hsm = token_for_tests()
        return Choice(kind, module=hsm.module, token=hsm.label, pin_file=hsm.pin_file)
    passphrase = elsewhere / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text(PASSPHRASE + "\n")
    return Choice(kind, key_file=elsewhere / "master.key", passphrase_file=passphrase)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.value)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with a keystore of each kind."""
    folder = tmp_path_factory.mktemp("state")
    store = init_keystore(folder, choice(request.param, tmp_path_factory.mktemp("elsewhere")))
    assert store.kind == KINDS[request.param]
    store.close()
    return folder


@pytest.fixture(scope="module")
def store(place: Path) -> Iterator[FullKeystore]:
    opened = open_keystore(place)
    yield opened
    opened.close()


def new(store: FullKeystore, request: pytest.FixtureRequest) -> str:
    handle = str(request.node.name).split("[")[0]
    store.create(handle)
    return handle


def test_a_sealed_message_opens_under_its_handle_and_context_alone(
    store: FullKeystore, request: pytest.FixtureRequest
) -> None:
    handle = new(store, request)
    store.create("other")
    for message in (b"", b"m", b"m" * 5_000):
        sealed = store.seal(handle, message, b"context")
        assert len(message) < 16 or message[:16] not in sealed
        assert store.open(handle, sealed, b"context") == message
        for name, changed, context in (
            ("other", sealed, b"context"),
            (handle, sealed, b"another"),
            (handle, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"context"),
            (handle, bytes([sealed[0] ^ 1]) + sealed[1:], b"context"),
            (handle, sealed[:-1], b"context"),
            (handle, b"", b"context"),
        ):
            with pytest.raises(CannotOpen):
                store.open(name, changed, context)
    assert store.seal(handle, b"m", b"") != store.seal(handle, b"m", b"")


def test_a_handle_is_taken_once_and_known_by_name(store: FullKeystore, request: pytest.FixtureRequest) -> None:
    handle = new(store, request)
    assert store.has(handle)
    for again in (
        lambda: store.create(handle),
        lambda: store.import_key(handle, bytes(32)),
        lambda: store.create_pair(handle, "ECC_NIST_P384"),
        lambda: store.seal("unknown", b"", b""),
        lambda: store.open("unknown", bytes(64), b""),
        lambda: store.encrypt("unknown", b"", b"", None),
        lambda: store.public_key("unknown"),
        lambda: store.destroy("unknown"),
    ):
        with pytest.raises(KeyError):
            again()
    assert not store.has("unknown")
    for name in ("", "a" * 129, "line\nbreak", "\u20ac"):
        with pytest.raises(ValueError, match="handle"):
            store.create(name)


def test_a_destroyed_key_opens_nothing_here_or_after_a_restart(
    store: FullKeystore, place: Path, request: pytest.FixtureRequest
) -> None:
    handle = new(store, request)
    beside = open_keystore(place)
    sealed = store.seal(handle, b"m", b"")
    assert beside.open(handle, sealed, b"") == b"m"
    store.destroy(handle)
    again = open_keystore(place)
    for one in (store, beside, again):
        assert not one.has(handle)
        with pytest.raises(KeyError):
            one.open(handle, sealed, b"")
    store.create(handle)
    with pytest.raises(CannotOpen):
        store.open(handle, sealed, b"")
    for one in (beside, again):
        one.close()


def test_what_one_opening_makes_another_uses(store: FullKeystore, place: Path, request: pytest.FixtureRequest) -> None:
    other = open_keystore(place)
    handle = new(store, request)
    assert store.open(handle, other.seal(handle, b"m", b"a"), b"a") == b"m"
    other.close()


def test_an_imported_key_is_the_key_that_was_handed_in(store: FullKeystore, request: pytest.FixtureRequest) -> None:
    material, handle = bytes(range(32)), request.node.name.split("[")[0]
    store.import_key(handle, material)
    iv, ciphertext, tag = store.encrypt(handle, b"message", b"aad", None)
    assert AESGCM(material).decrypt(iv, ciphertext + tag, b"aad") == b"message"
    for length in (0, 16, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            store.import_key("short", bytes(length))
    assert not store.has("short")


def test_gcm_by_its_parts(store: FullKeystore, request: pytest.FixtureRequest) -> None:
    handle = new(store, request)
    for message, aad in ((b"", b""), (b"m" * 33, b""), (b"", b"aad"), (b"m" * 5_000, b"a" * 500)):
        iv, ciphertext, tag = store.encrypt(handle, message, aad, None)
        assert (len(iv), len(ciphertext), len(tag)) == (12, len(message), 16)
        assert store.decrypt(handle, iv, ciphertext, tag, aad) == message
        for parts in (
            (bytes(12), ciphertext, tag, aad),
            (iv, ciphertext, bytes(16), aad),
            (iv, ciphertext + b"x", tag, aad),
            (iv, ciphertext, tag, aad + b"x"),
            (iv, ciphertext, tag[:12], aad),  # a short tag is no tag
            (iv[:11], ciphertext, tag, aad),
        ):
            with pytest.raises(CannotOpen):
                store.decrypt(handle, *parts)
    assert store.encrypt(handle, b"m", b"", b"i" * 12)[0] == b"i" * 12
    with pytest.raises(ValueError, match="12 bytes"):
        store.encrypt(handle, b"m", b"", b"i" * 16)
    drawn = {store.encrypt(handle, b"", b"", None)[0] for _ in range(50)}
    assert len(drawn) == 50


def test_a_sealed_message_is_no_message_by_parts(store: FullKeystore, request: pytest.FixtureRequest) -> None:
    handle = new(store, request)
    sealed = store.seal(handle, b"m" * 40, b"aad")
    with pytest.raises(CannotOpen):
        store.decrypt(handle, sealed[:12], sealed[12:-16], sealed[-16:], b"aad")


def test_a_key_at_its_bound_seals_no_more(place: Path, request: pytest.FixtureRequest) -> None:
    store = open_keystore(place)
    handle = new(store, request)
    counts = place / FILE
    before = counts.read_text() if counts.exists() else None
    store.encrypt(handle, b"", b"", None)
    # Every use of this process up to the end of its block is written down before it is made.
    assert f'"{handle}": {BLOCK}' in counts.read_text()
    counts.write_text(f'{{"{handle}": {MAX_RAW_SEALS}}}')
    again = open_keystore(place)
    with pytest.raises(KeyExhausted):
        again.encrypt(handle, b"", b"", None)
    counts.write_text(before or "{}")
    for one in (store, again):
        one.close()


@pytest.mark.parametrize("spec", ["ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521"])
def test_a_pair_on_a_curve_signs_and_agrees(store: FullKeystore, spec: str) -> None:
    store.create_pair(spec, spec)
    public = load_der_public_key(store.public_key(spec))
    assert isinstance(public, ec.EllipticCurvePublicKey)
    digest = hashlib.sha384(b"message").digest()
    public.verify(store.sign(spec, digest, "ECDSA_SHA_384"), digest, ec.ECDSA(Prehashed(hashes.SHA384())))
    peer = ec.generate_private_key(public.curve)
    assert store.agree(spec, _spki(peer.public_key())) == peer.exchange(ec.ECDH(), public)
    elsewhere = ec.generate_private_key(ec.SECP256R1() if spec != "ECC_NIST_P256" else ec.SECP384R1())
    for wrong in (_spki(elsewhere.public_key()), b"no key", _spki(ed25519.Ed25519PrivateKey.generate().public_key())):
        with pytest.raises(CannotOpen):
            store.agree(spec, wrong)
    for algorithm in ("RSASSA_PSS_SHA_384", "ECDSA_SHA_1", "ED25519_SHA_512", "none"):
        with pytest.raises(NotSupported):
            store.sign(spec, digest, algorithm)
    with pytest.raises(ValueError, match="48 bytes"):
        store.sign(spec, digest[:32], "ECDSA_SHA_384")
    with pytest.raises(NotSupported):
        store.seal(spec, b"", b"")
    with pytest.raises(NotSupported):
        store.open_oaep(spec, b"", "RSAES_OAEP_SHA_1")
    store.destroy(spec)
    assert not store.has(spec)
    with pytest.raises(KeyError):
        store.public_key(spec)


def test_an_rsa_pair_signs_and_opens(store: FullKeystore) -> None:
    store.create_pair("rsa", "RSA_2048")
    public = load_der_public_key(store.public_key("rsa"))
    assert isinstance(public, rsa.RSAPublicKey)
    assert (public.key_size, public.public_numbers().e) == (2048, 65537)
    for name, function in (("SHA_256", hashes.SHA256()), ("SHA_384", hashes.SHA384()), ("SHA_512", hashes.SHA512())):
        digest = hashlib.new(function.name, b"message").digest()
        pss = padding.PSS(padding.MGF1(function), function.digest_size)
        public.verify(store.sign("rsa", digest, f"RSASSA_PSS_{name}"), digest, pss, Prehashed(function))
        signed = store.sign("rsa", digest, f"RSASSA_PKCS1_V1_5_{name}")
        public.verify(signed, digest, padding.PKCS1v15(), Prehashed(function))
        with pytest.raises(InvalidSignature):
            public.verify(signed, bytes(len(digest)), padding.PKCS1v15(), Prehashed(function))
    sealed = public.encrypt(b"secret", padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None))
    assert store.open_oaep("rsa", sealed, "RSAES_OAEP_SHA_1") == b"secret"
    for wrong in (bytes(256), sealed[:-1], b""):
        with pytest.raises(CannotOpen):
            store.open_oaep("rsa", wrong, "RSAES_OAEP_SHA_1")
    with pytest.raises(NotSupported):
        store.agree("rsa", store.public_key("rsa"))
    with pytest.raises(NotSupported):
        store.open_oaep("rsa", sealed, "RSAES_PKCS1_V1_5")
    with pytest.raises(NotSupported):
        store.encrypt("rsa", b"", b"", None)


def test_oaep_with_sha_256_opens_or_is_said_to_be_missing(store: FullKeystore) -> None:
    store.create_pair("oaep", "RSA_2048")
    public = load_der_public_key(store.public_key("oaep"))
    assert isinstance(public, rsa.RSAPublicKey)
    sealed = public.encrypt(b"secret", padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
    if store.kind.startswith("pkcs11"):  # SoftHSM2 knows SHA-1 alone; the answer must not read as a wrong ciphertext
        with pytest.raises(NotSupported):
            store.open_oaep("oaep", sealed, "RSAES_OAEP_SHA_256")
    else:
        assert store.open_oaep("oaep", sealed, "RSAES_OAEP_SHA_256") == b"secret"


def test_a_spec_that_is_none_is_refused_by_name(store: FullKeystore) -> None:
    for spec in ("RSA_1024", "SM2", "SYMMETRIC_DEFAULT", ""):
        with pytest.raises(NotSupported):
            store.create_pair("none", spec)
    assert not store.has("none")


def test_threads_use_one_store_at_once(store: FullKeystore, request: pytest.FixtureRequest) -> None:
    handle = new(store, request)
    wrong: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(40):
                message = bytes([number, turn]) * 20
                assert store.open(handle, store.seal(handle, message, b"a"), b"a") == message
            store.create(f"{handle}-{number}")
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(store.has(f"{handle}-{number}") for number in range(12))


def _spki(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
