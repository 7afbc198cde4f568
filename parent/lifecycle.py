"""One enclave's life as its parent sees it: nitro-cli run, describe, terminate, and the boot heartbeat on 9000.

The parent keeps it alive and decides nothing about it. An enclave that ended stays ended: starting it again is the
operator's act, and the authorities' decision.
"""

import asyncio
import contextlib
import json

from anchorhold.parent.cell import RUNNING, Listed
from anchorhold.parent.config import EnclaveConfig
from anchorhold.parent.health import Class, Event, Health
from anchorhold.parent.link import Link, Unreachable
from anchorhold.parent.relay import Relay
from anchorhold.wire.frames import FrameError
from anchorhold.wire.messages import HEARTBEAT_BYTE

COMMAND_S = 180.0  # AWS waits 90 s per 6 GiB of image for the heartbeat
WATCH_S = 1.0
SHUTDOWN_S = 8.0  # for the enclave to wipe, write its last record (five seconds at most) and end by itself
STOP_POLL_S = 0.1
MAX_OUTPUT = 1 << 20
_SILENT = (Unreachable, OSError, FrameError)


class EnclaveRefused(Exception):
    """nitro-cli did not start the enclave; its own words went to our stderr."""


class Lifecycle:
    """Starts, watches and ends one enclave, the parent's number `place`; also port 9000."""

    def __init__(self, config: EnclaveConfig, alias: str, relay: Relay, health: Health, place: int = 1) -> None:
        self._config, self._alias, self._relay, self._health, self._place = config, alias, relay, health, place
        self.enclave_id = ""
        self.state = "absent"
        self._starting: asyncio.Task[None] | None = None

    async def heartbeat(self, link: Link) -> None:
        """AWS's handshake: the byte comes and goes back."""
        if await link.reader.readexactly(1) == HEARTBEAT_BYTE:
            self._health.event(Event.HEARTBEAT)
            self._health.count(Class.CONTROL, 1)
            link.writer.write(HEARTBEAT_BYTE)
            await link.writer.drain()

    async def start(self) -> None:
        """Run the enclave, unless one answers at the window already. Raises EnclaveRefused."""
        self._starting = asyncio.create_task(self._start())
        # Shielded: an enclave whose id we never learned could not be ended.
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        if await self._answers():
            self.state = RUNNING
            self._health.event(Event.ENCLAVE_ADOPTED)
            return
        if not self._config.start:
            return
        answer = await self._command("run-enclave", "--eif-path", self._config.eif, *self._config.args)
        if not isinstance(answer, dict) or not isinstance(answer.get("EnclaveID"), str):
            self._health.event(Event.ENCLAVE_REFUSED)
            raise EnclaveRefused("run-enclave: expected an answer with EnclaveID")
        self.enclave_id, self.state = answer["EnclaveID"], RUNNING
        self._health.event(Event.ENCLAVE_STARTED)

    async def watch(self) -> None:
        """Learn its keys, and notice, once, that it has ended; of one we did not start the window alone can tell."""
        while self.state == RUNNING:
            await asyncio.sleep(WATCH_S)
            runs = await self._answers() or (bool(self.enclave_id) and await self._listed(self.enclave_id))
            if not runs and self.state == RUNNING:
                self.enclave_id, self.state = "", "ended"
                self._health.event(Event.ENCLAVE_GONE)

    async def stop(self) -> None:
        """Let the enclave we started write its last record; then terminate it."""
        if self._starting is not None:
            await asyncio.wait({self._starting})
        if not self.enclave_id:
            return
        ending = self.enclave_id
        try:
            async with asyncio.timeout(SHUTDOWN_S):
                await self._relay.shutdown()
                # Not until the window is silent: it is that before the weights are wiped and the last record is in.
                while await self._listed(ending):  # noqa: ASYNC110 - another process ends; nitro-cli is all we see of it
                    await asyncio.sleep(STOP_POLL_S)
        except (*_SILENT, TimeoutError):
            pass  # it has ended, or will be ended
        await self._command("terminate-enclave", "--enclave-id", ending)
        self.enclave_id, self.state = "", "ended"

    def listed(self) -> Listed:
        """What `Enclaves` answers. One we did not start, or that has ended, is named by its place."""
        return Listed(self.enclave_id or f"enclave-{self._place}", self._alias, self.state)

    async def _listed(self, enclave_id: str) -> bool:
        """Whether it runs, as far as nitro-cli says; an answer that is none says nothing."""
        listed = await self._command("describe-enclaves")
        return not isinstance(listed, list) or any(_runs(entry, enclave_id) for entry in listed)

    async def _answers(self) -> bool:
        try:
            return await self._relay.status()
        except _SILENT:
            return False

    async def _command(self, *arguments: str) -> object:
        """The JSON that nitro-cli prints; None where it failed."""
        program, *prefix = self._config.command
        try:
            process = await asyncio.create_subprocess_exec(
                program, *prefix, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
        except OSError:
            return None
        try:
            async with asyncio.timeout(COMMAND_S):
                output, _ = await process.communicate()
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if process.returncode != 0 or len(output) > MAX_OUTPUT:
            return None
        try:
            # The real nitro-cli prints lines of progress before the JSON.
            return json.loads(output[min(i for i in map(output.find, (b"{", b"[")) if i >= 0) :])
        except ValueError:
            return None


def _runs(entry: object, enclave_id: str) -> bool:
    return isinstance(entry, dict) and entry.get("EnclaveID") == enclave_id and entry.get("State") != "TERMINATING"
