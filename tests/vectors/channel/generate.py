"""Makes `exchange.json`: one whole exchange under fixed keys. What is wrong with others is made by `make.py`.

    .venv/bin/python tests/vectors/channel/generate.py

Everything is reproducible but the HPKE slot, whose randomness is the library's: an existing file's slot is kept, and
`tests/channel/test_vectors.py` fails if anything else differs from what this makes. The keys are nobody's.
"""

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import labels
from anchorhold.attestation.binding import Serve, encode_statement, key_id, statement_digest
from anchorhold.attestation.canonical import encode
from anchorhold.attestation.channel import header as h
from anchorhold.attestation.channel.body import (
    Chat,
    Finish,
    FinishReason,
    Message,
    Role,
    Sampling,
    SealedRequest,
    encode_finish,
    encode_infer,
    encode_sealed,
    tenant_message,
)
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.channel.receipt import Asserted, Receipt, receipt_commitment, receipt_tag, sign_receipt
from anchorhold.attestation.channel.record import (
    Direction,
    FrameKind,
    RecordKind,
    RecordsDigest,
    RecordSealer,
    frame,
)
from anchorhold.attestation.channel.seal import HYBRID_SEED, SUITE, HybridPrivateKey
from anchorhold.attestation.types import BootId, ConfigDigest, Milliseconds, ModelDigest, StatementDigest

PATH = Path(__file__).parent / "exchange.json"
CHANNEL_SEED = bytes(range(HYBRID_SEED))
RECEIPT_SEED = bytes([0x52]) * 32
REQUEST_KEY = bytes([0x4B]) * 32
RESPONSE_SECRET = bytes([0x22]) * 32
NONCE = bytes([0x4E]) * 32
TEXTS = ("Par", "is.")


def generate(slot: bytes | None) -> dict[str, object]:
    """The vector, around this slot or a fresh one."""
    key, receipt_key = HybridPrivateKey(CHANNEL_SEED), Ed25519PrivateKey.from_private_bytes(RECEIPT_SEED)
    serve = Serve(
        BootId(bytes([0xB0]) * 32),
        StatementDigest(bytes([0x6E]) * 48),
        SUITE,
        key.public,
        receipt_key.public_key().public_bytes_raw(),
        ModelDigest(bytes([0xD1]) * 48),
        ConfigDigest(bytes([0xC0]) * 48),
        1,
        Milliseconds(1_800_000_000_000),
    )
    statement = statement_digest(serve)
    commit = h.request_commitment(REQUEST_KEY)
    raw_header = h.encode_header(
        h.Header((key_id(statement),), "tiny", b"label", Padding.BASIC, Milliseconds(60_000), commit)
    )
    digest = h.header_digest(raw_header)
    if slot is None:
        slot = h.seal_slot(REQUEST_KEY + RESPONSE_SECRET, key.public, statement=statement, header=digest, index=0)
    body = encode_infer(Chat((Message(Role.USER, "What is the capital of France?"),), Sampling(16), "customer-chat"))
    slots = (h.slot_digest(slot),)
    inside = encode_sealed(SealedRequest(body, slots, None, None))
    record_key = h.request_record_key(REQUEST_KEY, digest)
    sealer = RecordSealer(record_key, Direction.REQUEST, Padding.BASIC)
    request = sealer.seal(RecordKind.BODY, inside, final=True)
    running = RecordsDigest(labels.REQUEST_DIGEST, raw_header, slot)
    running.add(request[1:])
    opening = frame(FrameKind.OPEN, h.encode_opening(raw_header, (slot,)))
    response = _response(serve, statement, running, commit, receipt_key)
    return {
        "about": "docs/spec/channel.md; made by generate.py beside this file; keys are nobody's",
        "channel_seed": CHANNEL_SEED.hex(),
        "receipt_seed": RECEIPT_SEED.hex(),
        "statement": encode_statement(serve).hex(),
        "statement_digest": statement.hex(),
        "key_id": key_id(statement).hex(),
        "request_key": REQUEST_KEY.hex(),
        "response_secret": RESPONSE_SECRET.hex(),
        "header": raw_header.hex(),
        "header_digest": digest.hex(),
        "slot": slot.hex(),
        "slot_digest": slots[0].hex(),
        "body": body.hex(),
        "tenant_message": tenant_message(digest, slots, body).hex(),
        "request_record_key": record_key.hex(),
        "request_frames": [opening.hex(), request.hex()],
        "request_digest": running.digest().hex(),
        **response,
    }


def _response(
    serve: Serve, statement: StatementDigest, request: RecordsDigest, commit: bytes, key: Ed25519PrivateKey
) -> dict[str, object]:
    record_key = h.response_record_key(RESPONSE_SECRET, NONCE, request.digest(), statement)
    response_commit = h.response_commitment(RESPONSE_SECRET)
    sealer = RecordSealer(record_key, Direction.RESPONSE, Padding.BASIC)
    finish = encode_finish(Finish(FinishReason.STOP, 7, 2))
    frames = [sealer.seal(RecordKind.DELTA, text.encode()) for text in TEXTS]
    frames.append(sealer.seal(RecordKind.FINISH, finish))
    running = RecordsDigest(labels.RESPONSE_DIGEST)
    for one in frames:
        running.add(one[1:])
    receipt = sign_receipt(
        Receipt(
            request.digest(),
            running.digest(),
            running.count,
            0,
            commit,
            response_commit,
            serve.model,
            statement,
            "customer-chat",
            None,
            bytes([0x1E]) * 16,
            1,
            Asserted(Milliseconds(1), Milliseconds(2), 0, sum(len(one) for one in frames)),
        ),
        key,
    )
    answer = frame(FrameKind.ANSWER, encode({"nonce": NONCE, "commit": response_commit}))
    final = sealer.seal(RecordKind.RECEIPT, receipt, final=True)
    return {
        "response_nonce": NONCE.hex(),
        "response_record_key": record_key.hex(),
        "response_frames": [one.hex() for one in (answer, *frames, final)],
        "response_digest": running.digest().hex(),
        "receipt": receipt.hex(),
        "receipt_tag": receipt_tag(RESPONSE_SECRET).hex(),
        "receipt_commitment": receipt_commitment(RESPONSE_SECRET, receipt).hex(),
    }


def main() -> None:
    """Write the file, keeping the slot it has."""
    slot = bytes.fromhex(json.loads(PATH.read_text())["slot"]) if PATH.exists() else None
    PATH.write_text(json.dumps(generate(slot), indent=1) + "\n")


if __name__ == "__main__":
    main()
