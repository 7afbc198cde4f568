"""RFC 6962 proofs and tlog-tiles, against other projects' vectors (facts/audit.md 3)."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.attestation.errors import EvidenceError, Malformed
from anchorhold.attestation.transcript.checkpoint import (
    Checkpoint,
    Vkey,
    checkpoint_nonce,
    parse_note,
    sign_checkpoint,
)
from anchorhold.attestation.transcript.tree import (
    EMPTY_ROOT,
    HashTree,
    consistency_proof,
    decode_bundle,
    encode_bundle,
    entries_path,
    inclusion_proof,
    leaf_hash,
    root_of,
    tile_path,
    verify_consistency,
    verify_inclusion,
)

VECTORS = Path(__file__).parents[3] / ".." / "shared" / "vectors" / "tlog"
needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason="../shared/vectors is not beside this checkout")
# The one vector whose roots are 12 bytes and which says accept: we demand 32.
SHORT_ROOTS = "consistency/additional/sizes-are-equal-one-and-proof-is-empty.json"


def cases(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (VECTORS / "merkle" / name).read_text().splitlines()]


def raw(value: object) -> bytes:
    assert isinstance(value, str | None)
    return base64.b64decode(value or "")


def accepts(check: Callable[[], object]) -> bool:
    try:
        check()
    except EvidenceError:
        return False
    return True


def hashes(value: object) -> list[bytes]:
    assert isinstance(value, list | None)
    return [raw(one) for one in value or []]


def number(value: object) -> int:
    assert isinstance(value, int)
    return value


@needs_vectors
def test_inclusion_proofs_are_accepted_exactly_where_they_should_be() -> None:
    found = cases("inclusion.jsonl")
    for case in found:

        def check(case: dict[str, object] = case) -> None:
            leaf, root = raw(case["leafHash"]), raw(case["root"])
            verify_inclusion(leaf, number(case["leafIdx"]), number(case["treeSize"]), hashes(case["proof"]), root)

        assert accepts(check) is not case["wantErr"], case["file"]
    assert len(found) == 98


@needs_vectors
def test_consistency_proofs_are_accepted_exactly_where_they_should_be() -> None:
    found = cases("consistency.jsonl")
    for case in found:

        def check(case: dict[str, object] = case) -> None:
            old, new = raw(case["root1"]), raw(case["root2"])
            verify_consistency(number(case["size1"]), number(case["size2"]), old, new, hashes(case["proof"]))

        wanted = not case["wantErr"] and case["file"] != SHORT_ROOTS
        assert accepts(check) is wanted, case["file"]
    assert len(found) == 98


@needs_vectors
def test_another_projects_log_verifies_at_every_size() -> None:
    log = VECTORS / "tessera-log"
    vkey = Vkey.parse((log / "vkey.txt").read_text().strip())
    tree = HashTree()
    heads = {}
    for size in range(16):
        head = vkey.open_checkpoint((log / f"checkpoint.{size}").read_bytes())
        if size:
            entries = decode_bundle((log / entries_path(0, size)).read_bytes(), size)
            tree.add(leaf_hash(entries[-1]))
            assert b"".join(map(leaf_hash, entries)) == (log / tile_path(0, 0, size)).read_bytes()
        assert (head.size, head.root) == (size, tree.root(size))
        heads[size] = head
    for old in range(1, 16):
        proof = consistency_proof(old, 15, tree.node)
        verify_consistency(old, 15, heads[old].root, heads[15].root, proof)


@needs_vectors
def test_another_projects_note_verifies_and_a_changed_one_does_not() -> None:
    note = (VECTORS / "c2sp-examples" / "signed-note-1.txt").read_bytes()
    vkey = Vkey.parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
    assert vkey.open_note(note) == "This is an example message.\n"
    assert not accepts(lambda: vkey.open_note(note.replace(b"example m", b"example M")))


@needs_vectors
def test_other_projects_notes_parse() -> None:
    for name in ("signed-note-0", "signed-note-1", "tlog-checkpoint-0"):
        assert parse_note((VECTORS / "c2sp-examples" / f"{name}.txt").read_bytes()).signatures


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70), st.data())
def test_every_proof_of_ours_verifies_and_no_other_leaf_does(entries: list[bytes], data: st.DataObject) -> None:
    leaves = [leaf_hash(entry) for entry in entries]
    tree = HashTree(leaves)
    size = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, tree.node)
    verify_inclusion(leaves[index], index, size, proof, tree.root(size))
    assert not accepts(lambda: verify_inclusion(leaf_hash(b"another leaf"), index, size, proof, tree.root(size)))
    steps = consistency_proof(size, len(leaves), tree.node)
    verify_consistency(size, len(leaves), tree.root(size), tree.root(len(leaves)), steps)
    other = leaf_hash(b"another root")
    assert not accepts(lambda: verify_consistency(size, len(leaves), other, tree.root(len(leaves)), steps))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_note_or_malformed(content: bytes) -> None:
    accepts(lambda: parse_note(content))


def test_an_empty_tree_proves_nothing() -> None:
    for size in (0, 1):
        assert not accepts(lambda size=size: verify_inclusion(EMPTY_ROOT, 0, size, (), root_of([leaf_hash(b"")])))  # type: ignore[misc] # mypy does not infer a lambda with a default
    assert not accepts(lambda: verify_consistency(0, 1, EMPTY_ROOT, leaf_hash(b""), ()))


def test_tile_names_are_those_of_the_specification() -> None:
    assert tile_path(0, 1_234_067) == "tile/0/x001/x234/067"
    assert entries_path(0, 5) == "tile/entries/000.p/5"
    assert tile_path(63, 999, 255) == "tile/63/999.p/255"


def test_a_bundle_is_read_whole_or_not_at_all() -> None:
    bundle = encode_bundle([b"one", b"", b"three"])
    assert decode_bundle(bundle, 3) == (b"one", b"", b"three")
    for spoilt, width in ((bundle[:-1], 3), (bundle + b"\0", 3), (bundle, 2), (bundle, 4)):
        with pytest.raises(Malformed):
            decode_bundle(spoilt, width)


KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
HEAD = Checkpoint("log.example/1", 7, b"r" * 32)


def test_a_checkpoint_reads_back_and_its_nonce_is_its_own() -> None:
    note = sign_checkpoint(HEAD, KEY)
    vkey = Vkey.parse(str(Vkey.of(HEAD.origin, KEY.public_key())))
    assert vkey.open_checkpoint(note) == HEAD
    assert checkpoint_nonce(b"") == b""
    assert len(checkpoint_nonce(note)) == 48


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"log.example/1\n7", b"log.example/1\n07"),
        (b"log.example/1\n7", b"log.example/1\n+7"),
        (b"log.example/1\n7", "log.example/1\n\u0667".encode()),
        (b"log.example/1\n7", b"log.example/1\n-7"),
        (b"log.example/1\n7", b"log.example/2\n7"),
        (b"\n\n", b"\nextension\n\n"),
        (b"\n\n", b"\n\r\n"),
        (b"\n7\n", b"\n7\n\n"),
        (b"\xe2\x80\x94 ", b"- "),
        (b"=\n\n", b"\n\n"),
    ],
)
def test_a_checkpoint_in_another_form_is_refused_even_when_it_is_signed(old: bytes, new: bytes) -> None:
    vkey = Vkey.of(HEAD.origin, KEY.public_key())
    text, _, tail = sign_checkpoint(HEAD, KEY).replace(old, new, 1).partition(b"\n\n")
    signature = base64.b64encode(vkey.key_id + KEY.sign(text + b"\n")).decode()
    prefix = tail.decode().rpartition(" ")[0]
    with pytest.raises(EvidenceError):
        vkey.open_checkpoint(text + b"\n\n" + f"{prefix} {signature}\n".encode())


def test_a_key_whose_id_is_not_its_own_is_refused() -> None:
    vkey = str(Vkey.of("log.example/1", KEY.public_key()))
    name, key_id, key = vkey.split("+", 2)
    spoilt = ("ffffffff", key_id.upper() if key_id.upper() != key_id else "00000000")
    for text in (*(f"{name}+{one}+{key}" for one in spoilt), f"{name}+{key_id}", f" {vkey}", f"other+{key_id}+{key}"):
        with pytest.raises(EvidenceError):
            Vkey.parse(text)
