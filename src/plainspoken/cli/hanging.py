"""Text in lines no wider than the terminal, what goes on behind an indent."""

import re

from rich.cells import cell_len

WORD, WORD_OR_TOKEN = r"\s*\S+", r'\s*(?:"(?:[^"\\]|\\.)*"|\S)+'
"""What stays on one line: a word with the space before it; and also a token, with any space between its quotes."""
SHELL_WORD = r"""\s*(?:"(?:[^"\\]|\\.)*"|'[^']*'|\S)+"""
OPTION = rf"(?:\s*--[\w-]+(?= [^-]))?{SHELL_WORD}"
"""A word as a shell has it; and one with the option before it."""


def hanging(text: str, width: int, indent: int, piece: str = WORD_OR_TOKEN) -> list[str]:
    """The text in lines of at most `width` cells, all but the first behind the indent; a longer piece stays whole.

    Not textwrap's: that breaks a token at its own space, which is then lost, and counts wide characters as one cell.
    """
    lines = [""]
    for each in re.findall(piece, text):
        if lines[-1].strip() and cell_len(lines[-1] + each) > width:
            lines.append(" " * indent + each.lstrip())
        else:
            lines[-1] += each
    return lines
