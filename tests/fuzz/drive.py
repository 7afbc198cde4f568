"""One target under libFuzzer: `python -m tests.fuzz.drive fuzz_document CORPUS... FLAGS...`; `run.py` starts it."""

import importlib
import sys
import warnings

import atheris  # type: ignore[import-untyped]  # it ships no types


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, *rest = sys.argv[1:]
    with atheris.instrument_imports(include=["anchorhold", "tests.fuzz"]):
        target = importlib.import_module(f"tests.fuzz.{name}")
    # What a library only warns of is a finding: a verdict must not hang on how the interpreter was started.
    warnings.simplefilter("error")
    atheris.Setup([name, *rest], target.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
