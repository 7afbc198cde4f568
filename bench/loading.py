"""Time to ready and peak memory: sealed over the window's socket, plaintext over the same, and `from_pretrained`.

One server process runs the parent's own blob port twice, over the sealed folder and over the plain one, so both come in
the same frames. Each load runs in a fresh process (`loading_child.py`) that has torch imported before its clock starts.
Ready means that weights and tokenizer are there to generate with.
"""

import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.common import CACHE, ROOT, Line, at_most, interleaved, median_line, note, ratio_line

from anchorhold.attestation.sealed.manifest import PurposeClass, ShareKind, ShareRole, WrappedShare
from anchorhold.attestation.sealed.shares import SHARE_BYTES, share_check
from anchorhold.publish import smollm
from anchorhold.publish.providers import NewShare, Subject
from anchorhold.publish.seal import SealRequest, seal
from anchorhold.publish.signing import create_signer, load_root, load_signer

ROUNDS = 5
SOURCE = "bench"
MODES = SEALED, PLAIN, PRETRAINED = "sealed", "plain", "from_pretrained"
# facts: socket-encrypted against socket-plaintext, median of 5, and its anonymous peak.
WALL_LIMIT, PEAK_LIMIT = at_most(1.25), at_most(1.05)


def run() -> list[Line]:
    """Every mode once a round."""
    folder = CACHE / smollm.MODEL_ID
    smollm.fetch_smollm(folder, lambda *_: None)
    with tempfile.TemporaryDirectory(prefix="ah-") as scratch:
        room, source = Path(scratch), _BenchShares()
        create_signer(room / "signer", "bench", datetime(2026, 11, 1, tzinfo=UTC))
        request = SealRequest(folder, room / "model", smollm.MODEL_ID, "1")
        made = seal(request, [source], load_signer(room / "signer"))
        given = {"share": source.share.hex(), "root": load_root(room / "signer").hex(), "model": made.digest.hex()}
        with _served(room, folder):
            note(f"loading: {ROUNDS} rounds, a fresh process each for {', '.join(MODES)}")
            figures = interleaved({mode: _case(mode, room, folder, given) for mode in MODES}, ROUNDS)
    return _lines(figures, sum(path.stat().st_size for path in folder.iterdir()))


def _lines(figures: Mapping[str, Sequence[Mapping[str, float]]], size: int) -> list[Line]:
    def of(mode: str, what: str, scale: float = 1.0) -> list[float]:
        return [figure[what] * scale for figure in figures[mode]]

    lines = [
        ratio_line("time to ready, sealed / plain", of(SEALED, "wall"), of(PLAIN, "wall"), WALL_LIMIT),
        ratio_line("peak anonymous memory, sealed / plain", of(SEALED, "peak"), of(PLAIN, "peak"), PEAK_LIMIT),
        ratio_line("CPU to ready, sealed / plain", of(SEALED, "cpu"), of(PLAIN, "cpu")),
        ratio_line("of that the bytes, until checked, sealed / plain", of(SEALED, "read"), of(PLAIN, "read")),
        ratio_line("time to ready, sealed / from_pretrained", of(SEALED, "wall"), of(PRETRAINED, "wall")),
    ]
    for mode in figures:
        lines += [
            median_line(f"{mode}: time to ready", of(mode, "wall", 1e3), "ms"),
            median_line(f"{mode}: CPU to ready", of(mode, "cpu", 1e3), "ms"),
            median_line(f"{mode}: peak anonymous memory / model size", of(mode, "peak", 1 / size), "x"),
            median_line(f"{mode}: mapped files / model size", of(mode, "mapped", 1 / size), "x"),
        ]
    return lines


class _BenchShares:
    """One source that wraps nothing: no authority takes part in what is measured."""

    source = SOURCE

    def __init__(self) -> None:
        self.share = secrets.token_bytes(SHARE_BYTES)

    def new_share(self, subject: Subject, purposes: Sequence[PurposeClass]) -> NewShare:
        kind, role = ShareKind.OWNER, ShareRole.SHARE
        check = share_check(self.share, subject.model, SOURCE, role)
        wrapped = [WrappedShare(SOURCE, kind, role, purpose, "key", b"blob", check) for purpose in purposes]
        return NewShare(SOURCE, bytearray(self.share), tuple(wrapped))


def _command(role: str, room: Path, folder: Path) -> list[str]:
    return [sys.executable, "-m", "bench.loading_child", role, str(room), str(folder)]


@contextlib.contextmanager
def _served(room: Path, folder: Path) -> Iterator[None]:
    with subprocess.Popen(
        _command("serve", room, folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield
        finally:
            server.stdin.close()  # its sign to end


def _case(mode: str, room: Path, folder: Path, given: Mapping[str, str]) -> Callable[[], dict[str, float]]:
    def case() -> dict[str, float]:
        told = json.dumps(given).encode()
        done = subprocess.run(_command(mode, room, folder), input=told, stdout=subprocess.PIPE, check=True, cwd=ROOT)
        figures: dict[str, float] = json.loads(done.stdout)
        return figures

    return case
