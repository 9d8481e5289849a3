"""A reply is an explanation or a typed failure: nothing else, whatever a model answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.explainers.answer import MARKER, read_answer
from plainspoken.llm import Fault, Reply

anything = st.text(st.characters() | st.sampled_from(list("\n\t []:*.A\ud800\udc80\x00\x1b\u2028")), max_size=60)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (f"{MARKER} Names of days.", "Names of days."),
        (f"Let me see. The {MARKER} comes last.\n\n**{MARKER}** Names of days.\n", "Names of days."),
        (f"{MARKER}\n\nNames of days,\nweekends too.", "Names of days, weekends too."),
        ("Names of days", "Names of days"),
        ("  Names of days, e.g. “ Monday”.  ", "Names of days, e.g. “ Monday”."),
        (f"{MARKER} “I'm sorry” and other apologies", "“I'm sorry” and other apologies"),
        (f"{MARKER} Weak on “a”. Strong on “b”.", "Weak on “a”. Strong on “b”."),
        (f"{MARKER} the escape \x1b[31m and \x00", "the escape [31m and"),
    ],
)
def test_the_explanation_is_what_follows_the_last_marker_or_the_one_sentence(reply: str, said: str) -> None:
    assert read_answer(Reply(reply, "stop")) == said


@pytest.mark.parametrize(
    ("reply", "finish", "kind"),
    [
        ("", "stop", "parse"),
        (" \n\t ", "stop", "parse"),
        (MARKER, "stop", "parse"),
        (f"{MARKER} {MARKER}\n{MARKER} ...", "stop", "parse"),
        ("It is about days. It is about months.", "stop", "parse"),
        ("First line\nsecond line", "stop", "parse"),
        (f"{MARKER} Names of", "length", "cut answer"),
        ("", "refused", "refused"),
        ("I'm sorry, but I can't help with that.", "stop", "refused"),
        ("I’m sorry, I cannot do that", "stop", "refused"),
        (f"{MARKER} I cannot determine what the latent fires on.", "stop", "refused"),
        ("As an AI language model, I have no view.", "stop", "refused"),
        ("I do not know.", "stop", "refused"),
        (f"{MARKER} I don’t see what these texts share", "stop", "refused"),
    ],
)
def test_what_is_no_explanation_is_a_failure_of_its_kind(reply: str, finish, kind: str) -> None:
    found = read_answer(Reply(reply, finish))
    assert isinstance(found, Fault)
    assert found.kind == kind
    assert found.reason


@given(anything, st.sampled_from(["stop", "length", "refused"]))
def test_any_reply_is_one_clean_line_that_a_file_can_hold_or_a_fault(reply: str, finish) -> None:
    found = read_answer(Reply(reply, finish))
    if isinstance(found, Fault):
        assert found.reason.isprintable()
        json.dumps(found.reason, ensure_ascii=False).encode()
        return
    assert finish == "stop"
    assert any(character.isalnum() for character in found)
    assert found == " ".join(found.split())
    assert json.loads(json.dumps(found, ensure_ascii=False).encode()) == found


@given(anything)
def test_behind_a_marker_any_words_come_through(text: str) -> None:
    said = f"on {text} x"
    found = read_answer(Reply(f"{MARKER} {said}", "stop"))
    if isinstance(found, str) and MARKER not in text:
        assert found.startswith("on ")
        assert found.endswith(" x")
