"""One ciphertext that opens under two keys: without a commitment two enclaves would be asked two different things."""

import secrets

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from anchorhold.attestation.channel.enclave import EnclaveExchange
from anchorhold.attestation.channel.header import (
    Header,
    encode_header,
    encode_opening,
    header_digest,
    request_commitment,
    request_record_key,
    seal_slot,
)
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.channel.record import COUNTER_BYTES, FrameKind, frame
from anchorhold.attestation.errors import Mismatch
from anchorhold.attestation.types import Milliseconds
from anchorhold.sim.loopback import START, LoopbackEnclave
from anchorhold.sim.pki import SimulatedPki

PKI = SimulatedPki.create(START)


def test_one_ciphertext_that_opens_under_two_keys_is_refused_by_the_commitment() -> None:
    """AES-GCM commits to no key: here is a record that opens under both. The header commits, so one slot is refused."""
    first, second = LoopbackEnclave(PKI), LoopbackEnclave(PKI)
    one, two = secrets.token_bytes(32), secrets.token_bytes(32)
    targets = tuple(enclave.epochs.current().key_id for enclave in (first, second))
    commit = request_commitment(one)
    header = encode_header(Header(targets, "tiny", b"", Padding.BASIC, Milliseconds(1_000), commit))
    digest = header_digest(header)
    # The control: without the commitment, the same bytes would be a record to each of them.
    nonce, aad = bytes(COUNTER_BYTES), b"\x00" + bytes(COUNTER_BYTES) + b"\x01"
    keys = [request_record_key(k, digest) for k in (one, two)]
    record = two_faced(keys[0], keys[1], nonce, aad)
    said = [AESGCM(key).decrypt(nonce, record, aad) for key in keys]
    assert said[0] != said[1]
    with pytest.raises(InvalidTag):
        AESGCM(bytes(32)).decrypt(nonce, record, aad)
    slots = []
    for index, (enclave, k) in enumerate(((first, one), (second, two))):
        epoch = enclave.epochs.current()
        secret = k + secrets.token_bytes(32)
        slots.append(seal_slot(secret, epoch.key.public, statement=epoch.statement, header=digest, index=index))
    opening = frame(FrameKind.OPEN, encode_opening(header, tuple(slots)))
    EnclaveExchange(first.epochs, secrets.token_bytes).receive(opening)
    with pytest.raises(Mismatch) as caught:
        EnclaveExchange(second.epochs, secrets.token_bytes).receive(opening)
    assert caught.value.code == "commitment"


def two_faced(one: bytes, two: bytes, nonce: bytes, aad: bytes) -> bytes:
    """Two random blocks and one solved for: GHASH is linear, so a block can be chosen that gives both keys one tag."""
    blocks = [secrets.token_bytes(16), bytes(16), secrets.token_bytes(16)]
    free = 1
    hashes, sums = [], []
    for key in (one, two):
        ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        h = int.from_bytes(ecb.update(bytes(16)), "big")
        mask = int.from_bytes(ecb.update(nonce + b"\x00\x00\x00\x01"), "big")
        hashes.append(h)
        sums.append(_ghash(h, aad, b"".join(blocks)) ^ mask)
    # The free block is followed by one block and the lengths: its factor is H to the third.
    factors = [_multiply(h, _multiply(h, h)) for h in hashes]
    solved = _multiply(sums[0] ^ sums[1], _inverse(factors[0] ^ factors[1]))
    blocks[free] = solved.to_bytes(16, "big")
    tag = sums[0] ^ _multiply(solved, factors[0])
    return b"".join(blocks) + tag.to_bytes(16, "big")


def _ghash(h: int, aad: bytes, text: bytes) -> int:
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * len(text)).to_bytes(8, "big")
    padded = aad + bytes(-len(aad) % 16) + text + bytes(-len(text) % 16) + lengths
    value = 0
    for at in range(0, len(padded), 16):
        value = _multiply(value ^ int.from_bytes(padded[at : at + 16], "big"), h)
    return value


def _multiply(x: int, y: int) -> int:
    """NIST SP 800-38D 6.3: in GF(2^128), bits from the left."""
    product, v = 0, y
    for at in range(128):
        if x >> (127 - at) & 1:
            product ^= v
        v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
    return product


def _inverse(x: int) -> int:
    """x to 2^128 - 2."""
    result, power = 1 << 127, x
    for _ in range(127):
        power = _multiply(power, power)
        result = _multiply(result, power)
    return result
