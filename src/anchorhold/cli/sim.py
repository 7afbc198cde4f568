"""`anchorhold sim up|status|down`: the simulated stack, in the background or the foreground."""

import argparse
import io
import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from anchorhold.cli.main import CommandError

DEFAULT_STATE = Path(".cache/sim")
MIN_LEASE_S = 2
_NOTICE = "simulated: memory isolation, interpreter, clock, entropy and vsock are not those of an enclave"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the group `sim`."""
    group = subparsers.add_parser(
        "sim",
        help="the simulated stack: up, status, down",
        description="Every process of a deployment on this machine, under a simulated root of trust. Not a production "
        "platform: everything that is verified here is shown as `simulated`.",
    )
    commands = group.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start the stack; it goes to the background once it serves")
    _state(up)
    add_stack_options(up)
    up.add_argument("--foreground", action="store_true", help="stay until interrupted, then take the stack down")
    up.add_argument("--json", action="store_true", help="print the stack's record as JSON")
    up.set_defaults(run=_up)
    status = commands.add_parser("status", help="what runs")
    _state(status)
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=_status)
    down = commands.add_parser("down", help="end the processes that were recorded, and no other")
    _state(down)
    down.add_argument("--json", action="store_true")
    down.set_defaults(run=_down)


def add_stack_options(parser: argparse.ArgumentParser) -> None:
    """The options that shape a stack."""
    parser.add_argument(
        "--model", default="smollm2", metavar="NAME", help="smollm2 (default), tiny, or a model folder to seal"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path(".cache"), metavar="DIR", help="where fetched models are kept"
    )
    parser.add_argument(
        "--lease", type=float, default=60.0, metavar="S", help="key lease in seconds (default 60, from 2)"
    )
    parser.add_argument("--log-lease", type=float, default=60.0, metavar="S", help="log lease in seconds (default 60)")
    parser.add_argument("--epoch", type=float, default=600.0, metavar="S", help="life of a channel key (default 600)")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument(
        "--cache-tokens", type=int, default=8_192, metavar="N", help="KV cache of the engine, in tokens"
    )
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of the engine")


def bring_up(options: argparse.Namespace, *, quiet: bool) -> dict[str, object]:
    """Bring a stack up as `options` say; the record. Raises CommandError."""
    from anchorhold.attestation.configuration import EngineSettings
    from anchorhold.cli.progress import ProgressBar
    from anchorhold.publish.errors import PublishError
    from anchorhold.sim.deploy import Settings
    from anchorhold.sim.processes import StackError
    from anchorhold.sim.stack import Options, Stack

    if options.lease < MIN_LEASE_S:
        raise CommandError(f"lease: expected at least {MIN_LEASE_S} s, got {options.lease}")
    settings = Settings(
        lease_ms=int(options.lease * 1000),
        log_lease_ms=int(options.log_lease * 1000),
        epoch_ms=int(options.epoch * 1000),
        engine=EngineSettings(options.dtype, options.cache_tokens, 16, options.threads),
    )
    bar = ProgressBar(io.StringIO() if quiet else sys.stderr)

    def say(text: str) -> None:
        bar.end()
        if not quiet:
            sys.stderr.write(f"{text}\n")

    try:
        stack = Stack(
            Options(
                state=options.state,
                model=options.model,
                cache=options.cache,
                settings=settings,
                say=say,
                progress=bar,
            )
        )
        return stack.up()
    except (StackError, PublishError) as error:
        raise CommandError(str(error), hint=getattr(error, "hint", None)) from error
    finally:
        bar.end()


def _up(options: argparse.Namespace) -> int:
    # A terminated `up` takes its processes with it, as an interrupted one does.
    signal.signal(signal.SIGTERM, interrupt)
    record = bring_up(options, quiet=options.json)
    if options.json:
        print(json.dumps(record, indent=2), flush=True)
    else:
        ask = "" if options.state == DEFAULT_STATE else f" --trust {record['trust']}"
        down = "" if options.state == DEFAULT_STATE else f" --state {options.state}"
        print(f"serving {record['model_id']} at {record['gateway']} ({record['platform']})")
        print(f'ask:    anchorhold ask{ask} "What is the capital of France?"')
        print(f"audit:  anchorhold audit verify {record['transcript']} --trust {record['trust']}")
        print(f"end:    anchorhold sim down{down}", flush=True)
        sys.stderr.write(f"{_NOTICE}\n")
    if options.foreground:
        _stay(options.state)
    return 0


def _stay(state: Path) -> None:
    from anchorhold.sim.stack import down, running

    try:
        while running(state):
            time.sleep(1.0)
    finally:
        down(state)


def _status(options: argparse.Namespace) -> int:
    from anchorhold.sim.stack import phase_of, running

    alive = running(options.state)
    phase = phase_of(options.state / "window/w") if alive else None
    if options.json:
        found = {"processes": [process.name for process in alive], "phase": phase, "platform": "simulated"}
        print(json.dumps(found, indent=2))
    elif alive:
        print(f"enclave {phase or 'not answering'}; running: {', '.join(process.name for process in alive)}")
    else:
        print("nothing runs")
    return 0 if alive else 1


def _down(options: argparse.Namespace) -> int:
    from anchorhold.sim.stack import down

    ended = down(options.state)
    if options.json:
        print(json.dumps({"ended": ended}))
    else:
        print(f"ended: {', '.join(ended)}" if ended else "nothing was running")
    return 0


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """A signal handler: end as Ctrl-C does."""
    raise KeyboardInterrupt


def _state(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE, metavar="DIR", help=f"default: {DEFAULT_STATE}")
