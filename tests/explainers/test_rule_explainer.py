import os
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.errors import ExplanationError, LeakError
from plainspoken.explainers import rules
from plainspoken.explainers.latent import Evidence, explain_latents
from plainspoken.explainers.lattice import build_lattice
from plainspoken.explainers.rules import explain_rules
from plainspoken.explainers.scene import Bench
from plainspoken.explainers.selection import select
from plainspoken.explainers.wording import grouped, with_start
from plainspoken.language.parse import parse
from plainspoken.language.quote import count_words
from plainspoken.language.render import SILENT, render
from plainspoken.language.rule import After, Anything, Clause, Group, Phrase, Rule, Start
from plainspoken.latents.table import FiringTable
from plainspoken.simulators.conditions import bind
from plainspoken.simulators.matching import matches
from plainspoken.simulators.rules import decide, simulate_reading
from plainspoken.types import Explanation, Failure, Rows
from rules_made import read_pieces

WORDS = ["the", "cat", "dog", "saw", "her", "him", "to", "with", "red", "said", ".", "\n"]
PLANTED = {
    0: "Fires at 9 on “cat” or “dog”.",
    1: "Fires at 9 on “saw her”; 4 on “her”.",
    2: "Fires at 9 on anything after “the” or “red”.",
    3: "Fires at 9 on “him”; 0 on “to him”.",
    4: "Fires at 9 on “cat” after “the” or “red”; 3 on a line break.",
}


@pytest.fixture(scope="module")
def scene():
    """A text of random words, and latents that fire exactly as planted sentences say."""
    generator = np.random.default_rng(0)
    text = [[b" " + WORDS[i].encode() for i in generator.integers(0, len(WORDS), 120)] for _ in range(60)]
    rows, reading, table = read_pieces(text)
    rows = Rows(rows.tokens, rows.mask, rows.document, rows.keys, "explain")
    simulation, failures = simulate_reading(PLANTED, len(PLANTED) + 1, rows, reading)
    assert not failures
    order = np.lexsort((simulation.position, simulation.latent))
    pointer = np.searchsorted(simulation.latent[order], np.arange(len(PLANTED) + 2))
    value = (simulation.level[order] / 9 * 5).astype(np.float32)
    return FiringTable(pointer, simulation.position[order], value, rows), reading, table


def explained(scene, words: int, words_max: int = 100, weight: float = 1.0) -> list[Explanation | Failure]:
    firings, reading, _ = scene
    return explain_rules(
        firings, build_lattice(reading, firings.rows.document), np.full(firings.latents, weight), words, words_max
    )


def test_planted_sentences_are_found_again(scene):
    firings, reading, _ = scene
    found = explained(scene, 60)
    for latent, planted in PLANTED.items():
        text = found[latent].text
        both, _ = simulate_reading({0: text, 1: planted}, 2, firings.rows, reading)
        a, b = ((both.position[both.latent == i], both.level[both.latent == i]) for i in (0, 1))
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]), text


def test_a_latent_that_never_fires_is_a_failure_that_says_so(scene):
    silent = explained(scene, 60)[len(PLANTED)]
    assert isinstance(silent, Failure) and silent.latent == len(PLANTED) and "never fires" in silent.reason


@pytest.mark.parametrize("part", ["fit", "calibrate", "evaluate"])
def test_firings_over_another_part_are_refused(scene, part: str):
    firings, reading, table = scene
    rows = Rows(firings.rows.tokens, firings.rows.mask, firings.rows.document, firings.rows.keys, part)
    with pytest.raises(LeakError, match=part):
        explained((FiringTable(firings.pointer, firings.position, firings.value, rows), reading, table), 20)


@pytest.mark.slow
@pytest.mark.parametrize("words", [8, 15, 40])
def test_budgets_hold_and_words_are_counted_as_they_stand(scene, words: int):
    found = [e for e in explained(scene, words, words_max=20) if isinstance(e, Explanation)]
    assert np.mean([e.words for e in found]) <= words and max(e.words for e in found) <= 20
    assert all(e.words == count_words(e.text) for e in found)


def test_the_scale_of_the_weights_changes_no_word(scene):
    assert explained(scene, 20) == explained(scene, 20, weight=1e-6)


def test_the_same_evidence_gives_the_same_words(scene):
    assert explained(scene, 20) == explained(scene, 20)


def test_a_lower_price_never_predicts_worse(scene):
    """By what the sentence itself is simulated to, levels merged and all."""
    firings, reading, _ = scene
    lattice, weight = build_lattice(reading, firings.rows.document), np.ones(firings.latents)
    evidence = Evidence(firings.pointer, firings.position, firings.value, weight, lattice, 100)
    position, value = firings.latent(1)
    true = np.zeros(firings.rows.tokens.size)
    true[position] = value / value.max() * 9
    errors = []
    for price in (1e9, 300.0, 30.0, 3.0, 0.3):
        (said,) = explain_latents(evidence, [1], price, "rules")
        simulation, _ = simulate_reading({0: said.text}, 1, firings.rows, reading)
        level = np.zeros_like(true)
        level[simulation.position] = simulation.level
        errors.append(float(np.square(true - level).sum()))
    assert errors == sorted(errors, reverse=True) and errors[0] > 1 and errors[-1] < 1e-6


def test_every_condition_of_the_lattice_means_what_it_is_spelled_as(scene):
    firings, reading, _ = scene
    for template in build_lattice(reading, firings.rows.document).templates:
        for condition in range(0, template.count.shape[1], max(1, template.count.shape[1] // 7)):
            head, contexts = template.spelled(condition)
            text = _sentence(head, contexts)
            conditions = bind({0: parse(text)}, reading)
            position, which = matches(conditions, reading)
            assert set(position.tolist()) == set(template.positions(np.array([condition])).tolist()), text
            assert (conditions.column("specificity")[which] == template.specificity).all(), text
            assert len(decide(conditions, position, which, 1)[0]) == template.count[:, condition].sum()


def _sentence(head, contexts) -> str:
    return render(Rule((Clause(9, (Group((head,), contexts),)),)))


def test_phrases_that_share_a_word_are_said_together_when_that_is_shorter():
    pairs = [(Phrase((b, "her")), ()) for b in ("to", "with", "for", "of", "at")]
    assert grouped(pairs) == (Group((Phrase(("her",)),), (After((("to",), ("with",), ("for",), ("of",), ("at",))),)),)
    assert grouped(pairs[:2]) == (Group(tuple(h for h, _ in pairs[:2])),)


def test_a_lone_break_is_said_as_the_start_that_it_is():
    said = {
        (Phrase(("\n", "her")), ()): (Phrase(("her",)), (Start("a line"),)),
        (Phrase(("", "to", "her")), ()): (Phrase(("to", "her")), (Start("the text"),)),
        (Anything(), (After((("\n",),)),)): (Anything(), (Start("a line"),)),
        (Anything(), (After((("\n", "to"),)),)): (Anything(), (After((("to",),)), Start("a line"))),
        (Phrase(("\n",)), ()): (Phrase(("\n",)), ()),
        (Phrase(("to", "\n", "her")), ()): (Phrase(("to", "\n", "her")), ()),
    }
    for (head, contexts), expected in said.items():
        assert with_start(head, contexts) == expected


@given(st.lists(st.sampled_from([*WORDS[:4], "\n"]), min_size=1, max_size=30), st.data())
def test_the_start_said_as_such_means_the_same(words: list[str], data):
    rows, reading, _ = read_pieces([[b" " + w.encode() for w in words]])
    units = data.draw(st.lists(st.sampled_from(["", "\n", "the", "cat"]), min_size=1, max_size=2))
    head, contexts = data.draw(
        st.sampled_from([(Phrase((*units, "the")), ()), (Anything(), (After((tuple(units),)),))])
    )
    plain, named = (
        render(Rule((Clause(9, (Group((h,), c),)),))) for h, c in ((head, contexts), with_start(head, contexts))
    )
    both, failures = simulate_reading({0: plain, 1: named}, 2, rows, reading)
    assert not failures
    assert both.position[both.latent == 0].tolist() == both.position[both.latent == 1].tolist()


@pytest.mark.slow
def test_the_words_do_not_depend_on_how_many_processes_found_them(scene):
    firings, reading, _ = scene
    lattice, weight = build_lattice(reading, firings.rows.document), np.ones(firings.latents)
    alone, shared = (explain_rules(firings, lattice, weight, 20, 100, cores=cores) for cores in (1, 2))
    assert alone == shared


def found_in(text: list[list[str]], fires: str, documents: list[int] | None = None, words: int = 60) -> str:
    """The sentence for a latent that fires as `fires` says, each row a document of its own unless told otherwise."""
    rows, reading, _ = read_pieces([[b" " + word.encode() for word in row] for row in text])
    document = np.arange(len(text)) if documents is None else np.array(documents)
    rows = Rows(rows.tokens, rows.mask, document, tuple(map(str, range(document.max() + 1))), "explain")
    said, _ = simulate_reading({0: fires}, 1, rows, reading)
    table = FiringTable(np.array([0, len(said.position)]), said.position, said.level, rows)
    (explanation,) = explain_rules(table, build_lattice(reading, rows.document), np.ones(1), words, 100)
    assert isinstance(explanation, Explanation)
    return explanation.text


@pytest.mark.parametrize(("documents", "named"), [((0,), False), ((0, 1, 2, 3), True)])
def test_what_one_document_alone_shows_is_not_said(documents: tuple[int, ...], named: bool):
    text = [["the", "cat", "saw", "the"] + ["dog", "."] * 6 * (i in documents) for i in range(40)]
    assert ("dog" in found_in(text, "Fires at 9 on “cat” or “dog”.")) == named
    # And neither is an exception that stands in one document alone.
    before = [f"{a}{b}" for a in "bcdfgklm" for b in "aeiou"]
    text = [[*(x for w in before for x in (w, "him")), *["red", "him"] * 6 * (i in documents)] for i in range(40)]
    assert ("red" in found_in(text, "Fires at 9 on “him”; 0 on “red him”.")) == named


@pytest.mark.parametrize("documents", [[0] * 60, [0] * 57 + [1] * 3])
def test_a_text_that_is_one_document_is_explained_like_many(scene, documents: list[int]):
    generator = np.random.default_rng(3)
    text = [[WORDS[i] for i in generator.integers(0, len(WORDS), 40)] for _ in documents]
    assert found_in(text, PLANTED[0], documents) == PLANTED[0]


def test_an_exception_is_found_under_which_the_latent_never_fires():
    generator = np.random.default_rng(1)
    words = ["th", "a", "b", "c", "d", "e", "and"]
    text = [[b" " + words[i].encode() for i in generator.integers(0, len(words), 100)] for _ in range(60)]
    rows, reading, _ = read_pieces(text)
    rows = Rows(rows.tokens, rows.mask, rows.document, rows.keys, "explain")
    planted = "Fires at 9 on “th”; 0 on “and th”."
    simulation, _ = simulate_reading({0: planted}, 1, rows, reading)
    table = FiringTable(np.array([0, len(simulation.position)]), simulation.position, simulation.level, rows)
    (said,) = explain_rules(table, build_lattice(reading, rows.document), np.ones(1), 11, 12)
    assert said.text == planted


def test_a_killed_process_is_told_with_its_mend(scene, monkeypatch):
    firings, reading, _ = scene
    monkeypatch.setattr(rules, "explain_latents", _dies)
    with pytest.raises(ExplanationError, match="explain_tokens"):
        lattice = build_lattice(reading, firings.rows.document)
        explain_rules(firings, lattice, np.ones(firings.latents), 20, 100, cores=2)


def _dies(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_scene_leaves_no_number_behind(scene):
    firings, reading, _ = scene
    bench = Bench(build_lattice(reading, firings.rows.document))
    for latent in range(len(PLANTED)):
        select(*firings.latent(latent), 1.0, 0.01, bench)
        assert (bench.numbers == -1).all()
    with pytest.raises(RuntimeError), bench.numbering(bench.often(firings.position, [0, 1])):
        assert (bench.numbers != -1).any()
        raise RuntimeError
    assert (bench.numbers == -1).all()


@pytest.mark.parametrize("words", [1, 5, 6, 7])
def test_budgets_too_small_for_most_sentences_end_soon(scene, monkeypatch, words: int):
    asked = []
    monkeypatch.setattr(rules, "explain_latents", lambda *a: asked.append(a[2]) or explain_latents(*a))
    found = [e for e in explained(scene, words) if isinstance(e, Explanation)]
    assert len(set(asked)) <= 24
    assert np.mean([e.words for e in found]) <= max(words, count_words(SILENT))
