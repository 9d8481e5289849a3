"""Which tokens the simulator is asked about: what is not asked stands for nothing, and what is asked is as before."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from plainspoken.config import Config, load_config
from plainspoken.errors import ConfigError
from plainspoken.pipeline import STAGES, asked_a_stand_in, generate, run
from plainspoken.pipeline.asked import is_stand_in
from plainspoken.pipeline.results import Results
from plainspoken.pipeline.shelves import SHARES, load_simulation, simulated_rows
from plainspoken.pipeline.workplace import Workplace
from plainspoken.simulators.registry import SIMULATORS, Simulator

SITE = "gpt_neox.layers.0.mlp"


def test_calibrate_positions_are_all_the_last_or_a_number():
    for text, value in (("all", "all"), ("last", "last"), ("3", 3)):
        config = load_config(overrides=[f"simulate.calibrate_positions={text}"])
        assert config.simulate.calibrate_positions == value


def test_only_the_bundled_model_in_this_process_is_a_stand_in():
    small = load_config(preset="paper-small")
    assert is_stand_in(small.explain.llm) and is_stand_in(small.simulate.llm)
    assert not is_stand_in(load_config(preset="paper").simulate.llm)
    assert not is_stand_in(dataclasses.replace(small.simulate.llm, service="openai", base_url="http://127.0.0.1:9/v1"))


@pytest.mark.slow
def test_a_run_that_asked_nobody_had_no_stand_in(finished: Path):
    assert not asked_a_stand_in(finished)


@pytest.mark.slow
def test_only_the_tokens_that_are_rewritten_and_those_drawn_are_asked_about(
    tiny: Config, finished: Path, tmp_path: Path
):
    config = dataclasses.replace(
        tiny,
        simulate=dataclasses.replace(tiny.simulate, calibrate_positions=3),
        evaluate=dataclasses.replace(tiny.evaluate, positions="last"),
    )
    run(config, tmp_path / "run", target="evaluate")
    for part in SHARES:
        whole, _, _ = load_simulation(finished / "simulate" / SITE / f"{part}.safetensors")
        few, _, _ = load_simulation(tmp_path / "run" / "simulate" / SITE / f"{part}.safetensors")
        assert few.asked is not None
        assert few.asked.sum(axis=1).max() == (1 if part == "evaluate" else 3)
        # What three tokens of a row stand for is all of its tokens.
        assert (few.chance is None) == (part == "evaluate")
        if few.chance is not None:
            mask = simulated_rows(Workplace(tmp_path / "run", config, STAGES), part).mask
            np.testing.assert_allclose((few.asked / few.chance[:, None]).sum(axis=1), mask.sum(axis=1))
        kept = few.asked.ravel()[whole.position]
        for name in ("position", "latent", "level"):
            np.testing.assert_array_equal(getattr(few, name), getattr(whole, name)[kept])
    assert Results.read(tmp_path / "run").record("rewritten")["coverage"] == 1


def test_as_many_tokens_as_the_longest_row_has_are_all_of_them(tiny: Config, finished: Path, tmp_path: Path):
    config = dataclasses.replace(tiny, simulate=dataclasses.replace(tiny.simulate, calibrate_positions=10**6))
    run(config, tmp_path / "run", target="evaluate")
    for name in (f"calibrate/{SITE}/calibration.safetensors", f"calibrate/{SITE}/scores.json", "evaluate/results.json"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()


def test_a_simulator_that_cannot_follow_a_text_says_so(copy: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SIMULATORS, "rules", Simulator(SIMULATORS["rules"].opens))
    with pytest.raises(ConfigError, match=r"cannot follow a text .*generate --original"):
        generate(copy, "The red", tokens=3)
