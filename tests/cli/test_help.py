"""Help at any width: prose breaks at the edge alone, a table's text stays in its column, a command can be copied."""

import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from itertools import pairwise

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from plainspoken.cli.app import app
from plainspoken.cli.help_lines import laid_out

WIDTHS = (60, 80, 97, 140)
PROGRAM = get_command(app)
MARGINS = 2
"""Typer leaves a column free on either side."""


def words_of_verbs() -> Iterator[tuple[str, ...]]:
    """Every verb, and those beneath it; () for the program itself."""
    stack = [((), PROGRAM)]
    while stack:
        words, command = stack.pop()
        yield words
        if isinstance(command, TyperGroup):
            stack += [((*words, name), each) for name, each in command.commands.items()]


VERBS = sorted(words_of_verbs())


@cache
def paragraphs(words: tuple[str, ...], width: int) -> list[list[str]]:
    """The help above the panels, in its paragraphs."""
    with redirect_stdout(StringIO()) as output, pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        PROGRAM.main([*words, "--help"], standalone_mode=False)
    lines = [line[1:].rstrip() for line in output.getvalue().splitlines()]
    usage, end = (next(i for i, line in enumerate(lines) if line.startswith(start)) for start in ("Usage", "─"))
    told = "\n".join(lines[usage:end]).split("\n\n")[1:]
    return [each.splitlines() for each in told if each.strip()]


def commands(words: tuple[str, ...], width: int) -> list[list[str]]:
    """The commands in the help as a shell reads them that they are pasted into, remarks aside."""
    text = "\n".join("\n".join([*lines, ""]) for lines in paragraphs(words, width))
    joined = text.replace("\\\n", "")
    return [
        shlex.split(line, comments=True)
        for line in joined.splitlines()
        if re.match(r"\s*(\d\. +)?plainspoken [a-z]", line)
    ]


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_prose_breaks_at_the_edge_alone(words: tuple[str, ...]) -> None:
    for width in WIDTHS:
        for lines in paragraphs(words, width):
            if any("  " in line or line.endswith("\\") or line.startswith("#") for line in lines):
                continue  # a table, a list, a command or its remark
            for line, after in pairwise(lines):
                assert len(line) + 1 + len(after.split()[0]) > width - MARGINS, (width, line, after)


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_a_command_is_the_same_command_at_any_width(words: tuple[str, ...]) -> None:
    wide = commands(words, 400)
    assert wide or words == ("settings",)
    for width in WIDTHS:
        assert commands(words, width) == wide


def test_the_text_of_a_table_stays_in_its_column() -> None:
    table = "auprc   average precision of the level,\n        as a detector\nrate    share of the tokens"
    assert laid_out(table, 100).splitlines() == [
        "auprc   average precision of the level, as a detector",
        "rate    share of the tokens",
    ]
    narrow = laid_out(table, 28).splitlines()
    assert max(map(len, narrow)) <= 28
    assert [line[:8].strip() for line in narrow] == ["auprc", "", "", "rate"]


def test_a_remark_that_does_not_fit_stands_above_its_command() -> None:
    text = "plainspoken run runs/stories   # go on with it"
    assert laid_out(text, 80) == text
    assert laid_out(text, 40).splitlines() == ["# go on with it", "plainspoken run runs/stories"]


def test_a_command_is_never_broken_within_quotes() -> None:
    text = "plainspoken trace runs/all --prompt $'class A:\\n    def f(' --target 'logit-diff:\"self\",\"x\"'"
    narrow = laid_out(text, 50).splitlines()
    assert max(map(len, narrow)) <= 50
    assert all(line.endswith(" \\") for line in narrow[:-1])
    assert "$'class A:\\n    def f('" in "\n".join(narrow)
    assert shlex.split("\n".join(narrow).replace("\\\n", "")) == shlex.split(text)


def test_an_option_stays_with_its_value() -> None:
    text = "plainspoken run --lm ./stories260K --set coder.k=16 --out runs/stories"
    for width in range(30, 70):
        assert not any(re.search(r"--\S+ \\$", line) for line in laid_out(text, width).splitlines())


def options(words: tuple[str, ...]) -> dict[str, str]:
    """The help of a verb's options and arguments, by their names."""
    command = PROGRAM
    for word in words:
        assert isinstance(command, TyperGroup)
        command = command.commands[word]
    return {each.opts[-1]: getattr(each, "help", None) or "" for each in command.params}


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_option_has_its_help_and_one_name_everywhere(words: tuple[str, ...]) -> None:
    found = options(words)
    assert all(told.endswith((".", ")")) for name, told in found.items() if name != "--help"), found
    assert ("--bands" in found) == ("--per-band" in found)
    reads_a_model = "run" in found
    assert not reads_a_model or "--device" in found
