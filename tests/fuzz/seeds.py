"""What the targets start from: the project's own vectors, and the published documents where they are at hand."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"
PUBLISHED = ROOT.parent / "shared" / "vectors"
MAX_SEED = 65_536  # bytes; a seed over it would only slow the fuzzer down


def documents() -> list[bytes]:
    """Every document vector, ours and published."""
    files = sorted((VECTORS / "evidence" / "documents").glob("*.cbor")) + sorted(PUBLISHED.glob("nitro/*.cbor"))
    return [path.read_bytes() for path in files]


def statements() -> list[bytes]:
    """The statements of tests/vectors/evidence/statements.json."""
    kept = json.loads((VECTORS / "evidence" / "statements.json").read_bytes())["vectors"]
    return [bytes.fromhex(vector["statement"]) for vector in kept]


def under(folder: str, *endings: str) -> list[bytes]:
    """Every file of those endings under a folder of tests/vectors."""
    found = sorted(path for path in (VECTORS / folder).rglob("*") if path.is_file() and path.suffix in endings)
    return [path.read_bytes() for path in found if path.stat().st_size <= MAX_SEED]
