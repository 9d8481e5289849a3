"""The folder of a trace: known by its prompt's two ends, of no other prompt, and legal wherever files are."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plainspoken.pipeline.folder_name import folder_name

TEXTS = st.text(max_size=200)
WIDE = st.text("𠀀𐐀𝒳漢é ", max_size=200)
"""Letters of four bytes, and of fewer, so that a cut by bytes falls within them."""


@given(TEXTS, TEXTS)
@example("a b", "a-b")
@example("A", "a")
@example("x" * 100 + "a" + "y" * 100, "x" * 100 + "b" + "y" * 100)
def test_two_prompts_never_share_a_folder(one: str, other: str) -> None:
    assert (folder_name(one, "logits", {}) == folder_name(other, "logits", {})) == (one == other)


@given(st.one_of(TEXTS, WIDE), WIDE)
@example("../../etc/passwd\0", "")
@example("CON", "")
@example("漢" * 300, "")
@example("𠀀" * 300, "𐐀" * 300)
@example("\ud800", "")
def test_any_prompt_makes_a_name_that_file_systems_take(text: str, asked: str) -> None:
    name = folder_name(text, f"logit {asked}", {})
    assert re.fullmatch(r"[^\W_]+(-[^\W_]+)*", name), name
    assert len(name.encode()) <= 120  # file systems take 255 bytes, and the files within have names, too
    assert name == name.lower()


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("def f(", "def-f-logits-"),
        ("def greet(self, name", "def-greet-self-name-logits-"),
        (
            "class Greeter:\n    def greet(self, name, age):\n        return",
            "class-greeter-def-greet-age-return-logits-",
        ),
        ("Ça fait 漢字", "ça-fait-漢字-logits-"),
        ("(((", "logits-"),
    ],
)
def test_a_prompt_is_known_by_its_two_ends(text: str, begins: str) -> None:
    name = folder_name(text, "logits", {})
    assert name.startswith(begins)
    assert re.fullmatch("[0-9a-f]+", name.removeprefix(begins))


def test_another_question_at_the_same_prompt_has_its_own_folder() -> None:
    names = [folder_name("def f(", "logits", {"paths": n}) for n in (1, 2)] + [folder_name("def f(", "logit self", {})]
    assert len(set(names)) == 3
