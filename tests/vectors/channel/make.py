"""Makes `faults/*.txt`, `slots.json` and the indexes: `python -m tests.vectors.channel.make`. The keys are nobody's.

`exchange.json` comes first (`generate.py`): these are that exchange with one thing changed. Slots are HPKE with the
library's own randomness, so they are kept; all else is reproducible and a test compares it.
"""

import json
from collections.abc import Iterator

from tests.vectors.channel import cases_answer, cases_request
from tests.vectors.channel.build import FOLDER, Vector, kept_slots

CLAUSES = {
    "3.1": "the header",
    "3.3": "the slots",
    "4": "frames and records",
    "4.1": "padding",
    "5": "the order of both directions",
    "6.1": "the sealed request and its body",
    "6.2": "the tenant",
    "6.4": "what comes back",
    "7": "the receipt",
}
_ABOUT = (
    "Frames for one end of an exchange under the keys of exchange.json, each with one fault or none. `clause` is the"
    " section of docs/spec/channel.md, `expect` the code of the error at the last frame, or what was taken"
    " (`request`, `tenant`, `finished`, `failed`); `incomplete` and `truncated` say that the stream ends too early."
)
TEST = "tests/vectors/channel/test_index.py::test_each_vector_comes_out_as_its_index_says"


def vectors() -> Iterator[Vector]:
    yield from cases_request.vectors()
    yield from cases_answer.vectors()


def files() -> dict[str, str]:
    """Every file that this makes, by its path under the folder."""
    all_ = list(vectors())
    made = {f"faults/{one.name}.txt": one.text() for one in all_}
    index = [
        {"name": one.name, "end": one.end, "clause": one.clause, "fault": one.fault, "expect": one.expect}
        for one in all_
    ]
    made["index.json"] = json.dumps({"version": 1, "about": _ABOUT, "vectors": index}, indent=1) + "\n"
    made["index.md"] = _table(all_)
    made["slots.json"] = kept_slots()
    return made


def _table(all_: list[Vector]) -> str:
    rows = "".join(
        f"| {clause} | {what} | {', '.join(f'`{one.name}`' for one in all_ if one.clause == clause)} |\n"
        for clause, what in CLAUSES.items()
    )
    return f"{_HEAD}Every vector is shown by `{TEST}`.\n\n| clause | about | vectors |\n|---|---|---|\n{rows}"


_HEAD = """# Channel vectors: clause, vector, test

Made by `make.py` from `cases_*.py`; `index.json` is the same for programs, `exchange.json` a whole exchange with every
value in it, read by another implementation in `another_reader.py`; `nonces.json` has paths of nonces.
"""


def main() -> None:
    """Write all of them, and nothing else into their folder."""
    made = files()
    folder = FOLDER / "faults"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        if f"faults/{old.name}" not in made:
            old.unlink()
    for name, text in made.items():
        FOLDER.joinpath(name).write_text(text)


if __name__ == "__main__":
    main()
