"""Another implementation reads our vectors, ours reads the published ones, and each opens what the other seals.

The other one is `tests/vectors/channel/another_reader.py`, in a process of its own that can import neither this
project nor the HPKE under it. The working group has no vector for exactly our suite: its hybrid one has another AEAD
(0x647a, HKDF-SHA256, ChaCha20Poly1305), the one of our KDF and AEAD another KEM (RFC 9180 A, X25519). Both are opened.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite

from anchorhold.attestation.channel.errors import SlotInvalid
from anchorhold.attestation.channel.seal import HYBRID_SEED, HybridPrivateKey, seal

FOLDER = Path(__file__).parent.parent / "vectors" / "channel"
READER = FOLDER / "another_reader.py"
VECTOR = json.loads((FOLDER / "exchange.json").read_text())
KEY = HybridPrivateKey(bytes(range(HYBRID_SEED)))


def another(what: str, given: object = None) -> Any:
    """What the other implementation makes of it."""
    command = [sys.executable, "-I", str(READER), what]
    done = subprocess.run(command, input=json.dumps(given).encode(), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2_000:]
    return json.loads(done.stdout)


def published(name: str, *, kem: int, kdf: int, aead: int) -> dict[str, Any]:
    vectors = pytest.importorskip("cryptography_vectors", reason="cryptography-vectors is not installed")
    kept = json.loads((Path(vectors.__file__).parent / "HPKE" / name).read_text())
    wanted = {"mode": 0, "kem_id": kem, "kdf_id": kdf, "aead_id": aead}
    (found,) = [one for one in kept if wanted.items() <= one.items()]
    assert isinstance(found, dict)
    return found


def hybrid() -> dict[str, Any]:
    return published("hpke-pq-test-vectors.json", kem=0x647A, kdf=1, aead=3)


def first(vector: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    """One-shot HPKE is the first message of a context: it, its aad and its plaintext."""
    one = vector["encryptions"][0]
    sealed = bytes.fromhex(vector["enc"]) + bytes.fromhex(one["ct"])
    return sealed, bytes.fromhex(one["aad"]), bytes.fromhex(one["pt"])


def expanded(seed: str) -> bytes:
    """The published private key is a seed; the channel's is what SHAKE256 makes of one (96 uniform bytes)."""
    return hashlib.shake_256(bytes.fromhex(seed)).digest(HYBRID_SEED)


def test_another_implementation_derives_all_that_our_vector_says() -> None:
    found = another(str(FOLDER / "exchange.json"))
    assert (found.pop("asked"), found.pop("text")) == ("What is the capital of France?", "Paris.")
    assert len(found) > 14
    assert found == {name: VECTOR[name] for name in found}


@pytest.mark.parametrize(
    "line",
    [
        "import anchorhold",
        "from cryptography.hazmat.primitives.hpke import Suite",
        "from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey",
        "openssl.hpke.Suite",
    ],
)
def test_the_other_implementation_can_reach_neither_this_project_nor_its_hpke(tmp_path: Path, line: str) -> None:
    planted = tmp_path / "reader.py"
    planted.write_text(READER.read_text().replace("\nPRIME =", f"\n{line}\nPRIME =", 1))
    command = [sys.executable, str(planted), str(FOLDER / "exchange.json")]
    path = {"PYTHONPATH": str(FOLDER.parents[2] / "src")}
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].split(b":")[0] in (b"AssertionError", b"AttributeError")


def test_ours_opens_what_another_implementation_seals() -> None:
    made = bytes.fromhex(another("seal", [b"K and R".hex(), KEY.public.hex(), b"info".hex()]))
    assert KEY.open(made, info=b"info") == b"K and R"
    with pytest.raises(SlotInvalid):
        KEY.open(made, info=b"other")


def test_another_implementation_opens_what_ours_seals_now() -> None:
    """Not only the slot that is kept: encapsulations are fresh each time."""
    header, statement = bytes.fromhex(VECTOR["header_digest"]), bytes.fromhex(VECTOR["statement_digest"])
    parts = (b"anchorhold/v1/channel/slot", b"MLKEM768-X25519/HKDF-SHA256/AES-256-GCM", statement, header, b"\x00")
    info = b"".join(len(one).to_bytes(8, "big") + one for one in parts)
    secrets = bytes.fromhex(VECTOR["request_key"] + VECTOR["response_secret"])
    fresh = seal(secrets, KEY.public, info=info)
    assert fresh.hex() != VECTOR["slot"]
    assert another("open", [fresh.hex(), VECTOR["channel_seed"], info.hex()]) == secrets.hex()


def test_another_implementation_opens_the_published_hybrid_vector() -> None:
    vector = hybrid()
    assert another("published", vector) == [one["pt"] for one in vector["encryptions"]]


def test_ours_has_the_kem_and_the_key_schedule_of_the_published_hybrid_vector() -> None:
    vector = hybrid()
    sealed, aad, plaintext = first(vector)
    seed = expanded(vector["skRm"])
    ours = HybridPrivateKey(seed)
    assert ours.public == bytes.fromhex(vector["pkRm"]), "ML-KEM key first, X25519 second"
    key = MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(seed[:64]), X25519PrivateKey.from_private_bytes(seed[64:])
    )
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    # The library's own tests reach the published vectors so: they have an AAD, and one-shot HPKE of the API has none.
    opened = openssl.hpke._decrypt_with_aad(suite, sealed, key, bytes.fromhex(vector["info"]), aad)
    assert opened == plaintext


def test_ours_has_the_kdf_and_the_aead_of_rfc_9180() -> None:
    vector = published("test-vectors.json", kem=0x20, kdf=1, aead=2)
    sealed, aad, plaintext = first(vector)
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    key = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["skRm"]))
    assert openssl.hpke._decrypt_with_aad(suite, sealed, key, bytes.fromhex(vector["info"]), aad) == plaintext
