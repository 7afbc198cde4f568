"""`anchorhold completion bash|zsh`: a script made from the parser itself, so it cannot drift from it."""

import argparse

from anchorhold.cli.main import build_parser
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers

_BASH = """\
_anchorhold() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" path="" next word words
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    next="${{path:+$path/}}$word"
    case " ${{_anchorhold_paths[*]}} " in *" $next "*) path="$next";; esac
  done
  path="${{path:-.}}"
  words="${{_anchorhold_words[$path:$before]-${{_anchorhold_words[$path]}}}}"
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [ ${{#COMPREPLY[@]}} -gt 0 ] || COMPREPLY=($(compgen -f -- "$current"))
}}
declare -A _anchorhold_words=(
{table}
)
_anchorhold_paths=({paths})
complete -F _anchorhold anchorhold
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "completion",
        help="print a shell completion script",
        **page(
            "Print a completion script, made from the commands that can run in this installation.",
            example='eval "$(anchorhold completion bash)"',
        ),
    )
    parser.add_argument("shell", choices=("bash", "zsh"), help="for which shell")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    table: dict[str, list[str]] = {}
    _walk(build_parser("*"), "", table)
    rows = "\n".join(f'  [{path or "."}]="{" ".join(words)}"' for path, words in table.items())
    script = _BASH.format(table=rows, paths=" ".join(path for path in table if path and ":" not in path))
    print(("autoload -U bashcompinit && bashcompinit\n" if options.shell == "zsh" else "") + script, end="")
    return 0


def _walk(parser: argparse.ArgumentParser, path: str, table: dict[str, list[str]]) -> None:
    words = table.setdefault(path, [])
    for action in parser._actions:  # noqa: SLF001 - argparse offers no public walk over its own parser
        words += action.option_strings
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, child in action.choices.items():
                words.append(name)
                _walk(child, f"{path}/{name}".lstrip("/"), table)
        elif action.option_strings and action.nargs != 0:
            # After an option stands its value: one of its choices, or a file.
            values = [str(choice) for choice in action.choices or ()]
            table |= {f"{path or '.'}:{option}": values for option in action.option_strings}
        elif action.choices is not None:
            words += [str(choice) for choice in action.choices]
