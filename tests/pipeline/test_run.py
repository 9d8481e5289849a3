"""Whole runs: skipping changes nothing, edits recompute what depends on them and nothing else, harm is named."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from plainspoken.config import Config, load_config
from plainspoken.errors import ExplanationError, RunError, StoreError
from plainspoken.explainers import EXPLAINERS, Explainer
from plainspoken.language.text import Text
from plainspoken.pipeline import STAGES, Progress, coder_results, generate, run, scores
from plainspoken.pipeline.explanations import CURRENT
from plainspoken.pipeline.results import Results
from plainspoken.pipeline.shelves import load_tensors
from plainspoken.simulators import SIMULATORS, Simulator
from plainspoken.types import Explanation, Failure, Rows, Simulation

SITE = "gpt_neox.layers.0.mlp"
Contents = Callable[[Path], dict[str, bytes]]
DONE = [stage for stage in STAGES if stage.name != "score"]
"""What a run does where no scorers are asked for."""


def explanations(root: Path) -> Path:
    return root / "explain" / SITE / "explanations.jsonl"


def sentences(root: Path) -> list[dict]:
    return [json.loads(line) for line in explanations(root).read_text("utf-8").split("\n") if line]


def edit(root: Path, **texts: str) -> None:
    """Change sentences: edit(root, _3="...") gives latent 3 another."""
    records = [{**r, "text": texts.get(f"_{r['latent']}", r["text"])} for r in sentences(root)]
    explanations(root).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), "utf-8")


def manifest(root: Path, stage: str) -> dict:
    [path] = (root / stage).rglob("manifest.json")
    return json.loads(path.read_text())


def spoken(root: Path) -> list[int]:
    """Latents whose sentence says anything, most active first."""
    return [int(row[0]) for row in scores(root, sort="rate").rows[SITE] if row[-1].startswith("Fires")]


def test_a_run_leaves_every_stage_done_and_a_report(finished: Path, tiny: Config) -> None:
    for stage in DONE:
        found = manifest(finished, stage.name)
        assert found["seconds"] >= 0
        assert found["peak_memory_mb"] > 0
        assert found["seed"] == tiny.seed
    assert "<html" in (finished / "report.html").read_text("utf-8")
    names = {record["condition"] for record in Results.read(finished).conditions}
    assert {"original", "coder", "zero-output", "zero-latents", "mean-latents", "rewritten", "shuffled"} <= names


def test_a_second_run_changes_no_byte(copy: Path, tiny: Config, contents: Contents) -> None:
    before, news = contents(copy), []
    run(tiny, copy, progress=Progress(say=news.append))
    assert contents(copy) == before
    assert all(line.endswith("skipped") for line in news)


@pytest.mark.slow
def test_the_same_settings_elsewhere_give_the_same_results(finished: Path, tiny: Config, tmp_path: Path) -> None:
    run(tiny, tmp_path / "again", target="evaluate")
    for name in ("evaluate/results.json", f"explain/{SITE}/explanations.jsonl", f"train/{SITE}/coder.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()


def test_an_edit_recomputes_what_depends_on_it_and_nothing_else(copy: Path, tiny: Config, contents: Contents) -> None:
    first = spoken(copy)[0]
    before = contents(copy)
    edit(copy, **{f"_{first}": "Fires at 9 on “the”."})
    run(tiny, copy, target="evaluate")
    after = contents(copy)
    untouched = ("corpus/", "train/", "encode/", f"explain/{SITE}/as_written", f"explain/{SITE}/manifest")
    assert {n for n in before if before[n] != after[n]}.isdisjoint(n for n in before if n.startswith(untouched))
    counts = manifest(copy, "simulate")["counts"]
    redone = {"calibrate_latents_simulated": 1, "evaluate_latents_simulated": 1, "edited": [first]}
    assert {name: counts[name] for name in redone} == redone
    assert counts["calibrate_pairs_unanswered"] == counts["evaluate_pairs_unanswered"] == 0
    effects = {effect["latent"]: effect["effect"] for effect in Results.read(copy).edits}
    assert set(effects) == {None, first}
    assert effects[None] == effects[first]


@pytest.mark.slow
def test_after_an_edit_results_are_those_of_doing_everything_anew(copy: Path, tiny: Config) -> None:
    first, second = spoken(copy)[:2]
    edit(copy, **{f"_{first}": "Fires at 9 on “the”.", f"_{second}": "Fires at 3 on “a”; 5 on “in”."})
    run(tiny, copy, target="evaluate")
    step_by_step = (copy / "evaluate" / "results.json").read_bytes()
    run(tiny, copy, target="evaluate", force=["simulate"])
    assert (copy / "evaluate" / "results.json").read_bytes() == step_by_step


@pytest.mark.slow
def test_an_edit_taken_back_gives_the_first_results_again(copy: Path, tiny: Config, finished: Path) -> None:
    original = explanations(copy).read_bytes()
    edit(copy, **{f"_{spoken(copy)[0]}": "Fires at 9 on “the”."})
    run(tiny, copy, target="evaluate")
    explanations(copy).write_bytes(original)
    run(tiny, copy, target="evaluate")
    for name in ("evaluate/results.json", f"calibrate/{SITE}/calibration.safetensors"):
        assert (copy / name).read_bytes() == (finished / name).read_bytes()


def test_latents_that_were_not_edited_keep_their_calibration(copy: Path, tiny: Config, finished: Path) -> None:
    first = spoken(copy)[0]
    edit(copy, **{f"_{first}": "Fires at 9 on “the”."})
    run(tiny, copy, target="calibrate")
    name = Path("calibrate") / SITE / "scores.safetensors"
    old, new = load_tensors(finished / name), load_tensors(copy / name)
    others = np.arange(len(old["auprc"])) != first
    for measure in ("correlation", "auprc", "sensitivity", "specificity"):
        assert np.array_equal(old[measure][others], new[measure][others])
    assert old["auprc"][first] != new["auprc"][first]


@pytest.mark.slow
def test_a_sentence_that_does_not_parse_is_a_failure_with_its_column_and_silent(copy: Path, tiny: Config) -> None:
    first = spoken(copy)[0]
    edit(copy, **{f"_{first}": "Fires at eleven on “the”."})
    warned: list[str] = []
    run(tiny, copy, progress=Progress(warn=warned.append))
    [failure] = manifest(copy, "simulate")["failures"]
    assert failure["latent"] == first
    assert failure["column"] == len("Fires at ") + 1
    assert failure["expected"]
    path = copy / "explain" / SITE / CURRENT
    [number] = [n for n, line in enumerate(path.read_text("utf-8").split("\n"), 1) if "eleven" in line]
    assert [line for line in warned if "eleven" in line or "column" in line] == [
        f"{path}, line {number} (latent {first}): {failure['reason']}"
    ]
    record = Results.read(copy).record("rewritten")
    assert record["failures"] == Results.read(copy).record("coder")["failures"] >= 1
    report = (copy / "report.html").read_text("utf-8")
    assert f"{failure['column']}" in report
    assert "could not be read; it counts as a failure and is put at 0" in report
    entries = load_tensors(copy / "simulate" / SITE / "evaluate.safetensors")
    assert first not in entries["latent"]


@pytest.mark.parametrize(
    ("change", "told"), [("missing", "missing: "), ("double", "double: "), ("unknown", "unknown: 99")]
)
def test_an_edited_file_with_the_wrong_latents_is_refused_by_name(
    copy: Path, tiny: Config, change: str, told: str
) -> None:
    records = sentences(copy)
    if change == "missing":
        records = records[1:]
    elif change == "double":
        records.append(records[0])
    else:
        records.append({"latent": 99, "text": "Fires at 9 on “the”."})
    explanations(copy).write_text("".join(json.dumps(r) + "\n" for r in records))
    with pytest.raises(ExplanationError, match=told):
        run(tiny, copy)


@pytest.mark.slow
def test_edits_are_kept_aside_when_the_explainer_is_forced(copy: Path, tiny: Config, finished: Path) -> None:
    edit(copy, **{f"_{spoken(copy)[0]}": "Fires at 9 on “the”."})
    edited = explanations(copy).read_bytes()
    run(tiny, copy, target="explain", force=["explain"])
    assert explanations(copy).read_bytes() == explanations(finished).read_bytes()
    assert [p.read_bytes() for p in (copy / "edits").iterdir()] == [edited]


@pytest.mark.slow
def test_altered_and_truncated_outputs_are_refused_by_name(copy: Path, tiny: Config) -> None:
    table = copy / "encode" / SITE / "explain" / "value.npy"
    os.truncate(table, table.stat().st_size - 4)
    with pytest.raises(StoreError, match=r"value\.npy is truncated.*--force encode"):
        run(tiny, copy)
    run(tiny, copy, target="explain", force=["encode"])
    written = copy / "explain" / SITE / "as_written.jsonl"
    written.write_text(written.read_text().replace("Fires", "fires"))
    with pytest.raises(StoreError, match=r"as_written\.jsonl is altered"):
        run(tiny, copy)


def test_another_setting_is_refused_and_says_what_differs(copy: Path, tiny: Config, contents: Contents) -> None:
    before = contents(copy)
    changed = load_config(file=copy / "config.json", overrides=["coder.k=2", "evaluate.margin=0.5"])
    with pytest.raises(RunError, match=r"(?s)coder\.k: 3 → 2.*evaluate\.margin: 0\.02 → 0\.5.*--out.*--force train$"):
        run(changed, copy)
    assert contents(copy) == before


@pytest.mark.slow
@pytest.mark.checked
def test_the_frontier_is_added_to_a_finished_run_and_kept(copy: Path, tiny: Config) -> None:
    results = (copy / "evaluate" / "results.json").read_bytes()
    more = load_config(file=copy / "config.json", overrides=["report.frontier=12,20"])
    run(more, copy, target="frontier")
    assert (copy / "evaluate" / "results.json").read_bytes() == results
    points = json.loads((copy / "frontier" / "frontier.json").read_text())["points"]
    assert [point["budget"] for point in points] == [12, 20]
    assert points[0]["words_mean"] <= points[1]["words_mean"]
    run(load_config(file=copy / "config.json", overrides=["report.frontier=12,20,30"]), copy, target="frontier")
    assert manifest(copy, "frontier")["counts"]["measured"] == 1


def test_generation_is_seeded_and_speaks_from_the_sentences_as_they_stand(copy: Path) -> None:
    said = [generate(copy, "The red", tokens=12, seed=s) for s in (1, 1, 2)]
    assert said[0] == said[1] != said[2]
    assert said[0].startswith("The red")
    assert generate(copy, "The red", rewritten=False, tokens=12, seed=1).startswith("The red")
    edit(copy, **{f"_{latent}": "Fires at 9 on anything." for latent in spoken(copy)[:12]})
    assert generate(copy, "The red", tokens=12, seed=1) != said[0]


@pytest.mark.slow
def test_one_explanation_alone_has_no_shuffled_control_and_the_run_says_so(copy: Path, tiny: Config) -> None:
    kept = spoken(copy)[0]
    edit(copy, **{f"_{r['latent']}": "Not a sentence." for r in sentences(copy) if r["latent"] != kept})
    warned: list[str] = []
    run(tiny, copy, progress=Progress(warn=warned.append))
    names = {record["condition"] for record in Results.read(copy).conditions}
    assert "rewritten" in names and not any(name.startswith("shuffled") for name in names)
    told = f"{SITE}: no control with shuffled explanations: 1 of its 12 latents has an explanation"
    assert any(line.startswith(told) for line in warned)
    assert told in (copy / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_a_line_in_a_registry_is_all_that_an_explainer_and_a_simulator_take(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[str] = []
    heard: list[int] = []

    def simulate(sentences, latents, text, asked=None, only=None, progress=None):
        everywhere = np.flatnonzero(text.rows.mask)
        which = np.array(sorted(latent for latent in sentences if latent != 3), np.int64)
        position, latent = np.repeat(everywhere, len(which)), np.tile(which, len(everywhere))
        level = np.full(len(position), 5, np.float32)
        found = Simulation(position, latent, level, latents, *text.rows.tokens.shape, text.rows.fingerprint)
        return found, [Failure(3, "simulate", "not heard")] if 3 in sentences else []

    def follow(sentences, latents, pieces):
        def listen(tokens, mask):
            heard.append(tokens.shape[1])
            rows = Rows(tokens.astype(np.int32), mask, np.zeros(1, np.int32), ("text",), "evaluate")
            return simulate(sentences, latents, Text(rows, pieces))[0]

        return listen

    def explain(table, prepared, weight, words, words_max, progress=None):
        return [Explanation(i, "something, somewhere", 2, "vague") for i in range(table.latents)]

    vague = Explainer(lambda text: prepared.append(text.rows.part), lambda means: explain)
    monkeypatch.setitem(EXPLAINERS, "vague", vague)
    monkeypatch.setitem(SIMULATORS, "deaf", Simulator(lambda means: simulate, follow))
    config = load_config(**_values(tiny), explain__explainer="vague", simulate__simulator="deaf")
    run(dataclasses.replace(config, site="gpt_neox.layers.*.mlp"), tmp_path / "run", target="evaluate")
    assert prepared == ["explain"]  # once for two sites
    assert Results.read(tmp_path / "run").record("rewritten")["failures"] == 2
    said = generate(tmp_path / "run", "The red", tokens=3)
    assert said.startswith("The red") and len(set(heard)) == 3


@pytest.mark.slow
def test_an_sae_at_an_ffn_reads_and_writes_its_output_in_the_whole_chain(tiny: Config, tmp_path: Path) -> None:
    run(load_config(**_values(tiny, "coder.kind"), site=SITE, coder__kind="sae"), tmp_path / "run")
    header = json.loads((tmp_path / "run" / "train" / SITE / "coder.json").read_text())
    assert header["site"] == {"module": SITE, "kind": "resid", "d_in": 16, "d_out": 16}
    assert (
        Results.read(tmp_path / "run").record("coder")["ce"] != Results.read(tmp_path / "run").record("original")["ce"]
    )
    assert generate(tmp_path / "run", "The red", tokens=4).startswith("The red")
    assert "The coder" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_a_trained_coder_is_measured_on_the_calibrate_part_alone(finished: Path, copy: Path, tiny: Config) -> None:
    [coder] = coder_results(finished)
    record = coder.record
    assert (coder.site, record["part"]) == (SITE, "calibrate")
    assert record["dead_window"] == record["tokens"] <= tiny.measure.tokens
    assert 0 < record["l0"] <= tiny.coder.k
    assert coder.picture.read_text("utf-8").startswith("<svg xmlns")
    few = load_config(file=copy / "config.json", overrides=["measure.tokens=50"])
    run(few, copy, target="measure")  # asks nobody: nothing but the report reads it
    [again] = coder_results(copy)
    assert again.record["tokens"] <= max(50, tiny.corpus.context) < record["tokens"]


@pytest.mark.slow
def test_several_sites_are_rewritten_alone_and_together(tiny: Config, tmp_path: Path) -> None:
    config = load_config(**_values(tiny), site="gpt_neox.layers.*.mlp", evaluate__fractions=[1.0])
    run(config, tmp_path / "run", target="evaluate")
    sites = {record["site"] for record in Results.read(tmp_path / "run").conditions}
    assert sites == {"gpt_neox.layers.0.mlp", "gpt_neox.layers.1.mlp", "all"}
    assert Results.read(tmp_path / "run").record("rewritten")["site"] == "all"
    assert generate(tmp_path / "run", "The red", tokens=4)


def _values(config: Config, *others: str) -> dict[str, object]:
    from plainspoken.config import flat_settings

    left_out = ("site", "evaluate.fractions", "explain.explainer", "simulate.simulator", *others)
    return {n.replace(".", "__"): v for n, v in flat_settings(config).items() if n not in left_out}


def test_a_coder_that_was_not_steered_to_its_k_is_told_of(tiny: Config, tmp_path: Path) -> None:
    """Two steps are too few for a penalty to find its weight; what keeps the k largest needs none."""
    told: dict[str, list[str]] = {"relu": [], "topk": []}
    for activation, warned in told.items():
        asked = {"coder__activation": activation, "train__tokens": 64, "train__batch": 32}
        config = load_config(**_values(tiny, *(name.replace("__", ".") for name in asked)), site=SITE, **asked)
        run(config, tmp_path / activation, target="measure", progress=Progress(warn=warned.append))
    assert [line for line in told["relu"] if f"where coder.k asks for {tiny.coder.k}" in line]
    assert not [line for line in told["topk"] if "coder.k" in line]


def test_results_that_were_copied_alone_are_read(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "evaluate", tmp_path / "evaluate")
    alone = Results.read(tmp_path)
    assert (alone.conditions, alone.in_prompt) == (Results.read(finished).conditions, 1)
