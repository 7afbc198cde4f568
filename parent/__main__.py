"""`python -m anchorhold.parent --config FILE`: the untrusted side of one cell.

Exit 0 after a signal, 2 where it cannot run.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from anchorhold.parent.blobs import Blobs, BootFiles
from anchorhold.parent.cell import Cell, Member
from anchorhold.parent.config import ConfigError, ParentConfig, VsockWindow, load_config
from anchorhold.parent.egress import Egress
from anchorhold.parent.gateway import CannotListen, Gateway, bind, make_server
from anchorhold.parent.health import Event, Health, write_json
from anchorhold.parent.lifecycle import EnclaveRefused, Lifecycle
from anchorhold.parent.link import Handler, listen
from anchorhold.parent.records import LogClient, Records
from anchorhold.parent.relay import Relay
from anchorhold.wire.messages import Port

GRACE_S = 2.0  # for exchanges that are open when a signal comes
COUNTERS_S = 1.0


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, say why not."""
    parser = argparse.ArgumentParser(prog="python -m anchorhold.parent", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(run(load_config(options.config)))
    except (CannotListen, ConfigError, EnclaveRefused, OSError) as error:
        sys.stderr.write(f"anchorhold: error: parent: {error}\n")
        return 2
    return 0


async def run(config: ParentConfig) -> None:
    """Serve until SIGINT or SIGTERM: the enclave's ports first, then the enclave, then the public."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    health, log = Health(), LogClient(config.log)
    relays = [Relay(one.window, health) for one in config.enclaves]
    lives = [
        Lifecycle(one, config.alias, relay, health, place)
        for place, (one, relay) in enumerate(zip(config.enclaves, relays, strict=True), 1)
    ]
    cell = Cell([Member(relay, life.listed) for relay, life in zip(relays, lives, strict=True)], health)
    async with contextlib.AsyncExitStack() as stack:
        for one, life in zip(config.enclaves, lives, strict=True):
            for port, handler in _ports(config, life, log, health).items():
                stack.callback((await listen(one.window, port, handler)).close)
            if isinstance(one.window, VsockWindow):
                break  # a vsock port of the parent is one for all its enclaves
        stack.callback(lambda: write_json(config.counters_file, health.snapshot()))
        server = make_server(Gateway(cell, LogClient(config.log), health))
        public = bind(server, str(config.listen), None if config.tls is None else config.tls.read())
        await server.start()
        # Unwound from the last: supervision, open exchanges, the enclave with its last record, then the ports.
        stack.push_async_callback(_stopped, lives)
        stack.push_async_callback(server.stop, GRACE_S)
        starting = asyncio.create_task(_supervise(config, lives, health))
        stack.push_async_callback(_cancelled, starting)
        write_json(config.ready_file, {"port": public})
        health.event(Event.STARTED, port=public)
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait({waiting, starting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()  # it ends by an error alone
        health.event(Event.STOPPING)
    health.event(Event.STOPPED)


def _ports(config: ParentConfig, lifecycle: Lifecycle, log: LogClient, health: Health) -> dict[Port, Handler]:
    files = {
        "configuration": config.configuration,
        "credentials": config.credentials,
        "purposes": config.purposes,
    }
    return {
        Port.HEARTBEAT: lifecycle.heartbeat,
        Port.BOOT: BootFiles(files, health).handle,
        Port.EGRESS: Egress(config.egress, health).handle,
        Port.BLOBS: Blobs(config.sealed, health, config.resealed, config.adapters).handle,
        Port.RECORDS: Records(log, health).handle,
    }


async def _stopped(lives: Sequence[Lifecycle]) -> None:
    await asyncio.gather(*(life.stop() for life in lives))


async def _supervise(config: ParentConfig, lives: Sequence[Lifecycle], health: Health) -> None:
    await asyncio.gather(*(life.start() for life in lives))
    watching = [asyncio.create_task(life.watch()) for life in lives]
    try:
        while True:
            write_json(config.counters_file, health.snapshot())
            await asyncio.sleep(COUNTERS_S)
    finally:
        await asyncio.gather(*(_cancelled(one) for one in watching))


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    sys.exit(main())
