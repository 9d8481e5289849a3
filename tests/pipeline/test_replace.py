"""Replace: a run's coders at once, on rows that they were not trained on; written whole, the same every time."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from plainspoken import pipeline
from plainspoken.cli.app import app
from plainspoken.errors import ActivationError
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.replacing import replace_ffns
from plainspoken.pipeline.stages.measure import load_measures
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace
from plainspoken.store import Manifest, sha256_file

SITE = "gpt_neox.layers.0.mlp"


def test_one_site_replaced_is_what_measure_says_of_its_coder(copy: Path) -> None:
    pipeline.run(stored_config(copy), copy, target="measure")
    found = pipeline.replace_ffns(copy)
    record = json.loads(found.file.read_text())
    assert record == found.record and found.file == copy / "replace" / "replaced.json"
    workplace = Workplace(copy, stored_config(copy), STAGES)
    measured = load_measures(workplace, SITE)
    same = [(name, name) for name in ("ce_original", "ce_zero", "ce_mean", "recovered_zero")]
    for ours, theirs in (*same, ("ce_coders", "ce_spliced"), ("kl_coders", "kl")):
        for bound in ("", "_low", "_high"):
            expected = measured[theirs + bound]
            assert record["together"][ours + bound] == (None if expected is None else pytest.approx(expected, rel=1e-6))
    assert record["rows"] == measured["rows"] and record["part"] == "calibrate" and record["alone"] == {}
    assert record["model_fingerprint"] == workplace.lm.fingerprint and set(record["coders"]) == {SITE}
    assert all(record["coders"].values()) and record["seed"] == 0 and "torch" in record["versions"]


def test_the_same_run_gives_the_same_bytes_and_fewer_tokens_are_fewer(copy: Path) -> None:
    first = pipeline.replace_ffns(copy).file.read_bytes()
    assert pipeline.replace_ffns(copy).file.read_bytes() == first
    fewer = pipeline.replace_ffns(copy, tokens=200).record
    assert fewer["tokens"] <= 200 < json.loads(first)["tokens"]


def test_the_verb_prints_every_condition_and_where_the_figures_lie(copy: Path) -> None:
    shutil.rmtree(copy / "encode")  # it needs no more than coders
    result = CliRunner().invoke(app, ["replace", str(copy), "--tokens", "300"])
    assert result.exit_code == 0, result.output
    for word in ("all at once", "the model as it is", "its coders", "the zero vector", "its mean", "recovered", "KL"):
        assert word in result.output
    assert "replaced.json" in result.output and not (copy / "encode").exists()
    record = json.loads((copy / "replace" / "replaced.json").read_text())["together"]
    assert f"[{record['ce_coders_low']:.3f}, {record['ce_coders_high']:.3f}]" in result.output
    assert result.output.count("[95 %]") == 3 and "…" not in result.output, "as other tables have intervals"


def test_losses_that_are_not_finite_are_told_and_nothing_is_written(copy: Path) -> None:
    workplace = Workplace(copy, stored_config(copy), STAGES)
    file = next((copy / "train" / SITE).glob("*.safetensors"))
    weights = load_file(file)
    weights["b_dec"] = torch.full_like(weights["b_dec"], 3e38)  # finite; its square is not
    save_file(weights, file)
    manifest = Manifest.load(file.parent / "manifest.json")
    written = {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    replace(manifest, outputs={**manifest.outputs, file.name: written}).save(file.parent / "manifest.json")
    with pytest.raises(ActivationError):
        replace_ffns(workplace)
    assert not (copy / "replace").exists()
