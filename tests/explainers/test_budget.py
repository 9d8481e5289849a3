"""`explain.words` holds in the mean over a site's explanations, also where a language model writes what it likes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explain_scene import CONTEXT, LATENTS, SINGLE, prompts, says
from llm.server import Server, Trouble
from plainspoken.explainers import explainer_named
from plainspoken.explainers.best_of import Judged, within_budget
from plainspoken.explainers.budget import cap_on, held_to
from plainspoken.language.text import Text
from plainspoken.latents import FiringTable
from plainspoken.types import Explanation, Failure

LENGTHS = st.lists(st.integers(1, 300), max_size=30)


def of_length(words: Sequence[int]) -> dict[int, Explanation | Failure]:
    return {latent: Explanation(latent, "many " * n, n, "x") for latent, n in enumerate(words)}


@given(LENGTHS, st.integers(1, 200))
def test_the_cap_is_the_highest_with_which_the_budget_holds(words: list[int], mean: int) -> None:
    cap, lengths = cap_on(words, mean), np.array(words)
    if cap is None:
        assert not words or lengths.mean() <= mean
    else:
        assert lengths.mean() > mean >= np.minimum(lengths, cap).mean()
        assert np.minimum(lengths, cap + 1).mean() > mean


@given(LENGTHS, st.integers(1, 200))
def test_as_many_are_kept_as_the_budget_holds_the_shortest_first(words: list[int], mean: int) -> None:
    found = held_to({**of_length(words), 99: Failure(99, "explain", "x", kind="server")}, mean)
    kept = [n for latent, n in enumerate(words) if isinstance(found[latent], Explanation)]
    lost = [n for latent, n in enumerate(words) if isinstance(found[latent], Failure)]
    assert (found[99].kind, len(found)) == ("server", len(words) + 1)
    assert not kept or np.mean(kept) <= mean
    assert not lost or (np.mean([*kept, min(lost)]) > mean and max(kept, default=0) <= min(lost))
    assert {found[latent].kind for latent in range(len(words)) if isinstance(found[latent], Failure)} <= {
        "too many words"
    }


def explained(means, table: FiringTable, text: Text, words: int, words_max: int) -> list[Explanation | Failure]:
    explainer = explainer_named("default")
    return explainer.opens(means)(table, explainer.prepare(text), np.ones(LATENTS), words, words_max)


def length_of(again: int, single: int, context: int) -> Server:
    """A model that says so many words of each latent, and so many when it is asked again."""

    def reply(prompt: str) -> str:
        count = again if "Answer again" in prompt else single if '" cat" 10' in prompt else context
        return "[EXPLANATION]: " + "many " * count

    return Server(reply=says(reply))


def test_the_longest_are_asked_for_again_until_the_mean_holds(ask, table: FiringTable, text: Text) -> None:
    """30 and 4 words in a budget of 10: the one that is short stays, the other may have what it leaves, 16."""
    server = length_of(15, 30, 4)
    with ask(server) as means:
        found = explained(means, table, text, 10, 40)
    assert (found[SINGLE].words, found[CONTEXT].words) == (15, 4)
    (again,) = [body for body in prompts(server) if "Answer again" in str(body)]
    assert "has 30 words, which is too long. Answer again, in 16 words or fewer" in again["messages"][-1]["content"]
    assert again["messages"][-2]["content"] == "[EXPLANATION]: " + "many " * 30


def test_within_the_budget_nothing_is_asked_again(ask, table: FiringTable, text: Text) -> None:
    server = length_of(1, 16, 4)
    with ask(server) as means:
        found = explained(means, table, text, 10, 40)
    assert (found[SINGLE].words, found[CONTEXT].words, len(prompts(server))) == (16, 4, 2)


@pytest.mark.parametrize("again", [29, 35, 50])
def test_a_model_that_stays_above_loses_the_longest(again: int, ask, table: FiringTable, text: Text) -> None:
    """Counted as too long; what is longer the second time does not stand for what was shorter."""
    server = length_of(again, 30, 4)
    with ask(server) as means:
        found = explained(means, table, text, 10, 40)
    assert (found[SINGLE].kind, found[CONTEXT].words) == ("too many words", 4)
    assert f"{min(again, 30)} words" in found[SINGLE].reason and "explain.words" in found[SINGLE].reason


def test_a_server_that_fails_the_second_time_leaves_the_first_answer(ask, table: FiringTable, text: Text) -> None:
    """It is held to the budget all the same."""
    server = length_of(1, 12, 11)

    def fails(path: str, before: int, headers: dict[str, str]) -> Trouble | None:
        return Trouble(500) if len(prompts(server)) > 2 else None

    server.trouble = fails
    with ask(server) as means:
        found = explained(means, table, text, 11, 40)
    assert (found[SINGLE].kind, found[CONTEXT].words) == ("too many words", 11)


def test_of_candidates_shorter_ones_stand_where_it_costs_least() -> None:
    """Two latents; the budget leaves room for one long sentence: the one that wins more by its length."""
    long, short = ([Explanation(n, "x", words, name) for n in (0, 1)] for words, name in ((20, "long"), (10, "short")))
    candidates = list(zip(long, short, strict=True))
    judged = [(Judged(0.9), Judged(0.8)), (Judged(0.9), Judged(0.2))]

    def kept(words: int, scores: Any = judged) -> list[Any]:
        found = within_budget(candidates, scores, words)
        return [e.words if isinstance(e, Explanation) else e.kind for e in found]

    assert kept(20) == [20, 20]
    assert kept(15) == kept(19) == [10, 20]
    assert kept(14) == kept(10) == [10, 10]
    assert kept(9) == ["too many words", "too many words"]
    unread = [(Judged(0.9), Judged(unreadable="column 1")), (Judged(0.9), Judged(None))]
    assert kept(15, unread) == [20, 10]
    assert kept(10, unread) == ["too many words", 10]
    found = within_budget(candidates, judged, 15)
    assert [e.explainer for e in found] == ["best_of short", "best_of long"]
