"""Every command's help reads like a manual page, and shell completion is made from the same parser."""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorhold.cli.main import build_parser, main

ANCHORHOLD = str(Path(sys.executable).parent / "anchorhold")


def walk(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from walk(child, (*path, name))


PAGES = dict(walk(build_parser("*")))
ids = [" ".join(path) or "anchorhold" for path in PAGES]


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_a_page_says_what_it_does_its_exit_codes_and_an_example(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*path, "--help"])
    assert caught.value.code == 0
    page = capsys.readouterr().out
    assert (PAGES[path].description or "missing") in page
    assert "exit codes: " in page
    if path:
        assert "example:\n  " in page
        example = page.partition("example:\n")[2]
        assert f"anchorhold {' '.join(path)}" in example


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_every_argument_says_what_it_is_and_its_default(path: tuple[str, ...]) -> None:
    page = PAGES[path].format_help()
    for action in PAGES[path]._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert all(choice.help for choice in action._choices_actions)
            continue
        assert action.help, (path, action.dest)
        if action.option_strings and action.nargs != 0 and isinstance(action.default, str | int | float | Path):
            assert str(action.default) in " ".join(page.split()), (path, action.dest)


JSON_COMMANDS = {
    "sim up", "sim status", "sim down", "ask", "trust init", "trust show", "evidence verify", "evidence show",
    "audit verify", "audit explain", "model fetch", "model signer", "model seal", "model verify", "model show",
    "explain", "policy kms", "policy lint", "image build", "image measure", "image show", "image sign", "image diff",
    "authority init", "authority revoke", "authority reinstate", "authority register",
    "authority status", "authority journal", "authority tenant", "authority migrate", "authority mark",
    "authority backup-state", "authority restore-state", "authority accept-rollback", "authority export", "log init",
    "authority floor", "authority heartbeat sign", "authority heartbeat put", "authority heartbeat show",
    "authority recipient", "authority backup", "authority restore",
    "authority guard show", "authority guard put", "authority guard denials", "authority guard acknowledge",
    "authority guard start", "authority guard report", "authority kill", "authority rearm", "authority approvals",
    "authority approve", "authority approver", "authority ticket", "authority operator list",
    "authority operator add", "authority operator remove",
    "authority xks key create", "authority xks key permit", "authority xks key enable", "authority xks key disable",
    "authority xks key rotate", "authority xks key list", "authority xks credential add",
    "authority xks credential retire", "authority xks credential list",
    "authority rotate", "authority retire", "authority tenant-key", "authority tenant-keys", "authority shred",
    "authority tenant-rotate", "authority tenant-retire",
    "authority reseal order", "authority reseal end",
    "authority incident open", "authority incident contain",
    "authority incident reencrypt", "authority incident report", "model reseal", "model adopt", "model sign",
    "release keygen", "release quorum", "release make", "release renew", "release sign", "release revoke",
    "release log", "release show", "release verify", "release merge",
}  # fmt: skip


def test_programs_can_read_every_command_that_answers() -> None:
    leaves = {" ".join(path): parser for path, parser in PAGES.items() if parser.get_default("run")}
    with_json = {name for name, parser in leaves.items() if "--json" in parser._option_string_actions}
    assert with_json == JSON_COMMANDS
    assert leaves.keys() - with_json == {
        "demo",
        "completion",
        "authority serve",
        "authority page",
        "log serve",
        "proxy",
    }


def complete(*words: str) -> set[str]:
    """What bash offers for the last of `words`."""
    script = subprocess.run([ANCHORHOLD, "completion", "bash"], capture_output=True, text=True, check=True).stdout
    quoted = " ".join(f"'{word}'" for word in words)
    asked = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _anchorhold; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(
        ["bash", "--norc", "-c", f"set -u\n{script}\n{asked}"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/proc/self",
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_commands_their_commands_and_options() -> None:
    assert {"sim", "ask", "audit", "authority"} <= complete("anchorhold", "")
    assert complete("anchorhold", "au") == {"audit", "authority"}
    assert {"up", "status", "down"} <= complete("anchorhold", "sim", "")
    assert complete("anchorhold", "sim", "up", "--log") == {"--log-lease"}
    assert complete("anchorhold", "authority", "revoke", "--owner-") == {"--owner-url", "--owner-ca"}
    # An option's value does not lead it off the path, even where it reads like a command.
    assert complete("anchorhold", "sim", "up", "--model", "down", "--foreg") == {"--foreground"}
    # Where no word fits, a file may.
    assert "status" in complete("anchorhold", "evidence", "show", "sta")
    assert complete("anchorhold", "sim", "up", "--dtype", "fl") == {"float32"}
    assert complete("anchorhold", "completion", "b") == {"bash"}
    assert "status" in complete("anchorhold", "audit", "verify", "--trust", "")
    assert "--json" not in complete("anchorhold", "audit", "verify", "--trust", "")
