"""`anchorhold sim up|status|down`: the simulated stack, in the background or the foreground."""

import argparse
import io
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from anchorhold.attestation.configuration import CACHE_TOKENS, DTYPES, EPOCH_MS, LEASE_TTL_MS, LOG_LEASE_MS, THREADS
from anchorhold.cli.main import CommandError
from anchorhold.cli.page import page
from anchorhold.cli.progress import Steps
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.values import seconds, whole
from anchorhold.sim.cell import ENCLAVES, phases

if TYPE_CHECKING:
    from anchorhold.sim.stack import Stack

SOURCES = {"both": ("kms", "owner"), "kms": ("kms",), "owner": ("owner",)}
DEFAULT_STATE = Path(".cache/sim")
_NOTICE = "simulated: memory isolation, interpreter, clock, entropy and vsock are not those of an enclave"
_WHAT = """Every process of a deployment on this machine, under a simulated root of trust. Not a production platform:
everything that is verified here is shown as `simulated`."""


def add_parser(subparsers: Subparsers) -> None:
    """Adds the group `sim`."""
    codes = "0 done, 1 nothing runs (status), 2 cannot run"
    example = 'anchorhold sim up\nanchorhold ask "What is the capital of France?"\nanchorhold sim down'
    group = subparsers.add_parser(
        "sim", help="the simulated stack: up, status, down", **page(_WHAT, example=example, codes=codes)
    )
    commands = group.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser(
        "up",
        help="start the stack; it goes to the background once it serves",
        **page(
            f"""Start the stack and return once its enclave serves. {_WHAT}

            What an earlier run left in the state folder (roots, keys, sealed model, log) is used again. Interrupted, it
            takes down what it has started. Progress goes to stderr, how to reach the stack to stdout.""",
            example="anchorhold sim up --model tiny --state /tmp/s --lease 5",
            codes="0 serving, 2 cannot run (nothing is left running), 130 interrupted (likewise)",
        ),
    )
    _state(up)
    add_stack_options(up)
    up.add_argument("--foreground", action="store_true", help="stay until interrupted, then take the stack down")
    up.add_argument("--json", action="store_true", help="print the stack's record as JSON, and no progress")
    up.set_defaults(run=_up)
    status = commands.add_parser(
        "status",
        help="what runs",
        **page(
            "Say which of the recorded processes run, and the enclave's phase by its own word.",
            example="anchorhold sim status --json",
            codes="0 the stack runs, 1 nothing runs, 2 cannot tell",
        ),
    )
    _state(status)
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(run=_status)
    down = commands.add_parser(
        "down",
        help="end the processes that were recorded, and no other",
        **page(
            """Ask the enclave to close its transcript, then end every process that `sim up` recorded: by pid and start
            time, so a pid that is somebody else's by now is left alone.""",
            example="anchorhold sim down --state /tmp/s",
        ),
    )
    _state(down)
    down.add_argument("--json", action="store_true", help="print JSON")
    down.set_defaults(run=_down)


def add_stack_options(parser: argparse.ArgumentParser) -> None:
    """The options that shape a stack."""
    add = parser.add_argument
    add("--model", default="smollm2", metavar="NAME", help="smollm2, minilm (an encoder, for embeddings), "
        "tiny (random weights), or a model folder to seal")  # fmt: skip
    add("--cache", type=Path, default=Path(".cache"), metavar="DIR", help="where fetched models are kept")
    add("--lease", type=_span(LEASE_TTL_MS), default=60.0, metavar="SECONDS", help="key lease, from 2 to 3600")
    add("--log-lease", type=_span(LOG_LEASE_MS), default=60.0, metavar="SECONDS", help="log lease, from 2 to 3600")
    add("--epoch", type=_span(EPOCH_MS), default=600.0, metavar="SECONDS", help="life of a channel key")
    add("--dtype", choices=DTYPES, help="what the engine computes in (default: bfloat16; float32 for minilm)")
    add("--cache-tokens", type=whole(*CACHE_TOKENS), default=8_192, metavar="N", help="KV cache of the engine, tokens")
    add("--sources", choices=SOURCES, default="both", help="whose shares make the model key (default: both)")
    add("--same-custodian", action="store_true", help="one party runs both authorities; every verdict says so")
    add("--enclaves", type=whole(*ENCLAVES), default=1, metavar="N", help="enclaves of this parent, from 1 to 4")
    add("--threads", type=whole(*THREADS), default=2, metavar="N", help="threads of the engine")


@contextmanager
def ending_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does; after the first the rest are ignored until the process is gone.

    It is ending already, and one that comes while it says so or the interpreter goes away would show a stack trace.
    """
    from anchorhold.sim.processes import ENDING

    ending = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal ending
        ending = True
        for number in mine:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in ENDING}
    # Where nohup or the shell had one ignored, it stays ignored.
    mine = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    try:
        for number in mine:
            signal.signal(number, interrupt)
        yield
    finally:
        for number in () if ending else mine:
            signal.signal(number, before[number])


@contextmanager
def brought_up(options: argparse.Namespace, *, quiet: bool) -> Iterator[dict[str, object]]:
    """The record of a stack brought up as `options` say. An error or a signal in the block takes the stack down.

    Raises CommandError.
    """
    from anchorhold.publish.errors import PublishError

    steps = Steps(io.StringIO() if quiet else sys.stderr)
    stack = _stack(options, steps)
    try:
        with stack_errors():
            try:
                record = stack.up()
            except PublishError as error:
                raise CommandError(str(error)) from error
            finally:
                steps.end()
        yield record
    except BaseException:
        stack.abandon()
        raise


@contextmanager
def stack_errors() -> Iterator[None]:
    """StackError leaves as CommandError."""
    from anchorhold.sim.processes import StackError

    try:
        yield
    except StackError as error:
        raise CommandError(str(error), hint=error.hint) from error


def _stack(options: argparse.Namespace, steps: Steps) -> "Stack":
    from anchorhold.attestation.configuration import EngineSettings
    from anchorhold.sim.deploy import Settings
    from anchorhold.sim.stack import Options, Stack

    # An encoder is small, and what is compared by the distance of vectors has no digits to give away.
    dtype = options.dtype or ("float32" if options.model == "minilm" else "bfloat16")
    settings = Settings(
        lease_ms=int(options.lease * 1000),
        log_lease_ms=int(options.log_lease * 1000),
        epoch_ms=int(options.epoch * 1000),
        engine=EngineSettings(dtype, options.cache_tokens, 16, options.threads),
    )
    return Stack(
        Options(
            state=options.state,
            model=options.model,
            cache=options.cache,
            settings=settings,
            enclaves=options.enclaves,
            sources=SOURCES[options.sources],
            same_custodian=options.same_custodian,
            step=steps.step,
            say=steps.note,
            progress=steps.progress,
        )
    )


def _up(options: argparse.Namespace) -> int:
    with ending_signals(), brought_up(options, quiet=options.json) as record:
        if options.json:
            print(json.dumps(record, indent=2), flush=True)
        else:
            _say_how(options, record)
        if options.foreground:
            _stay(options.state)
    return 0


def _say_how(options: argparse.Namespace, record: dict[str, object]) -> None:
    ask = "" if options.state == DEFAULT_STATE else f" --trust {record['trust']}"
    ask += "" if options.enclaves == 1 else f" --enclaves {options.enclaves}"
    down = "" if options.state == DEFAULT_STATE else f" --state {options.state}"
    print(f"serving {record['model_id']} at {record['gateway']} ({record['platform']})")
    if options.model == "minilm":
        trust = "" if options.state == DEFAULT_STATE else f" --trust {record['trust']}"
        print(f"embed:  anchorhold proxy{trust}, then POST /v1/embeddings")
    else:
        print(f'ask:    anchorhold ask{ask} "What is the capital of France?"')
    print(f"audit:  anchorhold audit verify {record['transcript']} --trust {record['trusts']}")
    print(f"end:    anchorhold sim down{down}", flush=True)
    sys.stderr.write(f"{_NOTICE}\n")


def _stay(state: Path) -> None:
    from anchorhold.sim.stack import down, running

    try:
        while running(state):
            time.sleep(1.0)
    finally:
        down(state)


def _status(options: argparse.Namespace) -> int:
    from anchorhold.sim.stack import running

    with stack_errors():
        alive = running(options.state)
    found = phases(options.state) if alive else {}
    names = [process.name for process in alive]
    if options.json:
        first = found.get("w")
        print(json.dumps({"processes": names, "phase": first, "phases": found, "platform": "simulated"}, indent=2))
    elif alive:
        print(f"enclave {', '.join(found.values()) or 'not answering'}; running: {', '.join(names)}")
    else:
        print("nothing runs")
    return 0 if alive else 1


def _down(options: argparse.Namespace) -> int:
    from anchorhold.sim.stack import down

    with stack_errors():
        ended = down(options.state)
    if options.json:
        print(json.dumps({"ended": ended}))
    else:
        print(f"ended: {', '.join(ended)}" if ended else "nothing was running")
    return 0


def _span(limits_ms: tuple[int, int]) -> Callable[[str], float]:
    return seconds(limits_ms[0] / 1000, limits_ms[1] / 1000)


def _state(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE, metavar="DIR", help="the stack's state folder")
