"""The `anchorhold` command: parse, call, print (STYLE 19).

Data goes to stdout, people are spoken to on stderr. Exit codes: 0 verified or done, 1 contradicted or refused, 2 cannot
run, 3 limits, 4 simulation only. Only the module of the command that was named is imported, so that a base install
(verifier and auditor) runs without the libraries of the other roles.
"""

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from anchorhold import __version__
from anchorhold.attestation.errors import EvidenceError

REFUSED = 1
CANNOT_RUN = 2
INTERRUPTED = 130

COMMANDS = {
    "demo": ("anchorhold.cli.demo", "a real model, sealed, attested and served in simulation, end to end"),
    "sim": ("anchorhold.cli.sim", "the simulated stack: up, status, down"),
    "ask": ("anchorhold.cli.ask", "ask a question over a verified channel and stream the answer"),
    "proxy": ("anchorhold.cli.proxy", "OpenAI's API on this machine, over the verified channel"),
    "trust": ("anchorhold.cli.trust", "make and show the trust file a client pins"),
    "evidence": ("anchorhold.cli.evidence", "verify or show an attestation document"),
    "audit": ("anchorhold.cli.audit", "replay a stored transcript, offline"),
    "explain": ("anchorhold.cli.explain", "what a code means, and what to do"),
    "model": ("anchorhold.cli.model", "fetch, seal, verify and show models"),
    "release": ("anchorhold.cli.release", "make, sign, log, verify and revoke release statements"),
    "image": ("anchorhold.cli.image", "build, measure, sign and compare enclave images"),
    "policy": ("anchorhold.cli.policy", "KMS policies of a release, and the ways round one"),
    "authority": ("anchorhold.cli.authority", "run a key authority, revoke, issue tenant credentials"),
    "log": ("anchorhold.cli.log", "run a transparency log"),
    "completion": ("anchorhold.cli.completion", "print a shell completion script"),
}

EXTRAS = {
    "ask": "client",
    "proxy": "client",
    "trust": "client",
    "model": "publish",
    "authority": "authority",
    "log": "log",
}
"""What a command's libraries are installed with; the others take all."""

_EPILOG = """\
exit codes: 0 verified or done, 1 contradicted or refused, 2 cannot run, 3 verified with limits, 4 simulation only
documentation: docs/ of the source, README.md first"""


class CommandError(Exception):
    """A message for a person, a hint if a fix is known, and the exit code."""

    def __init__(self, message: str, *, hint: str | None = None, code: int = CANNOT_RUN) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


class Parser(argparse.ArgumentParser):
    """Its errors leave by the one door too; an option is written out, a dangerous one above all."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False} | settings)

    def error(self, message: str) -> NoReturn:
        raise CommandError(message, hint=f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; no stack trace reaches a person unless ANCHORHOLD_TRACEBACK is set."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    named = _named(arguments)
    try:
        parser = build_parser(named)
        options = parser.parse_args(arguments)
        return int(options.run(options))
    except CommandError as error:
        return _say(error, error.hint, error.code)
    except EvidenceError as error:
        return _say(error, getattr(error, "hint", None), REFUSED)
    except KeyboardInterrupt:
        return _say("interrupted", None, INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CANNOT_RUN
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("anchorhold"):
            raise
        extra = EXTRAS.get(named or "", "all")
        return _say(f"this command needs the library {error.name!r}", f"pip install 'anchorhold[{extra}]'", CANNOT_RUN)
    except OSError as error:
        return _say(_os_words(error), None, CANNOT_RUN)
    except Exception as error:
        # The last line before a person: they get a sentence, not a stack trace.
        if os.environ.get("ANCHORHOLD_TRACEBACK"):
            raise
        hint = "set ANCHORHOLD_TRACEBACK=1 to see where, and please report it"
        return _say(f"{type(error).__name__}: {error}", hint, CANNOT_RUN)


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser, with the arguments of command `only` (of all commands if it is `*`)."""
    parser = Parser(
        prog="anchorhold",
        description="Confidential AI inference: prompts, outputs and weights only inside an attested enclave.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"anchorhold {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (module, summary) in COMMANDS.items():
        if not (only in (name, "*") and _add(subparsers, module, needed=only == name)):
            subparsers.add_parser(name, help=summary)
    return parser


def _add(subparsers: object, module: str, *, needed: bool) -> bool:
    """Whether the command could be loaded; one that is only listed may lack its libraries."""
    try:
        importlib.import_module(module).add_parser(subparsers)
    except ModuleNotFoundError as error:
        if needed or error.name is None or error.name.startswith("anchorhold"):
            raise
        return False
    return True


def _named(arguments: Sequence[str]) -> str | None:
    return next((word for word in arguments if not word.startswith("-")), None)


def _os_words(error: OSError) -> str:
    """What the system said, without its number."""
    words = (error.strerror or str(error) or type(error).__name__).lower()
    return words if error.filename is None else f"{os.fsdecode(error.filename)!r}: {words}"


def _say(message: object, hint: str | None, code: int) -> int:
    text = str(message) or type(message).__name__
    # Paths and outside words may hold bytes that are no text.
    lines = [f"anchorhold: error: {text}\n"] + ([f"anchorhold: hint: {hint}\n"] if hint else [])
    with contextlib.suppress(OSError):  # whoever closed stderr still gets the exit code
        sys.stderr.write("".join(lines).encode("utf-8", "backslashreplace").decode())
        sys.stderr.flush()
    return code


if __name__ == "__main__":
    # The commands raise the errors of the module under its own name, which are not those of `__main__`.
    sys.exit(importlib.import_module("anchorhold.cli.main").main())
