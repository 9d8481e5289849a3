"""The driver that all share: each pair ends as a level or as missing, is counted, and is asked once."""

import numpy as np
import pytest

from plainspoken.language.text import Text
from plainspoken.llm import Fault, NextToken
from plainspoken.llm.open import Llm
from plainspoken.simulators.asking import Question, ask_levels
from plainspoken.simulators.levels import expected_levels, read_digits

LATENTS = 4


def questions(llm: Llm, text: Text, latents: tuple[int, ...] = (0, 2, 3)) -> list[Question]:
    """For every latent and row one question; of the last row it is too long, of latent 3 the model refuses."""
    digits = llm.tokens.digits((1,))
    t = text.rows.tokens.shape[1]
    found = []
    for latent in latents:
        for row in range(len(text.rows.tokens)):
            columns = np.flatnonzero(text.rows.mask[row])
            prompts = tuple((7 + latent if latent < 3 else 100_000, 9, int(c), row + 1) for c in columns)
            request = Fault("beyond context", "400 tokens") if row == 2 and latent == 0 else NextToken(prompts, digits)
            found.append(Question(row * t + columns, np.full(len(columns), latent), request))
    return found


def test_every_pair_ends_as_a_level_or_as_missing(llm: Llm, passages: Text):
    put = questions(llm, passages)
    told = []
    pairs = sum(len(q.position) for q in put)
    found, failures = ask_levels(
        llm, put, lambda _, answer: read_digits(answer, 0.0), passages, LATENTS, None, pairs, told.append
    )
    assert sum(told) == len(passages.rows.tokens)
    expected = {}
    for question in put:
        if isinstance(question.request, Fault) or question.latent[0] == 3:
            continue
        (answer,) = llm.asker.ask([question.request])
        level = expected_levels(answer.logprob, 0.0).level
        expected |= dict(zip((question.position * LATENTS + question.latent).tolist(), level, strict=True))
    heard = dict(zip((found.position * LATENTS + found.latent).tolist(), found.level, strict=True))
    assert heard.keys() == expected.keys()
    np.testing.assert_allclose([heard[pair] for pair in expected], list(expected.values()), rtol=1e-6)
    for position, latent in ((found.position, found.latent), (found.missing_position, found.missing_latent)):
        assert (np.diff(position * LATENTS + latent) > 0).all()
    assert len(found.level) + len(found.missing_position) == pairs
    assert {(f.latent, f.kind) for f in failures} == {(0, "beyond context"), (3, "refused")}
    assert [f.reason.split()[0] for f in failures] == ["5", str(int(passages.rows.mask.sum()))]
    assert np.isnan(found.discarded).tolist() == [False, True, False, True]
    assert llm.asker.spent()["simulate"].asked == len(put) - 1


def test_too_little_probability_is_a_missing_pair_and_still_counted(llm: Llm, passages: Text):
    put = questions(llm, passages, (2,))
    found, (failure,) = ask_levels(
        llm, put, lambda _, answer: read_digits(answer, 0.999), passages, LATENTS, None, 1, None
    )
    assert (failure.latent, failure.kind) == (2, "missing probability mass")
    assert len(found.level) == 0 and len(found.missing_position) == passages.rows.mask.sum()
    assert 0.5 < found.discarded[2] < 1


def test_no_questions_are_an_empty_simulation(llm: Llm, passages: Text):
    told = []
    found, failures = ask_levels(llm, [], lambda *_: pytest.fail("no answer"), passages, 2, None, 0, told.append)
    assert found.complete and not len(found.level) and not failures and sum(told) == 3
