import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plainspoken.config import SimulateConfig
from plainspoken.language.render import render
from plainspoken.language.rule import Rule
from plainspoken.language.text import Text
from plainspoken.simulators import SimulateMeans, simulator_named
from plainspoken.simulators.rules import simulate_rules
from plainspoken.types import Rows
from rules_made import level_at, read_pieces, rules

# Few units and a small alphabet, so that conditions meet the text often.
units = st.sampled_from(["", "a", "ab", "b", "(", ").", ".", "\n", "\n  ", " ", "1", "A", "\udce2"])
pieces = st.lists(
    st.sampled_from(["a", "b", " ", "ab", "(", ")", ".", "\n", "  ", '"', "#", "1", "A"]), min_size=1, max_size=25
)
texts = st.lists(pieces.map(lambda row: [p.encode() for p in row]), min_size=1, max_size=3)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(texts, st.lists(rules(units), min_size=1, max_size=4))
def test_the_simulator_says_what_the_sentences_mean_token_by_token(text: list[list[bytes]], said: list[Rule]):
    rows, reading, table = read_pieces(text)
    simulation, failures = simulate_rules({i: render(r) for i, r in enumerate(said)}, len(said), rows, table)
    assert not failures
    dense = np.zeros((rows.tokens.size, len(said)))
    dense[simulation.position, simulation.latent] = simulation.level
    for p in np.flatnonzero(reading.readable).tolist():
        for i, rule in enumerate(said):
            assert dense[p, i] == level_at(rule, reading, p), (p, render(rule))
    assert (dense[~reading.readable] == 0).all()
    order = simulation.position * simulation.latents + simulation.latent
    assert (np.diff(order) > 0).all()


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(texts, st.lists(rules(units), min_size=1, max_size=4))
def test_a_text_that_grows_is_heard_as_it_will_be_whole(text: list[list[bytes]], said: list[Rule]):
    rows, _, table = read_pieces(text)
    sentences = {i: render(r) for i, r in enumerate(said)}
    simulator = simulator_named("rules")
    listen = simulator.follow(sentences, len(said), table)
    for r in range(len(rows.tokens)):
        one = Rows(rows.tokens[r : r + 1], rows.mask[r : r + 1], rows.document[:1], rows.keys, rows.part)
        whole, failures = simulator.opens(SimulateMeans(SimulateConfig(), 0))(sentences, len(said), Text(one, table))
        assert not failures
        for t in range(1, one.tokens.shape[1] + 1):
            grown = listen(one.tokens[:, :t], one.mask[:, :t])
            so_far = whole.position < t
            for name in ("position", "latent", "level"):
                np.testing.assert_array_equal(getattr(grown, name), getattr(whole, name)[so_far])


def test_the_more_specific_condition_decides_and_among_equals_the_higher():
    rows, _, table = read_pieces([[b"to", b" her", b" saw", b" her"]])
    sentence = "Fires at 7 on “her”; 2 on “to her”; 1 on anything after “saw” or “to”."
    simulation, _ = simulate_rules({0: sentence}, 1, rows, table)
    assert dict(zip(simulation.position.tolist(), simulation.level.tolist(), strict=True)) == {2: 2.0, 4: 7.0}


def test_a_sentence_that_does_not_parse_is_a_failure_of_its_latent_alone():
    rows, _, table = read_pieces([[b"her"]])
    simulation, failures = simulate_rules({0: "Fires at 9 on “her”.", 3: "Fires at nine."}, 5, rows, table)
    assert [(f.latent, f.column) for f in failures] == [(3, 10)] and "column 10" in failures[0].reason
    assert failures[0].expected
    assert simulation.latent.tolist() == [0] and simulation.latents == 5


def test_no_sentences_say_nothing():
    rows, _, table = read_pieces([[b"her"]])
    simulation, failures = simulate_rules({}, 2, rows, table)
    assert len(simulation.level) == 0 and not failures


@pytest.mark.slow
def test_a_thousand_sentences_over_a_hundred_thousand_tokens_take_at_most_five_seconds():
    # In a process of its own: the checks of shapes, which only tests make, would be what is timed.
    script = Path(__file__).parents[2] / "benchmarks" / "rule_simulator.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, env=environment)
    facts = json.loads(done.stdout)
    assert facts["latents"] == 1024 and facts["tokens"] == 100_000 and facts["failures"] == 0 < facts["levels"]
    assert facts["cpu_seconds"] < 5
    # As bytes a dense table of levels would take 1024 x 100,000: what is kept is what is said.
    assert facts["peak_mb_above_start"] < 400
