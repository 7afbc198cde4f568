"""Makes the image vectors: `files/*`, `index.json` and `index.md`, one fault each, the same bytes always.

    .venv/bin/python -m tests.vectors.eif.make

`tests/attestation/measure/test_vectors.py` fails where a committed file differs from what this makes, and where a check
of docs/spec/image.md 2 to 4 has neither a vector nor an entry in ELSEWHERE.
"""

import base64
import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import cbor2
from tests.vectors.eif import cases_file, cases_ramdisk, cases_signature
from tests.vectors.eif.case import ACCEPTED, CMDLINE, FIRST_SECTION, KERNEL, RAMDISK, SIGNATURE, Case

FOLDER = Path(__file__).parent
TEST = "tests/attestation/measure/test_vectors.py::test_each_vector_comes_out_as_its_index_says"
ELSEWHERE = {
    "4.7": (
        "a file of 8 MB, made by its test",
        "tests/attestation/measure/test_cpio.py::test_more_entries_than_the_limit_are_refused",
    )
}
_ABOUT = (
    "Enclave images and ramdisks, each with one fault or none. `check` is the number in docs/spec/image.md of the check"
    " that refuses it (`-`: none does), `expect` the error's code or `accepted`; `says` are words of our own message,"
    " which another implementation need not share. `registers` are PCR0, 1, 2 and 8 of an accepted image."
)


def cases() -> Iterator[Case]:
    """Every vector."""
    for suite in (cases_file, cases_signature, cases_ramdisk):
        yield from suite.cases()


def files() -> dict[str, bytes]:
    """Every file that this makes, by its path under the folder."""
    made = {_path(case): case.raw for case in cases()}
    index = {
        "version": 1,
        "about": _ABOUT,
        "vectors": [_entry(case) for case in cases()],
        "elsewhere": [{"check": check, "reason": why, "test": test} for check, (why, test) in ELSEWHERE.items()],
    }
    made["index.json"] = (json.dumps(index, indent=1) + "\n").encode()
    made["index.md"] = _table().encode()
    return made


def _path(case: Case) -> str:
    return f"files/{case.name}.{'eif' if case.reader == 'image' else 'cpio'}"


def _entry(case: Case) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": case.name,
        "file": _path(case),
        "sha256": hashlib.sha256(case.raw).hexdigest(),
        "check": case.check,
        "fault": case.fault,
        "expect": case.expect,
        "says": case.says,
    }
    measured = case.expect == ACCEPTED and case.reader == "image"
    return entry | ({"registers": _registers(case.raw)} if measured else {})


def _registers(raw: bytes) -> dict[str, str]:
    """AWS's formulas once more, not by the code under test."""
    content: dict[str, bytes] = {"0": b"", "1": b"", "2": b""}
    at, ramdisks = FIRST_SECTION, 0
    while at < len(raw):
        kind, _, size = struct.unpack_from(">HHQ", raw, at)
        body = raw[at + 12 : at + 12 + size]
        at += 12 + size
        if kind in (KERNEL, CMDLINE, RAMDISK):
            ramdisks += kind == RAMDISK
            for index in ("0", "2" if ramdisks > 1 else "1"):
                content[index] += body
        elif kind == SIGNATURE:
            pem = bytes(cbor2.loads(body)[0]["signing_certificate"])
            content["8"] = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    return {
        index: hashlib.sha384(bytes(48) + hashlib.sha384(one).digest()).hexdigest() for index, one in content.items()
    }


def _table() -> str:
    numbers = sorted({case.check for case in cases()} | set(ELSEWHERE), key=_order)
    lines = [
        "# Image vectors: check, vector, test",
        "",
        "Made by `make.py` from `cases_*.py`; `index.json` is the same for programs. The checks are those of",
        f"`docs/spec/image.md`. Every vector is shown by `{TEST}`.",
        "",
        "| check | vectors |",
        "|---|---|",
    ]
    for one in numbers:
        named = ", ".join(f"`{case.name}`" for case in cases() if case.check == one)
        if one in ELSEWHERE:
            reason, test = ELSEWHERE[one]
            named = f"{reason}: `{test}`"
        lines.append(f"| {'accepted' if one == '-' else one} | {named} |")
    return "\n".join([*lines, ""])


def _order(check: str) -> tuple[int, ...]:
    return (99,) if check == "-" else tuple(int(part) for part in check.split("."))


def main() -> None:
    """Write them all; what is no longer made goes."""
    made = files()
    for path in FOLDER.glob("files/*"):
        if str(path.relative_to(FOLDER)) not in made:
            path.unlink()
    for name, raw in made.items():
        (FOLDER / name).parent.mkdir(exist_ok=True)
        (FOLDER / name).write_bytes(raw)


if __name__ == "__main__":
    main()
