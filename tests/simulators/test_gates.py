"""The gate: it keeps what it is asked to keep, on documents that did not choose it, and never guesses silence."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plainspoken.errors import ConfigError, LeakError
from plainspoken.language.text import Text
from plainspoken.latents.table import FiringTable
from plainspoken.simulators.gates import Foresight, GateMeans, fit_gate, gate_named
from plainspoken.simulators.gates.gate import document_shares, firing_steps
from plainspoken.simulators.gates.thresholds import Tally, expected_share, ladder
from plainspoken.types import Rows
from planted import LATENTS, SPOKEN_TOKENS, fires, make_rows, maximum, table_of
from rules_made import read_pieces

EVERY = np.ones(LATENTS, bool)
NORM = np.linspace(0.5, 2.0, LATENTS)
ROWS = make_rows("calibrate", documents=60)


def foresight(steps, most: int = 5, readable: np.ndarray = EVERY) -> Foresight:
    """Foresight from a function of rows to dense steps [row, t, latents]."""

    def over(text: Text):
        dense = np.asarray(steps(text.rows)).reshape(-1, LATENTS).astype(np.float32)
        return lambda position: dense[position]

    cuts = np.tile(np.arange(1.0, most + 1, dtype=np.float32)[:, None], LATENTS)
    return Foresight(cuts, readable, over)


def fit(seen: Foresight, target: float = 0.99, rows: Rows = ROWS, table: FiringTable | None = None, spoken=EVERY):
    return fit_gate(seen, Text(rows, []), table or table_of(rows), NORM, spoken, target, 0)


def passed(gate, rows: Rows = ROWS, asked=None) -> np.ndarray:
    """bool[row, t, latents]: the pairs that pass."""
    pairs = gate.passed(Text(rows, []), asked)
    dense = np.zeros((rows.tokens.size, LATENTS), bool)
    dense[pairs.position, pairs.latent] = True
    assert dense.sum() == len(pairs)
    order = pairs.position * LATENTS + pairs.latent
    assert (np.diff(order) > 0).all()
    return dense.reshape(*rows.tokens.shape, LATENTS)


def perfect_steps(rows: Rows) -> np.ndarray:
    return 5 * fires(rows)


def noisy_steps(rows: Rows, seed: int = 1) -> np.ndarray:
    """Higher where the latent fires, but not surely."""
    rng = np.random.default_rng([seed, len(rows.tokens)])
    shape = (*rows.tokens.shape, LATENTS)
    return np.where(
        fires(rows), rng.choice(6, shape, p=[0.004, 0.01, 0.05, 0.2, 0.3, 0.436]), rng.integers(0, 3, shape)
    )


def test_a_perfect_gate_drops_nothing_true_and_passes_nothing_else():
    gate = fit(foresight(perfect_steps))
    for rows in (ROWS, make_rows("evaluate")):
        np.testing.assert_array_equal(passed(gate, rows), fires(rows))
    assert gate.kept.firings.sum() == gate.kept.firings_kept.sum() > 0


@pytest.mark.parametrize("steps", [0, 3, 5])
def test_a_gate_that_sees_the_same_everywhere_passes_everything(steps: int):
    gate = fit(foresight(lambda rows: np.full((*rows.tokens.shape, LATENTS), steps)))
    np.testing.assert_array_equal(passed(gate), np.broadcast_to(ROWS.mask[..., None], (*ROWS.mask.shape, LATENTS)))


def test_a_gate_that_guesses_passes_everything():
    gate = fit(foresight(lambda rows: np.random.default_rng(3).integers(0, 6, (*rows.tokens.shape, LATENTS))))
    assert gate.open == LATENTS and passed(gate)[ROWS.mask].all()


def test_latents_that_are_not_foreseen_pass_everywhere_and_the_others_do_not():
    blind = np.arange(LATENTS) % 2 == 0
    gate = fit(foresight(lambda rows: np.where(blind, 0, perfect_steps(rows))))
    found = passed(gate)
    assert found[ROWS.mask][:, blind].all()
    seen = ~blind & (np.arange(LATENTS) < SPOKEN_TOKENS)
    np.testing.assert_array_equal(found[..., seen], fires(ROWS)[..., seen])
    assert gate.kept.firings_kept.sum() == gate.kept.firings.sum()


def test_a_sentence_that_cannot_be_read_passes_everywhere_and_a_latent_without_one_nowhere():
    readable, spoken = EVERY.copy(), EVERY.copy()
    readable[2], spoken[3] = False, False
    gate = fit(foresight(lambda rows: perfect_steps(rows) * readable, readable=readable), spoken=spoken)
    found = passed(gate)
    assert found[ROWS.mask][:, 2].all() and not found[..., 3].any()
    assert gate.open == 1
    others = fires(ROWS) & spoken
    measured = np.isin(ROWS.document, np.flatnonzero(document_shares(ROWS, 0) == 2))
    assert gate.kept.firings.sum() == others[measured].sum()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.5, 0.9, 0.97]))
def test_the_recall_told_is_that_of_the_documents_that_did_not_choose(seed: int, target: float):
    gate = fit(foresight(lambda rows: noisy_steps(rows, seed)), target)
    share, found, true = document_shares(ROWS, 0), passed(gate), fires(ROWS)
    assert gate.chosen_by == (share < 2).sum() and len(gate.kept.keys) == (share == 2).sum()
    for at, key in enumerate(gate.kept.keys):
        mine = [row for row in range(len(ROWS.tokens)) if ROWS.keys[ROWS.document[row]] == key]
        assert mine and all(share[ROWS.document[row]] == 2 for row in mine)
        firings = kept = mass = mass_kept = 0.0
        for row in mine:
            for t in range(ROWS.tokens.shape[1]):
                for latent in np.flatnonzero(true[row, t]).tolist():
                    weight = maximum()[latent] * NORM[latent]
                    firings, mass = firings + 1, mass + weight
                    kept, mass_kept = kept + found[row, t, latent], mass_kept + weight * found[row, t, latent]
        told = [getattr(gate.kept, name)[at] for name in ("firings", "firings_kept", "mass", "mass_kept")]
        np.testing.assert_allclose(told, [firings, kept, mass, mass_kept])


@pytest.mark.parametrize("target", [0.9, 0.97])
def test_what_is_kept_meets_the_target_on_other_documents(target: float):
    gates = [fit(foresight(lambda rows, s=seed: noisy_steps(rows, s)), target) for seed in range(20)]
    recall = [gate.kept.firings_kept.sum() / gate.kept.firings.sum() for gate in gates]
    assert np.mean(recall) >= target and 0.02 < np.mean([passed(gate)[ROWS.mask].mean() for gate in gates]) < 0.7


def test_a_target_of_one_lets_no_firing_that_chose_be_dropped():
    gate = fit(foresight(noisy_steps), 1.0)
    choosing = np.isin(ROWS.document, np.flatnonzero(document_shares(ROWS, 0) < 2))
    assert not (fires(ROWS) & ~passed(gate))[choosing].any()


TARGETS = st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999, 1.0])


@st.composite
def any_steps(draw):
    """Foresight of any kind: of every quality, for each latent, in each half of the documents."""
    seed = draw(st.integers(0, 10_000))
    honest = draw(st.sampled_from([0.0, 0.3, 0.8, 0.97, 1.0]))
    turned = draw(st.booleans())  # what the documents that choose show is not what the others hold

    def steps(rows: Rows) -> np.ndarray:
        rng = np.random.default_rng([seed, len(rows.tokens)])
        shape = (*rows.tokens.shape, LATENTS)
        found = np.where(rng.random(shape) < honest, 5 * fires(rows), rng.integers(0, 6, shape))
        measures = np.isin(rows.document, np.flatnonzero(document_shares(rows, 0) == 2))
        return np.where(turned & measures[:, None, None] & (rng.random(shape) < 0.2), 0, found)

    return steps


def measuring(rows: Rows = ROWS) -> np.ndarray:
    """bool[row]: of the documents that do not choose."""
    return np.isin(rows.document, np.flatnonzero(document_shares(rows, 0) == 2))


@settings(max_examples=60, deadline=None)
@given(any_steps(), TARGETS, st.integers(2, 60))
def test_whatever_there_is_to_see_the_gate_that_is_used_keeps_its_target(steps, target: float, documents: int):
    """Recall by hand, of what passes: of the firings, and of their decoder-weighted mass, in documents that measure."""
    rows = make_rows("calibrate", documents=documents)
    gate = fit(foresight(steps), target, rows)
    true, found = fires(rows)[measuring(rows)], passed(gate, rows)[measuring(rows)]
    for weight in (np.ones(LATENTS), maximum() * NORM):
        whole = (true * weight).sum()
        assert (true * found * weight).sum() >= target * whole - 1e-9 * whole
    for recall in (gate.kept.recall, gate.kept.mass_recall):
        assert recall is None or recall >= target
    if target == 1:
        assert not (true & ~found).any()


def test_a_gate_that_loses_too_much_of_the_measuring_documents_is_tightened_and_that_is_counted():
    """Where the other documents hold what those that chose do not show, and where they do not."""
    alike = fit(foresight(noisy_steps), 0.9)
    assert alike.tightened == 0 and alike.open < LATENTS

    def misled(rows: Rows, share: float, step: int) -> np.ndarray:
        lost = np.random.default_rng(5).random((*rows.tokens.shape, LATENTS)) < share
        return np.where(lost & measuring(rows)[:, None, None], step, noisy_steps(rows))

    some = fit(foresight(lambda rows: misled(rows, 0.03, step=1)), 0.97)
    assert some.tightened > 0 and min(some.kept.recall, some.kept.mass_recall) >= 0.97 and some.open < LATENTS
    whole = fit(foresight(lambda rows: misled(rows, 0.5, step=0)), 0.97)
    assert whole.open == LATENTS and whole.tightened > some.tightened and whole.kept.recall == 1
    assert passed(whole)[ROWS.mask].all()


def test_where_nothing_fires_that_could_measure_everything_passes():
    silent = foresight(perfect_steps)
    latent, position = np.nonzero(fires(ROWS).reshape(-1, LATENTS).T)
    chooses = ~measuring()[position // ROWS.tokens.shape[1]]
    pointer = np.concatenate([[0], np.cumsum(np.bincount(latent[chooses], minlength=LATENTS))])
    table = FiringTable(pointer, position[chooses], maximum()[latent[chooses]], ROWS)
    gate = fit(silent, table=table)
    assert gate.kept.recall is None and gate.kept.mass_recall is None
    assert gate.open == LATENTS and passed(gate)[ROWS.mask].all()


def test_the_ladder_tightens_with_every_step_and_ends_where_everything_passes():
    rng = np.random.default_rng(0)
    odds = [0.01, 0.02, 0.07, 0.2, 0.3, 0.4]
    latents, steps = rng.integers(0, 30, (2, 4000)), rng.choice(6, (2, 4000), p=odds)
    folds = [Tally.of(latent, step, np.ones(4000), 30, 6) for latent, step in zip(latents, steps, strict=True)]
    rungs = list(ladder(*folds, np.ones(30, bool), 0.9))
    assert len(rungs) > 2 and (rungs[-1] == 0).all() and (rungs[0] > 0).any()
    for looser, tighter in pairwise(rungs):
        assert (tighter <= looser).all()


def test_halves_share_no_document_and_do_not_depend_on_the_order_of_rows():
    share = document_shares(ROWS, 0)
    assert (share == 2).sum() == 30 and (share == 0).sum() == 15 and (share == 1).sum() == 15
    turned = Rows(ROWS.tokens[::-1], ROWS.mask[::-1], ROWS.document[::-1], ROWS.keys, "calibrate")
    np.testing.assert_array_equal(document_shares(turned, 0), share)
    assert (document_shares(ROWS, 1) != share).any()


def test_few_documents_choose_nothing():
    rows = make_rows("calibrate", documents=1)
    assert fit(foresight(perfect_steps), rows=rows).open == LATENTS


def test_evaluate_rows_choose_nothing():
    rows = make_rows("evaluate")
    with pytest.raises(LeakError):
        fit(foresight(perfect_steps), rows=rows)


def test_only_tokens_that_are_asked_about_pass():
    asked = np.random.default_rng(0).random(ROWS.mask.shape) < 0.3
    gate = fit(foresight(noisy_steps), 0.9)
    np.testing.assert_array_equal(passed(gate, asked=asked), passed(gate) & asked[..., None])


def test_steps_at_firings_are_those_of_each_firing():
    seen = foresight(noisy_steps)
    latent, document, step, value = firing_steps(seen, Text(ROWS, []), table_of(ROWS))
    dense, true = noisy_steps(ROWS), fires(ROWS)
    assert sorted(zip(latent, document, step, strict=True)) == sorted(
        (int(i), int(ROWS.document[r]), int(dense[r, c, i])) for r, c, i in np.argwhere(true)
    )
    np.testing.assert_array_equal(value, maximum()[latent])


def test_shares_are_drawn_together_as_far_as_latents_are_alike():
    count = np.full(200, 20.0)
    rng = np.random.default_rng(0)
    alike = rng.binomial(20, 0.1, 200) / 20
    apart = rng.choice([0.0, 1.0], 200, p=[0.9, 0.1])
    among = np.ones(200, bool)
    assert np.abs(expected_share(alike, count, among) - alike.mean()).max() < 0.06
    np.testing.assert_allclose(expected_share(apart, count, among), apart, atol=0.02)
    count[0] = 0
    assert expected_share(apart, count, among)[0] == pytest.approx(apart[1:].mean(), abs=0.01)


def test_there_is_no_other_gate():
    assert gate_named("none") is None
    with pytest.raises(ConfigError, match=r"simulate\.gate is 'rule'; there are: none, rules, embedding"):
        gate_named("rule")


def spelled(rows: Rows) -> Text:
    """The planted rows, each token a letter of its own with a blank before it."""
    return Text(rows, [b""] + [f" {chr(96 + i)}{i}".encode() for i in range(1, 30)])


SENTENCES = {i: f"Fires at 9 on “{chr(97 + i)}{i + 1}”." for i in range(SPOKEN_TOKENS)}


def test_rules_foresee_what_their_sentences_say_and_more_around_it(neox):
    sentences = {**SENTENCES, 5: "Names of cities."}
    text = spelled(ROWS)
    seen = gate_named("rules")(GateMeans(sentences, LATENTS, text, lambda: neox))
    assert seen.readable.tolist() == [i in sentences and i != 5 for i in range(LATENTS)]
    step = seen.over(text)(np.arange(ROWS.tokens.size)).reshape(*ROWS.tokens.shape, LATENTS)
    true = fires(ROWS)
    assert (step[true & seen.readable] == 4).all() and (step[..., ~seen.readable] == 0).all()
    for row, t, latent in np.argwhere(true & seen.readable)[:200]:
        behind = np.arange(t + 1, min(t + 9, ROWS.tokens.shape[1]))
        behind = behind[ROWS.mask[row, behind]]
        assert (step[row, behind, latent] >= 2).all()
    begun = np.array([[97 + i == 96 + token for i in range(LATENTS)] for token in ROWS.tokens.ravel().tolist()])
    assert (step.reshape(-1, LATENTS)[begun & ROWS.mask.reshape(-1, 1) & seen.readable] >= 1).all()
    some = np.array([3, 40, 41, 200])
    np.testing.assert_array_equal(seen.over(text)(some), step.reshape(-1, LATENTS)[some])


def test_embeddings_foresee_the_words_of_a_sentence_and_not_those_of_every_sentence(neox, byte_tokenizer):
    ids = {word: byte_tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in ("red", "Lily", "the")}
    tokens = np.array([[0, *ids["Lily"], *[ids["the"][0]] * 10, *ids["red"], *ids["the"]]], np.int32)
    rows = Rows(tokens, tokens > 0, np.zeros(1, np.int32), ("one",), "calibrate")
    text = Text(rows, neox.pieces.table)
    sentences = {0: "the colour red", 1: "the girl Lily", 3: "the"}
    seen = gate_named("embedding")(GateMeans(sentences, 4, text, lambda: neox))
    assert seen.readable.tolist() == [True, True, False, False]
    amount = seen.over(text)(np.arange(tokens.size))
    step = (amount[:, None] >= seen.cuts).sum(axis=1)
    lily, red = len(ids["Lily"]), tokens.size - len(ids["the"]) - 1
    assert step[red, 0] == seen.most > step[5, 0] and step[lily, 1] == seen.most > step[red, 1]
    assert (amount[:, 2:] == 0).all()


def test_steps_of_rules_are_what_stands_in_the_text(neox):
    """Each step looked up by hand at every token: said, the word alone, near, begun."""
    rows, _, table = read_pieces(
        [[b"to", b" her", b".", b" help", b" x", b" x"], [b"on", b" her", b" hay"] + [b" y"] * 9]
    )
    text = Text(rows, table)
    seen = gate_named("rules")(GateMeans({0: "Fires at 9 on “to her”; 0 on “x”."}, 1, text, lambda: neox))
    step = seen.over(text)(np.arange(rows.tokens.size)).reshape(rows.tokens.shape)
    assert [each for each, there in zip(step.ravel(), rows.mask.ravel(), strict=True) if there] == [
        *(0, 4, 2, 2, 2, 2), *(0, 3, 0, *[0] * 9),
    ]  # fmt: skip
    begun = gate_named("rules")(GateMeans({0: "Fires at 9 on “hat”."}, 1, text, lambda: neox))
    step = begun.over(text)(np.arange(rows.tokens.size)).reshape(rows.tokens.shape)
    assert np.argwhere(step > 0).tolist() == [np.argwhere(rows.mask)[6 + 2].tolist()] and step.max() == 1
