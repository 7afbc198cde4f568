"""Which body format and which hash: `python -m bench.bodies [--mib N]`. Decision: docs/adr/0001-body-format.md.

Every round runs every case once, so load on the machine falls on all alike; medians, and ratios within the run.
"""

import argparse
import hashlib
import mmap
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from bench.common import Line, median_line, ratio_line
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

STEP = 4 << 20  # bytes handed over at a time; also the GCM chunk and the leaf of the tree
TAG = 16
KEY = bytes(range(32))
CONTEXT = b"bench"
BASE = "open + SHA-256: Cobblestone-256"
BENCH_MIB, BENCH_ROUNDS = 48, 5


class Hasher(Protocol):
    def update(self, data: memoryview, /) -> None: ...


def gcm_nonce(index: int, *, last: bool) -> bytes:
    return index.to_bytes(11, "big") + bytes([last])


def gcm_seal(plain: memoryview) -> bytearray:
    aead, out = AESGCM(KEY), bytearray()
    for start in range(0, len(plain), STEP):
        out += aead.encrypt(
            gcm_nonce(start // STEP, last=start + STEP >= len(plain)), plain[start : start + STEP], CONTEXT
        )
    return out


def gcm_open(sealed: memoryview, out: memoryview) -> None:
    aead, step = AESGCM(KEY), STEP + TAG
    for index, start in enumerate(range(0, len(sealed), step)):
        chunk = sealed[start : start + step]
        nonce = gcm_nonce(index, last=start + step >= len(sealed))
        at = index * STEP
        aead.decrypt_into(nonce, chunk, CONTEXT, out[at : at + len(chunk) - TAG])


def cobblestone_seal(plain: memoryview) -> bytearray:
    encryptor, out = Cobblestone256Encryptor(KEY, CONTEXT), bytearray()
    for start in range(0, len(plain), STEP):
        out += encryptor.update(plain[start : start + STEP])
    return out + encryptor.finalize()


def cobblestone_open(sealed: memoryview, out: memoryview, hasher: Hasher | None = None) -> None:
    decryptor, at = Cobblestone256Decryptor(KEY, CONTEXT), 0
    for start in range(0, len(sealed), STEP):
        chunk = sealed[start : start + STEP]
        if hasher is not None:
            hasher.update(chunk)
        at += decryptor.update_into(chunk, out[at:])
    tail = decryptor.finalize()
    out[at : at + len(tail)] = tail


def gcm_open_hashed(sealed: memoryview, out: memoryview) -> None:
    aead, step, hasher = AESGCM(KEY), STEP + TAG, hashlib.sha256()
    for index, start in enumerate(range(0, len(sealed), step)):
        chunk = sealed[start : start + step]
        hasher.update(chunk)
        at = index * STEP
        nonce = gcm_nonce(index, last=start + step >= len(sealed))
        aead.decrypt_into(nonce, chunk, CONTEXT, out[at : at + len(chunk) - TAG])


def tree(sealed: memoryview, threads: int) -> bytes:
    leaves = [sealed[start : start + STEP] for start in range(0, len(sealed), STEP)]
    if threads == 1:
        digests = [hashlib.sha256(leaf).digest() for leaf in leaves]
    else:
        with ThreadPoolExecutor(threads) as pool:
            digests = list(pool.map(lambda leaf: hashlib.sha256(leaf).digest(), leaves))
    return hashlib.sha256(b"".join(digests)).digest()


def measure(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name, case in cases.items():
            wall, cpu = time.perf_counter(), time.process_time()
            case()
            if turn:  # the first round warms caches and faults the pages in
                figures[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return figures


def timed_cases(mib: int) -> tuple[dict[str, Callable[[], object]], dict[str, int]]:
    """What is timed, and by how much each format is longer than the plaintext."""
    size = mib << 20
    plain = memoryview(os.urandom(1 << 20) * mib)  # noqa: TID251 - not a secret, only bytes to move
    cobble, gcm = memoryview(cobblestone_seal(plain)), memoryview(gcm_seal(plain))
    out = memoryview(mmap.mmap(-1, size))
    cases: dict[str, Callable[[], object]] = {
        "open: Cobblestone-256": lambda: cobblestone_open(cobble, out),
        "open: AES-256-GCM, 4 MiB chunks": lambda: gcm_open(gcm, out),
        "hash: SHA-256": lambda: hashlib.sha256(cobble),
        "hash: SHA-384": lambda: hashlib.sha384(cobble),
        "hash: BLAKE2b-256": lambda: hashlib.blake2b(cobble, digest_size=32),
        "hash: tree of SHA-256, 4 MiB leaves, 1 thread": lambda: tree(cobble, 1),
        "hash: tree of SHA-256, 4 MiB leaves, 2 threads": lambda: tree(cobble, 2),
        "open + SHA-256: Cobblestone-256": lambda: cobblestone_open(cobble, out, hashlib.sha256()),
        "open + SHA-256: AES-256-GCM": lambda: gcm_open_hashed(gcm, out),
        "open + BLAKE2b: Cobblestone-256": lambda: cobblestone_open(cobble, out, hashlib.blake2b(digest_size=32)),
        "seal: Cobblestone-256": lambda: cobblestone_seal(plain),
        "seal: AES-256-GCM, 4 MiB chunks": lambda: gcm_seal(plain),
    }
    return cases, {"Cobblestone-256": len(cobble) - size, "AES-256-GCM": len(gcm) - size}


def run() -> list[Line]:
    """The same as lines of `python -m bench`, on a smaller body."""
    cases, _ = timed_cases(BENCH_MIB)
    figures = measure(cases, BENCH_ROUNDS)
    base = [cpu for _, cpu in figures[BASE]]
    lines = [
        ratio_line(f"CPU, {name} / open + SHA-256", [cpu for _, cpu in runs], base)
        for name, runs in figures.items()
        if name != BASE
    ]
    return [median_line(BASE, [BENCH_MIB / cpu for cpu in base], "MiB/CPU-s"), *lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    cases, longer = timed_cases(arguments.mib)
    figures = measure(cases, arguments.rounds)
    base = statistics.median(wall for wall, _ in figures[BASE])
    print(
        f"| {arguments.mib} MiB, {arguments.rounds} interleaved rounds | MiB/s (median) | MiB per CPU-s | time ratio |"
    )
    print("|---|---:|---:|---:|")
    for name, runs in figures.items():
        wall, cpu = statistics.median(w for w, _ in runs), statistics.median(c for _, c in runs)
        print(f"| {name} | {arguments.mib / wall:,.0f} | {arguments.mib / cpu:,.0f} | {wall / base:.2f} |")
    for name, bytes_more in longer.items():
        more = bytes_more / (arguments.mib << 20)
        print(f"\n{name}: {bytes_more} bytes more than the plaintext ({more:.4%})", end="")
    print()


if __name__ == "__main__":
    main()
