"""Counts agree with their nouns, wherever a count is put into a sentence."""

import re
from pathlib import Path

import pytest

import plainspoken
from plainspoken.language.counted import agreeing, counted

NOUNS = [
    "answers",
    "candidates",
    "coders",
    "documents",
    "examples",
    "latents",
    "others",
    "pairs",
    "prompts",
    "requests",
    "rows",
    "sentences",
    "sites",
    "texts",
    "tokens",
    "vectors",
    "words",
]


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0 latents"), (1, "1 latent"), (2, "2 latents"), (12_345, "12,345 latents")]
)
def test_one_is_one_and_all_else_are_several(count: int, told: str) -> None:
    assert counted(count, "latent") == told
    assert counted(count, "latent has", "latents have").split(" ", 1)[1] == (
        "latent has" if count == 1 else "latents have"
    )
    assert agreeing(count, "has", "have") == ("has" if count == 1 else "have")


@pytest.mark.parametrize("room", ["cli", "report", "pipeline", "evaluate"])
def test_no_sentence_puts_a_bare_count_before_a_plural(room: str) -> None:
    """`{count} latents` would read "1 latents": counts in sentences go through `counted`."""
    loose = re.compile(r"\}\}? (\((latent|token), (latent|token)\) )?(" + "|".join(NOUNS) + r")\b")
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in sorted((Path(plainspoken.__file__).parent / room).rglob("*"))
        if path.suffix in (".py", ".html")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if loose.search(line)
    ]
    assert not found, "\n".join(found)
