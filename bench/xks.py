"""The XKS face under KMS's budget: 200 requests a second over mTLS, each journaled and synced, keys in SoftHSM.

Requests leave on a fixed beat whether or not earlier ones are answered, and a request's time begins with its beat: a
queue at the caller counts against the proxy. Half are Encrypt with an integrity value, half Decrypt; the guard has
a bucket, a budget and a told register to judge.
"""

import asyncio
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bench.common import ROOT, Line, at_most, cpu_seconds, note
from tests.authority.hsm import CONFIGURATION, make_token, missing

from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.keystore.opener import Choice, Kind
from anchorhold.authority.xks import setup
from anchorhold.authority.xks.desk import Desk, NewCredential, new_key
from anchorhold.authority.xks.server import client_ca
from anchorhold.wire import sigv4

RATE = 200  # requests a second
SECONDS = 20
WARM_SECONDS = 2
CONNECTIONS = 48  # kept alive; as many requests can be on their way at once
LIMIT_MS = 250.0  # KMS's own timeout of one call
KEY, PREFIX, REGION = "bench-key", "/bench", "eu-central-1"
IMAGE = "ab" * 48
_POLICY = {
    "version": 1,
    "allow": [
        {
            "name": "kms", "faces": ["xks"], "principals": ["arn:aws:iam::*"], "operations": ["xks:*"], "keys": ["*"],
            "told": [{"PCR0": IMAGE}],
        }
    ],
    "partitions": ["aws"],
    "regions": [REGION],
    "buckets": [{"name": "b", "per": "key", "operations": ["xks:*"], "uses": 1_000_000, "seconds": 60}],
    "budgets": [{"name": "d", "per": "principal", "operations": ["xks:Decrypt"], "uses": 1_000_000}],
}  # fmt: skip


def run() -> list[Line]:
    """Every answer must be a success, and the slowest hundredth within KMS's time."""
    reason = missing()
    if reason is not None:
        note(f"xks: {reason}")
        return []
    with tempfile.TemporaryDirectory(prefix="ah-") as scratch, _face(Path(scratch)) as (caller, child):
        note(f"xks: {RATE} requests a second for {SECONDS} s over mTLS, {os.cpu_count()} CPUs")
        asyncio.run(caller.drive(WARM_SECONDS))
        began, wall = cpu_seconds(child), time.monotonic()
        times, failed = asyncio.run(caller.drive(SECONDS))
        used = (cpu_seconds(child) - began) / (time.monotonic() - wall)
    name = f"{RATE} requests a second over mTLS, SoftHSM, journal synced:"
    return [
        Line(f"{name} p50", statistics.median(times) * 1000, "ms"),
        Line(f"{name} p99", statistics.quantiles(times, n=100)[98] * 1000, "ms", at_most(LIMIT_MS)),
        Line(f"{name} slowest", max(times) * 1000, "ms"),
        Line(f"{name} not answered 200", failed, "requests", at_most(0)),
        Line(f"{name} the face's CPU", used * 100, "% of one"),
    ]


class _Caller:
    """KMS as the proxy sees it: kept-alive connections, a signature on every request."""

    def __init__(self, port: int, credential: NewCredential, tls: ssl.SSLContext) -> None:
        self._port, self._tls = port, tls
        self._credentials = sigv4.Credentials(credential.access_key_id, credential.secret_access_key)
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._count = 0
        self._sealed: dict[str, str] = {}

    async def drive(self, seconds: int) -> tuple[list[float], int]:
        """Times of all requests, and how many were not answered 200."""
        self._free = asyncio.Queue()
        for _ in range(CONNECTIONS):
            self._free.put_nowait(await asyncio.open_connection("localhost", self._port, ssl=self._tls))
        if not self._sealed:
            self._sealed = json.loads((await self._exchange("encrypt", self._body("Encrypt")))[1])
        loop, beats = asyncio.get_running_loop(), []
        began = loop.time() + 0.05
        for number in range(RATE * seconds):
            due = began + number / RATE
            await asyncio.sleep(due - loop.time())
            beats.append(asyncio.create_task(self._one(number, due)))
        outcomes = await asyncio.gather(*beats)
        while not self._free.empty():
            self._free.get_nowait()[1].close()
        return [took for took, _ in outcomes], sum(not good for _, good in outcomes)

    async def _one(self, number: int, due: float) -> tuple[float, bool]:
        operation = "encrypt" if number % 2 else "decrypt"
        status, _ = await self._exchange(operation, self._body(operation.capitalize()))
        return asyncio.get_running_loop().time() - due, status == 200

    async def _exchange(self, operation: str, body: dict[str, object]) -> tuple[int, bytes]:
        reader, writer = await self._free.get()
        raw = json.dumps(body).encode()
        path = f"{PREFIX}/kms/xks/v1/keys/{KEY}/{operation}"
        headers = (("Host", f"localhost:{self._port}"), ("Content-Type", "application/json"))
        request = sigv4.Request("POST", path, "", headers, raw)
        added = sigv4.sign(request, self._credentials, region=REGION, service="kms-xks-proxy", at=datetime.now(UTC))  # noqa: TID251 - the caller's clock
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (*headers, *added))]
        writer.write(("\r\n".join([*lines, f"Content-Length: {len(raw)}", "", ""])).encode() + raw)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l"))
        answer = await reader.readexactly(length)
        self._free.put_nowait((reader, writer))
        return int(head[9:12]), answer

    def _body(self, operation: str) -> dict[str, object]:
        self._count += 1
        meta = {
            "awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice",
            "kmsKeyArn": f"arn:aws:kms:{REGION}:123456789012:key/00000000-0000-0000-0000-000000000000",
            "kmsOperation": operation,
            "kmsRequestId": f"bench-{self._count}",
            "kmsRecipientAttestationImageSha384": IMAGE,
        }
        body: dict[str, object] = {
            "requestMetadata": meta,
            "encryptionAlgorithm": "AES_GCM",
            "additionalAuthenticatedData": "YWFk" * 64,
        }
        if operation == "Encrypt":
            return body | {"plaintext": "cGxhaW50ZXh0" * 16, "ciphertextDataIntegrityValueAlgorithm": "SHA_256"}
        names = ("ciphertext", "ciphertextMetadata", "initializationVector", "authenticationTag")
        return body | {name: self._sealed[name] for name in names}


@contextmanager
def _face(scratch: Path) -> Iterator[tuple[_Caller, int]]:
    hsm = make_token(scratch / "hsm")
    os.environ[CONFIGURATION] = str(hsm.configuration)
    folder, now = scratch / "state", Milliseconds(time.time_ns() // 1_000_000)
    choice = Choice(Kind.PKCS11, module=hsm.module, token=hsm.label, pin_file=hsm.pin_file)
    identity = setup.init(
        folder, setup.Wanted("simulated", REGION, prefix=PREFIX, keystore=choice, policy=json.dumps(_POLICY)), now=now
    )
    desk = Desk(folder)
    desk.create_key(new_key(KEY, now))
    credential = desk.add_credential(now)
    desk.close()
    command = [sys.executable, "-m", "bench.xks_child", str(folder), identity.client_name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            tls = ssl.create_default_context(cafile=client_ca(folder).parent / "ca.pem")
            tls.load_cert_chain(client_ca(folder).parent / "client.pem", client_ca(folder).parent / "client.key")
            yield _Caller(int(child.stdout.readline()), credential, tls), child.pid
        finally:
            child.stdin.close()
