"""Of several candidates the one that is simulated best on documents that none was written from."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from explain_scene import CONTEXT, LATENTS, NEVER, RARE, SINGLE, dense_table
from llm.server import Server
from plainspoken.config import ExplainConfig, SimulateConfig
from plainspoken.errors import ConfigError, CorpusError, LeakError
from plainspoken.explainers import Explainer, ExplainMeans, explainer_named
from plainspoken.explainers.best_of import Judged, choose, correlation, divide, draw_sample, judge, open_best_of
from plainspoken.language.text import Text
from plainspoken.latents import FiringTable
from plainspoken.latents.evidence import Evidence
from plainspoken.scorers.simulation import score_simulation
from plainspoken.simulators import SimulateMeans, simulator_named
from plainspoken.types import Explanation, Failure, Pairs, Rows, Simulation

TRUE = "Fires at 9 on “cat”; 3 on “dog”."
WIDE = "Fires at 9 on “cat”, “dog”, “him”, “to” or “the”; 3 on “her” or “red”."
FREE = "On pets, and on nothing else."


def hear(sentences, latents: int, text: Text, pairs: Pairs) -> tuple[Simulation, list[Failure]]:
    """The rule simulator."""
    return simulator_named("rules").opens(SimulateMeans(SimulateConfig(), 0))(sentences, latents, text, None, pairs)


class Seeded(Server):
    """Answers by the request's seed, which tells the candidates apart."""

    said: tuple[str, ...] = ()

    def chat(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = "[EXPLANATION]:" in str(asked)
        self.reply = lambda text: f"[EXPLANATION]: {self.said[asked['seed']]}" if known else "there"
        return super().chat(asked)


@pytest.mark.parametrize("said", [(WIDE, TRUE, FREE), (FREE, WIDE, TRUE), (TRUE, TRUE, WIDE), ("", TRUE, FREE)])
def test_the_candidate_that_is_simulated_best_is_kept(said, ask, table: FiringTable, text: Text) -> None:
    """Of those beside it that failed the explainer tells: one that says nothing, and one that is no rule."""
    server = Seeded()
    server.said = said
    lost: list[Failure] = []
    with ask(server, candidates=3) as means:
        explainer = explainer_named("best_of")
        found = explainer.opens(replace(means, hear=hear, lost=lost.append))(
            table, explainer.prepare(text), np.ones(LATENTS), 20, 40
        )
    assert [each.latent for each in found] == list(range(LATENTS))
    assert isinstance(found[SINGLE], Explanation)
    assert (found[SINGLE].text, found[SINGLE].explainer) == (TRUE, "best_of default")
    assert {found[NEVER].kind, found[RARE].kind} == {"not explained"}
    wanted = [kind for sentence, kind in (("", "parse"), (FREE, "not read")) if sentence in said]
    assert [failure.kind for failure in lost if failure.latent == SINGLE] == wanted


def test_without_one_that_can_be_read_the_latent_is_not_explained(ask, table: FiringTable, text: Text) -> None:
    server = Seeded()
    server.said = (FREE, FREE)
    with ask(server, candidates=2) as means:
        explainer = explainer_named("best_of")
        found = explainer.opens(replace(means, hear=hear))(table, explainer.prepare(text), np.ones(LATENTS), 20, 40)
    assert (found[SINGLE].kind, found[SINGLE].stage) == ("parse", "explain")
    assert "can read none of the candidates" in found[SINGLE].reason


def test_candidates_are_written_from_other_documents_than_they_are_judged_on(table: FiringTable, text: Text) -> None:
    """A writer and a judge that note what they are shown."""
    shown: dict[str, list[set[int]]] = {"written": [], "judged": []}

    def opens(means: ExplainMeans):
        def explain(table: FiringTable, known: Text, weight, words: int, words_max: int, progress=None):
            assert known.rows.fingerprint == table.rows.fingerprint
            shown["written"].append(set(table.rows.document.tolist()))
            return [Explanation(latent, f"{TRUE}", 5, "noted") for latent in range(table.latents)]

        return explain

    def noted(sentences, latents: int, text: Text, pairs: Pairs):
        shown["judged"].append(set(text.rows.document[pairs.position // text.rows.tokens.shape[1]].tolist()))
        assert text.rows.part == "explain"
        return hear(sentences, latents, text, pairs)

    writer = Explainer(lambda text: text, opens)
    means = ExplainMeans(ExplainConfig(candidates=2, window=8), 0, hear=noted)
    open_best_of(means, lambda name: writer)(table, divide(text), np.ones(LATENTS), 20, 40)
    assert len(shown["written"]) == len(shown["judged"]) == 2
    for written in shown["written"]:
        for judged in shown["judged"]:
            assert judged
            assert not written & judged
    divided = divide(text)
    everything = set(divided.written.rows.document) | set(divided.judged.rows.document)
    assert everything == set(text.rows.document)
    assert divided.held.mean() == pytest.approx(0.25)


@pytest.mark.parametrize("part", ["fit", "calibrate", "evaluate"])
def test_other_documents_than_explain_ones_are_refused(part: Any, table: FiringTable, text: Text) -> None:
    rows = Rows(text.rows.tokens, text.rows.mask, text.rows.document, text.rows.keys, part)
    means = ExplainMeans(ExplainConfig(candidates_from=("rules",)), 0, hear=hear)
    explain = open_best_of(means, explainer_named)
    other = FiringTable(table.pointer, table.position, table.value, rows)
    with pytest.raises(LeakError, match=part):
        explain(other, divide(Text(rows, text.pieces)), np.ones(LATENTS), 20, 40)


def test_with_every_window_drawn_the_score_is_the_scorers_correlation(table: FiringTable, text: Text) -> None:
    said = [Explanation(i, s, 5, "x") for i, s in enumerate((WIDE, "Fires at 7 on “her” after “saw”; 2 on “her”."))]
    sample = draw_sample(table, np.arange(LATENTS), 10**6, 8, 0)
    assert (sample.weight == 1).all()
    judged = judge([*said, Failure(2, "explain", "x"), Failure(3, "explain", "x")], LATENTS, text, sample, hear)
    rules = simulator_named("rules").opens(SimulateMeans(SimulateConfig(), 0))
    simulation, _ = rules({e.latent: e.text for e in said}, LATENTS, text)
    scores = score_simulation(Evidence.over(simulation, table)).correlation
    for latent in (SINGLE, CONTEXT):
        assert judged[latent].score == pytest.approx(scores.of(latent), abs=1e-6)
    assert judged[NEVER] == judged[RARE] == Judged()


def test_a_latent_is_judged_on_the_same_pairs_whoever_else_is(table: FiringTable) -> None:
    everybody = draw_sample(table, np.arange(LATENTS), 2, 8, 0)
    for latent in (SINGLE, CONTEXT):
        alone, mine = draw_sample(table, np.array([latent]), 2, 8, 0), everybody.of(everybody.pairs.latent == latent)
        assert len(alone.pairs)
        for one, other in ((alone.pairs.position, mine.pairs.position), (alone.true, mine.true)):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(alone.weight, mine.weight)


def test_weights_undo_how_the_sample_was_drawn(table: FiringTable) -> None:
    """Over many draws the weighted sums are those of all the text, silent text included."""
    drawn = [draw_sample(table, np.array([CONTEXT]), 3, 8, seed) for seed in range(400)]
    tokens = np.mean([sample.weight.sum() for sample in drawn])
    mass = np.mean([(sample.weight * sample.true).sum() for sample in drawn])
    assert tokens == pytest.approx(table.rows.token_count, rel=0.03)
    assert mass == pytest.approx(float(table.latent(CONTEXT)[1].sum()), rel=0.03)
    for sample in drawn[:20]:
        order = np.lexsort((sample.pairs.latent, sample.pairs.position))
        assert np.array_equal(order, np.arange(len(order)))
        assert len(np.unique(sample.pairs.position)) == len(order)


def test_a_candidate_without_an_answer_at_some_token_is_not_judged() -> None:
    rows = Rows(np.ones((1, 6), np.int32), np.ones((1, 6), bool), np.zeros(1, np.int32), ("a",), "explain")
    values = np.array([0, 1, 0, 2, 5, 0], np.float32)[:, None]
    text = Text(rows, (b"", b" x"))
    sample = draw_sample(dense_table(values, rows), np.array([0]), 9, 3, 0)

    def partly(sentences, latents: int, text: Text, pairs: Pairs) -> tuple[Simulation, list[Failure]]:
        position = np.array([1, 3])
        said = Simulation(position, position * 0, np.array([4.0, 8.0], np.float32), 1, 1, 6, text.rows.fingerprint)
        return said.with_missing(np.array([4]), np.array([0])), [Failure(0, "simulate", "1 pair", kind="server")]

    (found,) = judge([Explanation(0, "x", 1, "x")], 1, text, sample, partly)
    assert found.score is None and found.unanswered is not None and found.unanswered.kind == "server"


def test_a_correlation_that_is_not_defined_is_none() -> None:
    ones, ramp = np.ones(4), np.arange(4.0)
    assert correlation(ones, ramp, ones) is None
    assert correlation(ramp, ones, ones) is None
    assert correlation(np.zeros(0), np.zeros(0), np.zeros(0)) is None
    assert correlation(ramp, -ramp, ones) == pytest.approx(-1)
    twice = np.array([1.0, 2, 1, 1])
    level, true = np.array([0.0, 5, 1, 1]), np.array([1.0, 3, 0, 2])
    repeated = np.repeat(np.arange(4), twice.astype(int))
    assert correlation(level, true, twice) == pytest.approx(np.corrcoef(level[repeated], true[repeated])[0, 1])


def test_what_is_chosen_among_candidates() -> None:
    a, b = (Explanation(0, text, 1, "x") for text in "ab")
    lost, other = Failure(0, "explain", "gone", kind="refused"), Failure(0, "explain", "slow", kind="server")
    score, none, unread = Judged(0.1), Judged(), Judged(unreadable="column 1")

    def text(candidates, judged) -> str:
        found = choose(candidates, judged)
        return found.text if isinstance(found, Explanation) else f"{found.kind}: {found.reason}"

    assert text([a, b], [none, score]) == "b"
    assert text([a, b], [none, none]) == text([a, b], [score, score]) == "a"
    assert text([lost, b], [none, none]) == "b"
    assert text([a, b], [score, Judged(-0.2)]) == "a"
    assert text([a, b], [unread, Judged(-0.2)]) == "b"
    assert text([a, lost], [unread, none]).startswith("parse: ")
    missing = Judged(unanswered=Failure(0, "simulate", "2 pairs", kind="server"))
    assert text([a, b], [missing, score]).startswith("server: the candidates cannot be compared")
    assert text([a, b], [Judged(-0.9), missing]).startswith("server: ")
    assert text([lost, other], [none, none]) == "refused: none of 2 candidates could be written: gone"


def test_it_is_no_candidate_of_itself_and_needs_two_documents(text: Text) -> None:
    with pytest.raises(ConfigError, match="names best_of itself"):
        open_best_of(ExplainMeans(ExplainConfig(candidates_from=("rules", "best_of")), 0), explainer_named)
    with pytest.raises(ConfigError, match=r"explain\.candidates_from"):
        explainer_named("best_of").reads(ExplainConfig(candidates_from=("defualt",)))
    rows = text.rows
    one = Rows(rows.tokens[:2], rows.mask[:2], rows.document[:2], rows.keys, "explain")
    with pytest.raises(CorpusError, match="only one explain document"):
        divide(Text(one, text.pieces))


def test_settings_that_nobody_reads_are_known() -> None:
    read: Callable[[str, Any], frozenset[str]] = lambda name, settings: explainer_named(name).reads(settings)  # noqa: E731
    plain = ExplainConfig()
    assert read("rules", plain) == frozenset()
    assert "negatives" in read("contrastive", plain)
    assert "negatives" not in read("default", plain)
    assert {"candidates", "highlight"} <= read("best_of", plain)
    assert "negatives" in read("best_of", ExplainConfig(candidates_from=("default", "contrastive")))
