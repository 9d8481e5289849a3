"""Scorers over HTTP: who knows the truth scores 1, who guesses or always says the same scores what chance gives."""

import numpy as np
import pytest

from judges import LETTERS, PIECES, SENTENCES, SPOKEN, asked, constant, guessing, judged_by, knowing
from plainspoken.config import LlmServiceConfig, ScoreConfig
from plainspoken.errors import LeakError
from plainspoken.evaluate.statistics import interval, samples
from plainspoken.llm.open import open_llm
from plainspoken.scorers import (
    MEASURES,
    JudgedScores,
    ScoreMeans,
    Windows,
    scorer_named,
    site_differences,
    site_means,
    surprisal,
)
from planted import LATENTS, make_rows, table_of

SETTINGS = ScoreConfig(batch=4)
IN_WORDS = ("detection", "fuzzing", "intruder")
ROWS = make_rows("calibrate", documents=40)
WINDOWS = Windows(table_of(ROWS), per_decile=2, silent=20, size=8, seed=0)


def scored(name, judge, folder, sentences=SENTENCES, windows=WINDOWS, **more):
    with judged_by(judge, folder, **more) as (llm, server):
        score = scorer_named(name).opens(ScoreMeans(SETTINGS, llm))
        return score(sentences, windows, PIECES), server


def chance(judged):
    """The share of positives among each latent's examples."""
    return np.array([judged.truth[judged.latent == latent].mean() for latent in judged.scored])


@pytest.mark.parametrize("name", [*IN_WORDS, "surprisal"])
def test_who_knows_the_truth_scores_1_on_every_measure(name, tmp_path):
    found, _ = scored(name, knowing, tmp_path)
    assert not found.failures and found.judged.scored == list(range(SPOKEN))
    assert (found.judged.answered == found.judged.asked).all()
    scores = JudgedScores.of(found.judged)
    for measure in MEASURES:
        values = getattr(scores, measure)
        assert values.undefined == LATENTS - SPOKEN
        if name == "surprisal" and measure == "correlation":  # it tells texts apart, by no straight line
            assert values.mean > 0.8
        else:
            assert values.values[values.defined] == pytest.approx(1.0)


@pytest.mark.parametrize("name", IN_WORDS)
def test_who_guesses_is_at_chance_within_its_interval(name, tmp_path):
    found, _ = scored(name, guessing, tmp_path)
    weights = samples(len(ROWS.keys), 500, 0)
    means = site_means(found.judged, weights)
    for measure, expected in (("balanced_accuracy", 0.5), ("correlation", 0.0)):
        low, high = interval(means[measure][1:])
        assert low < expected < high
    assert abs(means["auprc"][0] - chance(found.judged).mean()) < 0.1


@pytest.mark.parametrize("name", IN_WORDS)
@pytest.mark.parametrize("answer", [0, 1])
def test_who_always_says_the_same_is_never_good(name, answer, tmp_path):
    found, _ = scored(name, constant(answer), tmp_path)
    scores = JudgedScores.of(found.judged)
    if name == "intruder":  # always the first: its place is drawn, so that this too is a guess
        assert scores.balanced_accuracy.mean == pytest.approx(0.5, abs=0.1)
        return
    defined = scores.auprc.defined
    assert scores.balanced_accuracy.values[defined] == pytest.approx(0.5)
    assert scores.auprc.values[defined] == pytest.approx(chance(found.judged))
    assert not scores.correlation.defined.any()
    p = chance(found.judged)
    assert scores.f1.values[defined] == pytest.approx(answer * 2 * p / (1 + p))


@pytest.mark.parametrize("name", IN_WORDS)
def test_another_latent_s_sentence_is_worth_nothing(name, tmp_path):
    others = {latent: SENTENCES[(latent + 1) % SPOKEN] for latent in SENTENCES}
    own, _ = scored(name, knowing, tmp_path)

    # An intruder that the sentence does not tell apart leaves nothing to choose by: the judge takes the first.
    def lost(text):
        return knowing(text) if "does not belong" not in text or not ambiguous(text) else "1"

    control, _ = scored(name, lost, tmp_path / "control", others)
    weights = samples(len(ROWS.keys), 300, 0)
    assert control.judged.asked.tolist() == own.judged.asked.tolist()
    np.testing.assert_array_equal(control.judged.truth, own.judged.truth)
    assert site_means(control.judged, weights)["balanced_accuracy"][0] < 0.6
    low, _ = interval(site_differences(own.judged, control.judged, weights)["balanced_accuracy"][1:])
    assert low > 0.3


def ambiguous(text):
    sentence, texts = asked(text)
    return [sentence[-1] in each.split() for each in texts].count(False) != 1


def test_a_batch_with_a_wrong_count_is_a_fault_and_no_verdict(tmp_path):
    def short(conversation):
        sentence, texts = asked(conversation)
        right = knowing(conversation)
        return "[1]" if len(texts) > 1 and sentence.endswith(("b", "c")) else right

    found, _ = scored("detection", short, tmp_path)
    assert {(failure.latent, failure.kind) for failure in found.failures} == {(0, "parse"), (1, "parse")}
    assert "1 answers for 4 texts" in found.failures[0].reason
    full = found.judged.answered == found.judged.asked
    assert not full[:2].any() and full[2:].all()
    assert found.unanswered == {"parse": int((found.judged.asked - found.judged.answered).sum())}
    scores = JudgedScores.of(found.judged)
    assert scores.balanced_accuracy.values[2:SPOKEN] == pytest.approx(1.0)


def test_surprisal_reads_a_text_in_one_pass_where_that_is_told_truthfully(tmp_path):
    """In process it is; there both ways give the same losses, and a text that is too long is a fault."""
    llm = open_llm(LlmServiceConfig(model="pocket"), tmp_path, device="cpu")
    before, text = llm.tokens.encode("def f(x):\n"), llm.tokens.encode("    return x + xx\n")
    (one,), (other,) = (llm.asker.ask([ask(before, text)]) for ask in (surprisal._in_one_pass, surprisal._by_prefixes))
    assert surprisal._loss(one, text) == pytest.approx(surprisal._loss(other, text), abs=1e-4)
    assert surprisal._way(llm) is surprisal._in_one_pass
    score = scorer_named("surprisal").opens(ScoreMeans(SETTINGS, llm))
    found = score({0: "fires at " + "b" * 5000, 3: "fires at e"}, WINDOWS, PIECES)
    llm.close()
    assert found.judged.scored == [3] and found.unanswered == {"beyond context": int(found.judged.asked[0])}
    assert [(failure.latent, failure.kind) for failure in found.failures] == [(0, "beyond context")]


def test_embedding_is_nearness(tmp_path):
    def embed(texts):
        words = [text.removeprefix("fires at").split() for text in texts]
        vectors = np.array([[word.count(letter) for letter in LETTERS] for word in words], np.float64)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    found = scorer_named("embedding").opens(ScoreMeans(SETTINGS, embed=embed))(SENTENCES, WINDOWS, PIECES)
    scores = JudgedScores.of(found.judged)
    for measure in ("auprc", "f1", "balanced_accuracy"):
        assert getattr(scores, measure).mean == pytest.approx(1.0)


def test_mean_hidden_states_do_not_depend_on_what_else_is_embedded(neox):
    from plainspoken.scorers.embedding import hidden_states

    embed = hidden_states(neox)
    texts = ["Lily", "the red ball in the park", "", "x" * 500]
    together = embed(texts)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0)
    np.testing.assert_allclose(together, np.concatenate([embed([text]) for text in texts]), atol=1e-5)


def test_each_latent_has_its_own_generator_and_what_is_drawn_of_it_is_true():
    again = Windows(table_of(ROWS), per_decile=2, silent=20, size=8, seed=0)
    for latent in reversed(range(SPOKEN)):
        one, other = WINDOWS.drawn(latent), again.drawn(latent)
        assert [(w.row, w.start) for w in one] == [(w.row, w.start) for w in other]
        assert len({(w.row, w.start) for w in one}) == len(one)
        for window in one:
            assert window.fires == (latent + 1 in window.tokens)
            np.testing.assert_array_equal(
                window.tokens, ROWS.tokens[window.row, window.start : window.start + len(window.tokens)]
            )
            assert ROWS.mask[window.row, window.start : window.start + len(window.tokens)].all()
    assert WINDOWS.drawn(LATENTS - 1) == []  # it never fires: nothing could be told, and nobody is asked
    other_seed = Windows(table_of(ROWS), per_decile=2, silent=20, size=8, seed=1)
    assert [w.row for w in other_seed.drawn(3)] != [w.row for w in WINDOWS.drawn(3)]


@pytest.mark.parametrize("name", IN_WORDS)
def test_a_latent_more_or_less_changes_nothing_of_what_is_asked_of_another(name, tmp_path):
    told = []
    for place, kept in enumerate((SENTENCES, {latent: SENTENCES[latent] for latent in (2, 5)})):
        rest = table_of(ROWS) if place == 0 else table_of(ROWS).only(np.array([2, 5]))
        windows = Windows(rest, per_decile=2, silent=20, size=8, seed=0)
        _, server = scored(name, constant(1), tmp_path / str(place), kept, windows)
        told.append({str(body["messages"]) for body in server.bodies if "Description: fires" in str(body)})
    everybody, few = told
    assert few and few < everybody


def test_explain_and_evaluate_documents_are_refused():
    for part in ("explain", "evaluate", "fit"):
        with pytest.raises(LeakError, match=f"part '{part}'"):
            Windows(table_of(make_rows(part)), 2, 20, 8, 0)
