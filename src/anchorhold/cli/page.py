"""Help that can be read like a manual page: what it does, every option with its default, exit codes, an example."""

import argparse
import textwrap
from typing import Any

WIDTH = 100  # columns of running text
DONE_CODES = "0 done, 2 cannot run"


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Paragraphs as written, and the default of every option that has one."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=WIDTH)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)

    def _get_help_string(self, action: argparse.Action) -> str:
        words = action.help or ""
        shown = action.default not in (None, False, [], argparse.SUPPRESS) and action.nargs != 0
        return (
            f"{words} (default: %(default)s)" if shown and action.option_strings and "default" not in words else words
        )


def page(description: str, *, example: str, codes: str = DONE_CODES) -> dict[str, Any]:
    """The keywords that make a parser's help a page."""
    paragraphs = [textwrap.fill(" ".join(one.split()), WIDTH) for one in description.split("\n\n")]
    examples = textwrap.indent(textwrap.dedent(example).strip(), "  ")
    exits = textwrap.fill(f"exit codes: {codes}", WIDTH, subsequent_indent="  ")
    return {
        "description": "\n\n".join(paragraphs),
        "epilog": f"{exits}\n\nexample:\n{examples}",
        "formatter_class": Formatter,
    }
