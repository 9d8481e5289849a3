"""A behaviour of a run: found on one half of its prompts, measured on the other, by hand the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from plainspoken import pipeline
from plainspoken.circuits.prompt_pairs import answer
from plainspoken.cli.app import app
from plainspoken.errors import StoreError, UsageError
from plainspoken.lm.hooks import splice
from plainspoken.pipeline.behaving import FEW
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.circuit import RunCircuits
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace
from plainspoken.report.behaviour_page import render_behaviour
from plainspoken.store import sha256_file

COUNT, TOP = 10, 3


@pytest.fixture(scope="module")
def both(two_coders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run with two coders, to which behaviours are written; it is not explained."""
    return Path(shutil.copytree(two_coders, tmp_path_factory.mktemp("behaviour") / "run"))


@pytest.fixture(scope="module")
def circuits(both: Path) -> RunCircuits:
    return RunCircuits(Workplace(both, stored_config(both), STAGES))


def lines(contrast: str | None = "{} <{}&", count: int = COUNT) -> list[dict[str, str]]:
    """The last character is a bracket, which nothing joins."""
    made = [{"prompt": f"{i}{i % 3} say [{i}] <{i}&", "wanted": "A", "other": "B"} for i in range(count)]
    return made if contrast is None else [each | {"contrast": contrast.format(i, i)} for i, each in enumerate(made)]


def written(path: Path, made: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in made))
    return path


@pytest.fixture(scope="module")
def found(both: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    file = written(tmp_path_factory.mktemp("file") / "letters.jsonl", lines())
    made = pipeline.behaviour(both, file, top=TOP, draws=2, curves=1)
    [folder] = {path.parent for path in made.files.values()}
    assert folder.parent == both / "behaviour" and folder.name.startswith("letters-")
    assert json.loads(made.files["behaviour.json"].read_text()) == made.record
    assert made.files["kept.svg"].read_text().startswith("<svg")
    assert made.files["behaviour.html"].read_text() == render_behaviour(made.record)
    return made.record


def test_every_prompt_is_in_one_half(found: dict) -> None:
    halves = found["split"]
    assert sorted(halves["finding"] + halves["telling"]) == list(range(1, COUNT + 1))
    assert len(halves["finding"]) == found["finding"]["prompts"] == 5 == found["ablation"]["prompts"]


def test_the_ablation_is_what_hooks_by_hand_say_of_the_other_half(found: dict, circuits: RunCircuits) -> None:
    lm, told = circuits.lm, [lines()[number - 1] for number in found["split"]["telling"]]
    units = [tuple(map(int, each["latent"].split("/"))) for each in found["latents"]]

    def without(layer: int, coder: torch.nn.Module):
        def replaced(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            z = coder.dense(coder.encode(x.reshape(-1, x.shape[-1]))).reshape(*x.shape[:-1], -1)
            some = [number for at, number in units if at == layer]
            change = (z[..., some] @ coder.W_dec[some]) if some else torch.zeros_like(y)
            if lm.bos_id is not None:
                change[:, 0] = 0
            return y - change

        return replaced

    def mean_difference(texts: list[str]) -> float:
        values = []
        for text in texts:
            logits = lm.model(torch.tensor([circuits.prompt(text).tokens])).logits[0, -1]
            values.append(float(logits[answer(lm, text, "A")] - logits[answer(lm, text, "B")]))
        return float(np.mean(values))

    of_layer = {layer: circuits.coders[site] for layer, site in circuits.site_of_layer.items()}
    replaced = {circuits.site_of_layer[layer]: without(layer, coder) for layer, coder in of_layer.items()}
    with torch.no_grad():
        for side, field in (("ablation", "prompt"), ("contrast", "contrast")):
            texts = [each[field] for each in told]
            before = mean_difference(texts)
            with splice(lm, replaced):
                after = mean_difference(texts)
            assert found[side]["original"] == pytest.approx(before, abs=1e-5)
            assert found[side]["change"] == pytest.approx(after - before, abs=1e-5)
    apart = found["ablation"]["change"] - found["contrast"]["change"]
    assert found["apart"]["change"] == pytest.approx(apart, abs=1e-6)


def test_what_is_found_does_not_see_what_it_is_tested_on(both: Path, found: dict, tmp_path: Path) -> None:
    changed = lines()
    for number in found["split"]["telling"]:
        changed[number - 1] |= {"prompt": f"Lily {number} <", "contrast": "once <"}
    again = pipeline.behaviour(both, written(tmp_path / "p.jsonl", changed), top=TOP, draws=2, curves=1).record
    assert again["split"] == found["split"]
    assert again["latents"] == found["latents"] and again["finding"] == found["finding"]
    assert again["ablation"] != found["ablation"] and again["kept"] != found["kept"]


def test_a_contrast_that_is_the_prompt_takes_nothing_apart(both: Path, tmp_path: Path) -> None:
    same = [each | {"contrast": each["prompt"]} for each in lines(None)]
    record = pipeline.behaviour(both, written(tmp_path / "p.jsonl", same), top=TOP, draws=2, curves=1).record
    assert record["contrast"] == record["ablation"] and set(record["apart"].values()) == {0.0}


def test_the_same_prompts_give_the_same_bytes_and_another_seed_other_halves(both: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "p.jsonl", lines(None))
    first = pipeline.behaviour(both, file, top=TOP, draws=1, curves=1)
    kept = {path: path.read_bytes() for path in first.files.values()}
    again = pipeline.behaviour(both, file, top=TOP, draws=1, curves=1)
    assert {path: path.read_bytes() for path in again.files.values()} == kept
    assert first.record["contrast"] is None and first.record["apart"] is None
    other = pipeline.behaviour(both, file, top=TOP, draws=1, curves=1, seed=1, out=tmp_path / "out")
    assert other.record["split"] != first.record["split"]
    assert set(other.files) == {path.name for path in (tmp_path / "out").iterdir()}


def test_few_prompts_are_warned_of_and_many_are_not(both: Path, tmp_path: Path) -> None:
    warnings: list[str] = []
    for count in (10, FEW):
        file = written(tmp_path / "p.jsonl", lines(None, count))
        progress = pipeline.Progress(warn=warnings.append)
        made = pipeline.behaviour(both, file, top=1, draws=1, curves=1, progress=progress)
        record = json.loads(made.files["behaviour.json"].read_text())
        page = made.files["behaviour.html"].read_text()
        assert record["warning"] == (warnings[0] if count == 10 else None) and ("too narrow" in page) == (count == 10)
    assert len(warnings) == 1 and "10 prompts, so that all figures are of 5" in warnings[0]


def test_other_settings_and_other_prompts_stand_beside_what_was_found_before(both: Path, tmp_path: Path) -> None:
    first = pipeline.behaviour(both, written(tmp_path / "p.jsonl", lines(None)), top=1, draws=1, curves=1)
    kept = first.files["behaviour.json"].read_bytes()
    other = pipeline.behaviour(both, tmp_path / "p.jsonl", top=2, draws=1, curves=1)
    more = pipeline.behaviour(both, written(tmp_path / "p.jsonl", lines(None, 12)), top=1, draws=1, curves=1)
    assert len({each.files["behaviour.json"].parent for each in (first, other, more)}) == 3
    assert first.files["behaviour.json"].read_bytes() == kept
    assert first.record["about"]["prompts_sha256"] == other.record["about"]["prompts_sha256"]
    assert more.record["about"]["prompts_sha256"] == sha256_file(tmp_path / "p.jsonl")


@pytest.mark.slow
def test_hostile_names_stay_in_their_folder_and_prompts_are_not_written_over(both: Path, tmp_path: Path) -> None:
    for name in ("...jsonl", "a b\x01.jsonl", "\udcff.jsonl"):
        made = pipeline.behaviour(both, written(tmp_path / name, lines(None)), top=1, draws=1, curves=1)
        [folder] = {path.parent for path in made.files.values()}
        assert folder.parent == both / "behaviour" and folder.name.replace("-", "").isalnum()
    own = written(tmp_path / "behaviour.json", lines(None))
    before = own.read_bytes()
    with pytest.raises(UsageError, match="written over"):
        pipeline.behaviour(both, own, top=1, draws=1, curves=1, out=tmp_path)
    assert own.read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        pipeline.behaviour(both, own, top=1, draws=1, curves=1, out=tmp_path / "file")


def test_texts_are_no_markup_on_the_page(found: dict) -> None:
    hostile = found | {"examples": [{"prompt": "<b>", "wanted": "</script>", "other": "&"}], "wanted": ["<i>"]}
    page = render_behaviour(hostile)
    assert not any(each in page for each in ("<b>", "<i>", "<script")) and "&lt;b&gt;" in page


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "100"})


def test_the_verb_prints_the_figures_of_its_file(both: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "letters.jsonl", lines())
    done = call("behaviour", both, file, "--top", TOP, "--draws", 2, "--curves", 1, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    [path] = (tmp_path / "out").glob("*.json")
    record = json.loads(path.read_text())
    for side in ("ablation", "contrast", "apart"):
        for name in ("original", "change", "change_random", "over_random"):
            assert f"{record[side][name]:+.2f}".replace("-", "−") in done.output
    assert all(f"L{each['latent']}" in done.output for each in record["latents"])
    assert "behaviour.html" in done.output and "(no sentence)" in done.output


def test_what_cannot_be_asked_ends_with_its_line_and_writes_nothing(both: Path, tmp_path: Path) -> None:
    assert "which prompts?" in call("behaviour", both).output
    for line, why in (
        ({"prompt": "x" * 500, "wanted": "A", "other": "B"}, "line 2: the prompt has"),
        ({"prompt": "one <", "wanted": "Lily played", "other": "B"}, "line 2: 'Lily played' is no single token"),
    ):
        made = lines(None)
        made[1] = line
        done = call("behaviour", both, written(tmp_path / "bad.jsonl", made))
        assert done.exit_code == 2 and why in " ".join(done.output.split()), done.output
    assert not list(both.glob("behaviour/bad*"))
    with pytest.raises(UsageError, match="top is 0: give at least 1"):
        pipeline.behaviour(both, written(tmp_path / "p.jsonl", lines(None)), top=0)
