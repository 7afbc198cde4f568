"""The committed vectors: made by their generator and nothing else, opened by the real ends."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

from anchorhold.attestation.channel.body import Chat, Message, Role, Sampling
from anchorhold.attestation.channel.enclave import EnclaveExchange, OpenKey
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.channel.receipt import receipt_commitment, receipt_tag, verify_receipt
from anchorhold.attestation.channel.record import Direction, RecordKind, RecordOpener
from anchorhold.attestation.channel.seal import HybridPrivateKey
from anchorhold.attestation.types import KeyId, Sha384, StatementDigest

FOLDER = Path(__file__).parent.parent / "vectors" / "channel"
VECTOR = json.loads((FOLDER / "exchange.json").read_text())


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("channel_vectors", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class OneKey:
    """The vector's channel key, open for ever."""

    def find(self, key_id: KeyId) -> OpenKey | None:
        if key_id.hex() != VECTOR["key_id"]:
            return None
        digest = StatementDigest(Sha384(bytes.fromhex(VECTOR["statement_digest"])))
        return OpenKey(HybridPrivateKey(bytes.fromhex(VECTOR["channel_seed"])), digest)


def exchange() -> EnclaveExchange:
    return EnclaveExchange(OneKey(), lambda size: bytes([0x4E]) * size)


def test_the_committed_vectors_are_what_the_generator_makes() -> None:
    assert generator().generate(bytes.fromhex(VECTOR["slot"])) == VECTOR


def test_the_enclaves_end_reads_the_request_and_makes_the_answer() -> None:
    end = exchange()
    received = [end.receive(bytes.fromhex(one)) for one in VECTOR["request_frames"]][-1]
    assert received is not None
    assert received.digest.hex() == VECTOR["request_digest"]
    assert received.tenant_message.hex() == VECTOR["tenant_message"]
    assert received.request == Chat(
        (Message(Role.USER, "What is the capital of France?"),), Sampling(16), "customer-chat"
    )
    made = [end.answer(), end.delta("Par"), end.delta("is.")]
    assert [one.hex() for one in made] == VECTOR["response_frames"][:3]


def test_the_answer_opens_under_its_key_and_the_receipt_holds() -> None:
    opener = RecordOpener(bytes.fromhex(VECTOR["response_record_key"]), Direction.RESPONSE, Padding.BASIC)
    frames = [bytes.fromhex(one) for one in VECTOR["response_frames"][1:]]
    records = [opener.open(one[1:], final=at == len(frames) - 1) for at, one in enumerate(frames)]
    assert [one.kind for one in records] == [
        RecordKind.DELTA,
        RecordKind.DELTA,
        RecordKind.FINISH,
        RecordKind.RECEIPT,
    ]
    raw, secret = records[-1].content, bytes.fromhex(VECTOR["response_secret"])
    public = bytes.fromhex(VECTOR["statement"])
    key = generator().Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTOR["receipt_seed"]))
    assert key.public_key().public_bytes_raw() in public
    receipt = verify_receipt(raw, key.public_key().public_bytes_raw())
    assert receipt.response.hex() == VECTOR["response_digest"]
    assert receipt_tag(secret).hex() == VECTOR["receipt_tag"]
    assert receipt_commitment(secret, raw).hex() == VECTOR["receipt_commitment"]
