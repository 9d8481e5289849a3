"""Interventions in words: what is written is what is meant, and the rest is refused with the form that there is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.circuits.intervene import Intervention, Span
from plainspoken.circuits.intervention_words import in_words, parse_interventions, placed
from plainspoken.errors import UsageError


def test_places_are_one_token_a_span_or_everywhere() -> None:
    found = parse_interventions(["2/17", "2/17@3", "2/17@-1", "2/17@2:5", "2/17@-2:", "2/17@:4", "2/17@:"])
    positions = [each.positions for each in found]
    assert positions == [Span(), (3,), (-1,), Span(2, 5), Span(-2), Span(0, 4), Span()]
    assert {(each.layer, each.latent, each.kind, each.amount) for each in found} == {(2, 17, "ablate", 0.0)}


def test_scaled_before_set_before_ablated_whatever_the_order_in_which_they_stand() -> None:
    found = parse_interventions(["0/1"], ["0/2=1e-1"], ["0/3@-1=-2.5", "0/4=0"])
    assert [(each.kind, each.latent, each.amount) for each in found] == [
        ("scale", 2, 0.1), ("set", 3, -2.5), ("set", 4, 0.0), ("ablate", 1, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "17", "2/", "2/x", "2/1@", "2/1@x", "2/1@1:2:3", "-1/2", "2/1=3", "2/1@1,2"])
def test_other_words_are_refused_with_the_form(text: str) -> None:
    with pytest.raises(UsageError, match=r"write --ablate LAYER/NUMBER\[@P\[:Q\]\], e\.g\."):
        parse_interventions([text])


@pytest.mark.parametrize(("text", "said"), [("2/1", "=FACTOR"), ("2/1=", "=FACTOR"), ("2/1=two", "'two' in")])
def test_an_amount_must_be_there_and_a_number(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_interventions(scale=[text])
    for amount in ("inf", "nan", "-1e10"):
        with pytest.raises(UsageError, match="a number up to"):
            parse_interventions(set_to=[f"2/1={amount}"])


@given(st.integers(1, 9), st.integers(0, 5), st.booleans(), st.one_of(st.integers(-12, 16), st.tuples(
    st.integers(-12, 16), st.one_of(st.none(), st.integers(-12, 16)))))  # fmt: skip
def test_what_is_placed_touches_the_same_tokens_but_the_one_before_the_text(prompt, more, begun, at) -> None:
    """Or it is refused, and then there is no such token."""
    positions = (at,) if isinstance(at, int) else Span(*at)
    last, each = prompt + more, Intervention(0, 0, positions)
    touched = {i for i, on in enumerate(each.at(prompt, 0, last).tolist()) if on and i >= begun}
    inside = not isinstance(at, int) or -prompt <= at < last
    try:
        there = placed(each, prompt, last, begun)
    except UsageError:
        assert not touched or not inside
        return
    assert inside and {i for i, on in enumerate(there.at(prompt, 0, last).tolist()) if on} == touched != set()


def test_what_is_done_is_told_in_the_words_in_which_it_is_asked() -> None:
    told = [in_words(each, 1) for each in parse_interventions(["0/1", "0/1@3", "0/1@2:5", "0/1@4:"], ["0/1@:=2"])]
    assert told == ["× 2 at every token", "ablated at every token", "ablated @3", "ablated @2:5", "ablated @4:"]
