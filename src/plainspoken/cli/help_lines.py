"""A verb's help at the terminal's width: docstrings are wrapped for their readers, and Typer keeps their lines.

Prose goes on until the edge; the text of a list or a table stays in its column; a command that is too long is broken
between its words, with a backslash at each end, so that what is copied is still one command.
"""

import copy
import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console
from typer import rich_utils
from typer.core import TyperCommand, TyperGroup

from plainspoken.cli.hanging import OPTION, SHELL_WORD, WORD, hanging

_MARGINS = 2
"""Columns that Typer leaves free beside help."""
_DEEPER = 4
"""Spaces before what a command goes on with."""
_COMMAND = re.compile(r"plainspoken [a-z]")
_ROW = re.compile(r"( *(?:.*\S {2,})?)(\S.*)")
"""What stands before a line's last column (its indent, at least), and that column."""


def laid_out(text: str, width: int) -> str:
    """Help for lines of `width` columns, in rich's markup as it was."""
    return "\n\n".join(_paragraph(each, width) for each in inspect.cleandoc(text).split("\n\n"))


def _paragraph(text: str, width: int) -> str:
    lines = text.splitlines()
    if _COMMAND.match(text.lstrip()):
        indent = len(text) - len(text.lstrip())
        return "\n".join(_command(" " * indent, " ".join(map(str.strip, lines)), width))
    if text.startswith("{"):
        return text  # JSON, in which a line end may stand nowhere new
    if not any("  " in line or line.startswith(" ") for line in lines):
        return " ".join(lines)  # rich breaks it, which knows its markup
    return "\n".join(line for head, body in _rows(lines) for line in _row(head, body, width))


def _rows(lines: list[str]) -> Iterator[tuple[str, str]]:
    """What stands before each row's text, and the text. A line beneath a text goes on with it."""
    head = body = ""
    for line in lines:
        indent = len(line) - len(line.lstrip())
        goes_on = body and indent and indent == len(head) and not any(map(_COMMAND.match, (body, line.strip())))
        if goes_on:
            body += f" {line.strip()}"
            continue
        if body:
            yield head, body
        parts = _ROW.fullmatch(line)
        assert parts is not None, line
        head, body = parts[1], parts[2]
    yield head, body


def _row(head: str, body: str, width: int) -> list[str]:
    if _COMMAND.match(body):
        return _command(head, body, width)
    first, *others = hanging(body, width - len(head), 0, WORD)
    return [head + first, *(" " * len(head) + other for other in others)]


def _command(head: str, command: str, width: int) -> list[str]:
    """In lines that a shell joins again; a remark that has no room beside it stands above."""
    if len(head + command) <= width:
        return [head + command]
    told, _, remark = command.partition("  # ")
    above = [f"{head}# {line}" for line in hanging(remark.strip(), width - len(head) - 2, 0, WORD)] if remark else []
    if len(head + told.rstrip()) <= width:
        return [*above, head + told.rstrip()]
    room, margin = width - len(head) - len(" \\"), " " * len(head)
    fits = all(len(each.strip()) + _DEEPER <= room for each in re.findall(OPTION, told))
    lines = hanging(told.rstrip(), room, _DEEPER, OPTION if fits else SHELL_WORD)
    broken = [f"{margin if i else head}{line} \\" for i, line in enumerate(lines[:-1])]
    return [*above, *broken, (margin if broken else head) + lines[-1]]


def _as_wide_as_the_terminal(command: Any) -> Any:
    """The same with its help laid out: a copy, since another call may be on another terminal."""
    shown = copy.copy(command)
    width = Console(width=rich_utils.MAX_WIDTH).width - _MARGINS
    shown.help = laid_out(command.help or "", width)
    return shown


class LaidOutCommand(TyperCommand):
    """A verb whose help is laid out."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, at the terminal's width."""
        TyperCommand.format_help(_as_wide_as_the_terminal(self), ctx, formatter)


class LaidOutGroup(TyperGroup):
    """Likewise a verb with verbs of its own, or the program."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, at the terminal's width."""
        TyperGroup.format_help(_as_wide_as_the_terminal(self), ctx, formatter)


class Verbs(typer.Typer):
    """A set of verbs, all of whose help is laid out."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=LaidOutGroup, rich_markup_mode="rich", no_args_is_help=True, **settings)

    def command(self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **settings: Any) -> Any:
        """As Typer's."""
        return super().command(name, cls=cls or LaidOutCommand, **settings)
