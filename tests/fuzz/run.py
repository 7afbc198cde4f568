"""Fuzzes every reader of the other side's bytes: `python tests/fuzz/run.py [--seconds N] [--jobs N] [TARGET...]`.

Each target starts from the project's vectors (`seeds()`), under libFuzzer's limits of time and memory for one input;
what it finds is kept in `.cache/fuzz`. Prints a row of figures for each, and exits 1 when anything crashed.
"""

import argparse
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".cache" / "fuzz"
MAX_RSS_MIB = 256  # of one target's process; a quiet one takes 60. libFuzzer's allocation limit needs a sanitizer
MAX_INPUT_S = 10  # for one input; the slowest real document takes 5 ms
_LAST = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)/\S+.*?rss: (\d+)Mb")
_PEAK = re.compile(r"stat::peak_rss_mb:\s+(\d+)")
_SLOWEST = re.compile(r"stat::slowest_unit_time_sec:\s+(\d+)")


@dataclass(frozen=True)
class Run:
    """The figures of one target."""

    target: str
    seconds: int
    seed: int
    executions: int
    edges: int
    features: int
    corpus: int
    peak_rss_mib: int
    slowest_s: int
    crashes: tuple[str, ...]

    def row(self) -> str:
        """One line for people."""
        return (
            f"{self.target:<16} {self.seconds:>6} {self.executions:>11} {self.edges:>7} {self.features:>9}"
            f" {self.corpus:>7} {self.peak_rss_mib:>9} {self.slowest_s:>9} {len(self.crashes):>8}"
        )


HEADER = "target           seconds  executions   edges  features  corpus  RSS (MiB)  slowest s  crashes"


def names() -> list[str]:
    """Every target there is."""
    return sorted(path.stem for path in Path(__file__).parent.glob("fuzz_*.py"))


def fuzz(name: str, seconds: int, seed: int) -> Run:
    """One target for that long."""
    target = importlib.import_module(f"tests.fuzz.{name}")
    corpus, findings = KEPT / name / "corpus", KEPT / name / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for raw in target.seeds():
        corpus.joinpath(hashlib.sha256(raw).hexdigest()[:32]).write_bytes(raw)
    words = KEPT / name / "tokens"
    words.write_text("".join(_token(token) for token in target.TOKENS))
    flags = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-max_len={target.MAX_LEN}",
        f"-rss_limit_mb={MAX_RSS_MIB}",
        f"-timeout={MAX_INPUT_S}",
        f"-artifact_prefix={findings}{os.sep}",
        "-print_final_stats=1",
    ]
    if target.TOKENS:
        flags.append(f"-dict={words}")
    command = [sys.executable, "-m", "tests.fuzz.drive", name, str(corpus), *flags]
    before = set(findings.iterdir())
    path = os.pathsep.join((str(ROOT), str(ROOT / "src")))
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    text = done.stdout.decode(errors="replace")
    (KEPT / name / "log").write_text(text)
    found = tuple(sorted(one.name for one in set(findings.iterdir()) - before))
    return _figures(name, seconds, seed, text, found or (("no input",) if done.returncode else ()))


def _token(token: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n'


def _figures(name: str, seconds: int, seed: int, text: str, crashes: tuple[str, ...]) -> Run:
    last = _LAST.search(text)
    executions, edges, features, corpus = (int(last[at]) for at in range(1, 5)) if last else (0, 0, 0, 0)
    peak, slowest = _PEAK.search(text), _SLOWEST.search(text)
    return Run(
        name,
        seconds,
        seed,
        executions,
        edges,
        features,
        corpus,
        int(peak[1]) if peak else 0,
        int(slowest[1]) if slowest else 0,
        crashes,
    )


def main() -> int:
    """The exit code: 0 if nothing crashed."""
    parser = argparse.ArgumentParser(description="Fuzz the readers of evidence.", allow_abbrev=False)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(names())}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--seed", type=int, default=1, help="libFuzzer's seed (default 1)")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time (default 1)")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(names()):
        parser.error(f"unknown target {min(unknown)!r}")
    runs: list[Run] = []
    with ThreadPoolExecutor(max(1, asked.jobs)) as pool:
        jobs = [pool.submit(fuzz, name, asked.seconds, asked.seed) for name in asked.targets or names()]
        if not asked.json:
            _say(HEADER)
        for job in jobs:
            runs.append(job.result())
            if not asked.json:
                _say(runs[-1].row(), *(f"  {KEPT / runs[-1].target / 'findings' / one}" for one in runs[-1].crashes))
    if asked.json:
        _say(json.dumps([asdict(run) for run in runs], indent=1))
    return 1 if any(run.crashes for run in runs) else 0


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    sys.exit(main())
