"""Takes each numbered check of the verifier away, one at a time, and fails unless a test of the evidence suite notices.

After the whole check each operand of its condition, and each end of a range in it, is taken away alone (`1.26/2`).

The numbers are read from the verifier's docstring, the checks from the marks in the code (`steps.py`). A number without
a check, a check without a number and a raise without either are faults. A mutant lives in a copy of the tree, never
here. Exit code: 0 all killed, 1 a survivor or a fault, 2 the suite fails before anything is taken away.
"""

import argparse
import hashlib
import os
import queue
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.steps import Module, Step, faults, load, numbers, parts, without

TIME_LIMIT_S = 240  # for one run of the suite, twenty times what it takes: a mutant that hangs was killed by no test
JOBS = 2  # CPUs of a small CI machine
_NOT_COPIED = (".*", "__pycache__", "node_modules", "dist", "build", "*.egg-info")
_READS_SOURCES = ("test_codes", "test_spec")  # what they notice is a text that changed, not a check that is gone
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::.*?)(?: - .*)?$", re.MULTILINE)
_TESTS_FAILED = 1  # pytest's own exit code; 2 and up are its own troubles, which kill nothing


@dataclass(frozen=True, slots=True)
class Subject:
    """What is mutated and by which tests it must be noticed. Paths are relative to `root`."""

    root: Path
    folder: str = "attestation"
    prefix: str = "anchorhold.attestation."
    verifier: str = "verify"
    roots: tuple[str, ...] = ("verify_live", "verify_at", "verify_genuine")
    suite: tuple[str, ...] = ("tests/attestation/test_*.py",)
    imports: str = "src"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one mutant."""

    step: Step
    killed_by: str | None
    remark: str = ""

    def line(self) -> str:
        """`1.7   nsm_cbor.py:118   killed by tests/...::test`."""
        place = f"{self.step.module}.py:{self.step.line}"
        return f"{self.step.name:<8}{place:<24}" + (f"killed by {self.killed_by}" if self.killed_by else self.remark)


def read_steps(subject: Subject) -> tuple[dict[str, Module], list[Step], list[str]]:
    """The modules, every step in order, and what is wrong between list and code."""
    folder = subject.root / subject.folder
    modules = load(folder, subject.prefix, subject.verifier)
    try:
        listed = numbers(modules[subject.verifier].source)
    except ValueError as error:
        return modules, [], [str(error)]
    wrong = faults(modules, listed, [(subject.verifier, name) for name in subject.roots])
    if wrong or not listed:
        return modules, [], wrong or ["no step at all"]
    steps = [part for module in modules.values() for step in module.marks for part in parts(module, step)]
    return modules, sorted(steps, key=lambda step: step.order), []


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What is not copied; nor sockets, pipes and the like, which a stack leaves where it ran."""
    plain = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)
    modes = {name: (Path(folder) / name).lstat().st_mode for name in names}
    others = {name for name, mode in modes.items() if not any(is_kind(mode) for is_kind in plain)}
    return others | set(shutil.ignore_patterns(*_NOT_COPIED)(folder, names))


class Copy:
    """A scratch copy of the tree in which one module at a time is another."""

    def __init__(self, subject: Subject, under: Path) -> None:
        self.subject = subject
        self.root = under / subject.root.name
        shutil.copytree(subject.root, self.root, symlinks=True, ignore=_left_out)
        shared = subject.root.parent / "shared"
        if shared.exists():
            (under / "shared").symlink_to(shared)

    def suite(self, first: str) -> list[list[str]]:
        """The test files in two parts: those that should notice `first`, then the rest."""
        found = [path for one in self.subject.suite for path in self.root.glob(one) if path.stem not in _READS_SOURCES]
        files = sorted(str(path.relative_to(self.root)) for path in found)
        likely = [name for name in files if _is_likely(Path(name).stem, first)]
        return [part for part in (likely, [name for name in files if name not in likely]) if part]

    def run(self, files: Sequence[str]) -> tuple[int, str]:
        """The tests in `files`: pytest's exit code and what it said."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "--no-header", *files]
        command += ["-p", "no:cacheprovider"]
        # No bytecode: two mutants of one size in one second would share it.
        environment = os.environ | {
            "PYTHONPATH": str(self.root / self.subject.imports),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "1000",
        }
        try:
            done = subprocess.run(
                command,
                check=False,
                cwd=self.root,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIME_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return -1, f"no end after {TIME_LIMIT_S} s"
        return done.returncode, done.stdout + done.stderr

    def judge(self, module: Module, step: Step) -> Outcome:
        """Whether a test notices that `step` is gone."""
        path = self.root / self.subject.folder / f"{module.name}.py"
        path.write_text(without(module, step))
        try:
            for files in self.suite(module.name):
                code, said = self.run(files)
                if code == _TESTS_FAILED and (found := _FAILED.search(said)):
                    return Outcome(step, found[1])
                if code != 0:
                    return Outcome(step, None, f"NO TEST KILLED IT: pytest ended with {code}: {said[-300:]!r}")
            return Outcome(step, None, "SURVIVED")
        finally:
            path.write_text(module.source)


def _is_likely(stem: str, module: str) -> bool:
    # Certificates have no test file of their own: chains show them.
    return stem in (f"test_{module}", "test_chain" if module == "certificates" else "")


def main(arguments: Sequence[str] | None = None, subject: Subject | None = None) -> int:
    """The whole run; prints one line a mutant."""
    asked = _parser().parse_args(arguments)
    subject = subject or Subject(Path(__file__).resolve().parents[2])
    modules, steps, wrong = read_steps(subject)
    if wrong:
        _say(*wrong, f"{len(wrong)} faults between the list and the code")
        return 1
    if asked.list:
        _say(*(f"{step.name:<8}{step.module}.py:{step.line}" for step in steps))
        return 0
    if asked.only:
        steps = [step for step in steps if step.number in asked.only.split(",")]
    if asked.sample:
        steps = drawn(steps, asked.sample, asked.seed)
    return _kill(subject, modules, steps, asked.jobs)


def _kill(subject: Subject, modules: dict[str, Module], steps: list[Step], jobs: int) -> int:
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        made = [Copy(subject, Path(scratch) / str(number)) for number in range(jobs)]
        for copy in made:
            copies.put(copy)
        code, said = made[0].run([name for part in made[0].suite("") for name in part])
        if code != 0:
            _say(
                *[line for line in said.splitlines() if not line.startswith(("=", "!"))][-20:],
                f"the suite fails before anything is taken away (pytest {code})",
            )
            return 2

        def judge(step: Step) -> Outcome:
            copy = copies.get()
            try:
                return copy.judge(modules[step.module], step)
            finally:
                copies.put(copy)

        killed = 0
        with ThreadPoolExecutor(jobs) as pool:
            for outcome in pool.map(judge, steps):
                killed += outcome.killed_by is not None
                _say(outcome.line())
    _say(f"{killed} of {len(steps)} killed")
    return 0 if steps and killed == len(steps) else 1


def drawn(steps: list[Step], count: int, seed: str) -> list[Step]:
    """So many of them, the same for one seed on every machine."""

    def lot(step: Step) -> bytes:
        return hashlib.sha256(f"{seed} {step.name} {step.module} {step.line}".encode()).digest()

    return sorted(sorted(steps, key=lot)[:count], key=lambda step: step.order)


def _say(*lines: str) -> None:
    sys.stdout.write("".join(line + "\n" for line in lines))
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, metavar="K", help="K checks drawn by the seed, instead of all")
    parser.add_argument("--seed", default="0", help="of the draw; any text (default 0)")
    parser.add_argument("--only", metavar="N.M,...", help="these numbers only")
    parser.add_argument("--list", action="store_true", help="compare list and code, print the places, run nothing")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"mutants at a time (default {JOBS})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
