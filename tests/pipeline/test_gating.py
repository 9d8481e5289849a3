"""A run with a gate: what does not pass is level 0 and counted, and nothing else changes."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from plainspoken.config import Config, load_config
from plainspoken.errors import ConfigError, RunError
from plainspoken.pipeline import explanations, run
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.gating import tell_gate
from plainspoken.pipeline.progress import Progress
from plainspoken.pipeline.results import Results
from plainspoken.pipeline.shelves import SHARES, load_simulation, load_tensors
from plainspoken.pipeline.workplace import Workplace
from plainspoken.store import Manifest
from plainspoken.types import Simulation

SITE = "gpt_neox.layers.0.mlp"


def gated(config: Config, **simulate) -> Config:
    return dataclasses.replace(config, simulate=dataclasses.replace(config.simulate, **simulate))


def simulation(run: Path, part: str) -> Simulation:
    return load_simulation(run / "simulate" / SITE / f"{part}.safetensors")[0]


@pytest.mark.parametrize("kind", ["rules", "embedding"])
def test_what_passes_is_simulated_as_without_a_gate_and_the_rest_is_silent_and_counted(
    kind: str, tiny: Config, finished: Path, copy: Path
):
    run(gated(tiny, gate=kind, gate_recall=0.6), copy, target="evaluate", force=["simulate"])
    manifest = Manifest.load(copy / "simulate" / SITE / "manifest.json")
    counts, gate = manifest.counts, manifest.counts["gate"]
    assert gate["kind"] == kind and gate["target"] == 0.6 and gate["latents"] <= 12
    assert gate["documents_chosen_on"] > 1 and gate["documents_measured_on"] > 1
    assert 0 < gate["recall_low"] <= gate["recall"] <= gate["recall_high"] <= 1
    assert min(gate["recall"], gate["mass_recall"]) >= 0.6 and gate["tightened"] >= 0
    assert gate["recall"] == pytest.approx(1 - gate["firings_dropped"] / gate["firings"])
    for part in SHARES:
        whole, few = simulation(finished, part), simulation(copy, part)
        assert counts[f"{part}_pairs_dropped"] > 0
        before = Manifest.load(finished / "simulate" / SITE / "manifest.json").counts[f"{part}_pairs_asked"]
        assert counts[f"{part}_pairs_asked"] + counts[f"{part}_pairs_dropped"] == before
        everything = set(zip(whole.position, whole.latent, whole.level, strict=True))
        assert set(zip(few.position, few.latent, few.level, strict=True)) <= everything
    threshold = load_tensors(copy / "simulate" / SITE / "gate.safetensors")["threshold"]
    assert (threshold >= 0).sum() == gate["latents"] and (threshold == 0).sum() == gate["latents_open"]
    assert Results.read(copy).record("rewritten")["coverage"] == 1


def told(tiny: Config, dropped: int, asked: int, **changed) -> tuple[list[str], list[str]]:
    """What is said, and what is warned of, of a gate."""
    said, warned = list[str](), list[str]()
    workplace = Workplace(Path("nowhere"), tiny, STAGES, Progress(said.append, warned.append))
    counts = {"kind": "rules", "target": 0.9, "recall": 0.95, "recall_low": 0.9, "recall_high": 0.97,
              "mass_recall": 0.96, "tightened": 0}  # fmt: skip
    tell_gate(workplace, "here", counts | changed, dropped, asked)
    return said, warned


def test_what_a_gate_drops_is_said_and_that_it_had_to_be_tightened(tiny: Config):
    [line], warned = told(tiny, 30, 70)
    assert not warned and "drops 30.0%" in line and "keeps 95.00% [90.00%, 97.00%]" in line and "tightened" not in line
    [line], warned = told(tiny, 30, 70, tightened=2)
    assert not warned and "tightened 2 times by what those documents showed" in line and "flatters" in line
    assert "tightened once by" in told(tiny, 30, 70, tightened=1)[0][0]


def test_a_gate_that_drops_nothing_is_a_warning(tiny: Config):
    said, [line] = told(tiny, 0, 70, tightened=5, recall=1.0, mass_recall=1.0)
    assert not said and "drops nothing" in line and "90%" in line and "simulate.gate_recall" in line
    said, [line] = told(tiny, 0, 70, tightened=5, recall=None)
    assert not said and "nothing fires in the documents that would measure" in line and "everything passes" in line


def test_an_edited_sentence_passes_the_gate_anew_and_is_measured_beside_what_it_was(tiny: Config, copy: Path):
    config = gated(tiny, gate="rules", gate_recall=0.6)
    run(config, copy, target="evaluate", force=["simulate"])
    before = simulation(copy, "evaluate")
    path = copy / "explain" / SITE
    written = explanations.read_explanations(path)
    latent = next(iter(written))
    lines = (path / explanations.CURRENT).read_text().splitlines()
    changed = lines[0].replace(written[latent].text.replace('"', '\\"'), "Fires at 9 on “the”.")
    assert changed != lines[0]
    (path / explanations.CURRENT).write_text("\n".join([changed, *lines[1:]]))
    run(config, copy, target="evaluate")
    after = simulation(copy, "evaluate")
    counts = Manifest.load(copy / "simulate" / SITE / "manifest.json").counts
    assert counts["edited"] == [latent] and counts["evaluate_latents_simulated"] >= 1
    others = after.latent != latent
    if counts["evaluate_latents_simulated"] == 1:
        np.testing.assert_array_equal(after.level[others], before.level[before.latent != latent])
    assert Results.read(copy).edits
    fresh = copy.parent / "fresh"
    shutil.copytree(copy, fresh)
    run(config, fresh, target="simulate", force=["simulate"])
    for name in ("position", "latent", "level"):
        np.testing.assert_array_equal(getattr(simulation(fresh, "evaluate"), name), getattr(after, name))


def test_a_run_without_a_gate_is_of_the_settings_of_before_there_were_gates(tiny: Config, copy: Path):
    for stage in ("simulate/" + SITE, "frontier"):
        settings = Manifest.load(copy / stage / "manifest.json").config
        assert not any("gate" in name for name in settings)
    run(gated(tiny, gate_recall=0.5), copy)  # refused, were it read


def test_a_simulation_that_did_not_keep_what_passed_its_gate_is_refused(tiny: Config, copy: Path):
    config, path = gated(tiny, gate="rules", gate_recall=0.6), copy / "simulate" / SITE / "manifest.json"
    run(config, copy, target="simulate", force=["simulate"])
    manifest = Manifest.load(path)
    dataclasses.replace(manifest, stage_version=manifest.stage_version - 1).save(path)
    with pytest.raises(RunError, match=r"stage version: \d+ → \d+  \(simulate\)[^$]*--force simulate"):
        run(config, copy, target="simulate")


def test_there_is_no_other_gate_and_it_is_said_before_anything_begins(tiny: Config, tmp_path: Path):
    with pytest.raises(ConfigError, match="there are: none, rules, embedding"):
        run(gated(tiny, gate="guess"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recall_is_a_share():
    with pytest.raises(ConfigError, match="gate_recall"):
        load_config(overrides=["simulate.gate_recall=1.5"])
