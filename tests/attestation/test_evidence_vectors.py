"""The statements' bytes and digests are final: these were made once and hold for ever (docs/spec/evidence.md 7).

The digests are recomputed here from the specification's words, not by the code under test.
"""

import hashlib
import json
from pathlib import Path

import pytest

from anchorhold.attestation.binding import (
    Genesis,
    Release,
    Serve,
    Statement,
    decode_statement,
    encode_statement,
    key_id,
    nsm_nonce,
    statement_digest,
)

FILE = Path(__file__).resolve().parents[1] / "vectors" / "evidence" / "statements.json"
VECTORS: list[dict[str, str]] = json.loads(FILE.read_bytes())["vectors"]
KINDS: dict[str, type[Statement]] = {"genesis": Genesis, "release": Release, "serve": Serve}


def by_hand(*parts: bytes) -> str:
    return hashlib.sha384(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_a_kept_statement_reads_and_digests_as_ever(vector: dict[str, str]) -> None:
    raw, kind = bytes.fromhex(vector["statement"]), vector["kind"]
    statement = decode_statement(raw, KINDS[kind])
    assert encode_statement(statement) == raw
    assert by_hand(f"anchorhold/v1/statement/{kind}".encode(), raw) == vector["user_data"]
    assert statement_digest(statement).hex() == vector["user_data"]
    caller = bytes.fromhex(vector["caller_nonce"])
    assert by_hand(b"anchorhold/v1/nsm-nonce", kind.encode(), caller) == vector["nsm_nonce"]
    assert nsm_nonce(KINDS[kind], caller).hex() == vector["nsm_nonce"]
    if kind == "serve":
        assert key_id(statement_digest(statement)).hex() == vector["key_id"]
        assert by_hand(b"anchorhold/v1/key-id", bytes.fromhex(vector["user_data"]))[:32] == vector["key_id"]
