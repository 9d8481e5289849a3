"""Dashboards of a run: from what it holds, for the sites asked for; where something lacks, refused with the mend."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from plainspoken import pipeline
from plainspoken.circuits.dashboard_file import read_dashboards
from plainspoken.cli.app import app
from plainspoken.errors import RunError, StoreError
from plainspoken.latents.dashboard import generator_of
from plainspoken.latents.examples import examples
from plainspoken.lm.anatomy import anatomy
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.explanations import read_explanations
from plainspoken.pipeline.progress import Progress
from plainspoken.pipeline.shelves import load_rows, load_scores, load_statistics, load_table
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace
from plainspoken.store import Manifest, StageFolder

SITE = "gpt_neox.layers.0.mlp"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def told(result: Result) -> str:
    return " ".join(result.output.split())


def test_dashboards_are_what_the_run_holds(copy: Path) -> None:
    [made] = pipeline.dashboards(copy, bands=3, per_band=2, window=8)
    found = read_dashboards(made.file)
    workplace = Workplace(copy, stored_config(copy), STAGES)
    rows = load_rows(workplace, "explain")
    statistics, _ = load_statistics(workplace, SITE, "explain")
    for name, value in vars(statistics).items():
        np.testing.assert_allclose(getattr(found.activity.statistics, name), value, rtol=1e-12, err_msg=name)
    table = load_table(workplace, SITE, rows)
    for latent in range(table.latents):
        wanted = examples(table, latent, 2, 3, 8, generator_of(workplace.config.seed, latent))
        drawn = found.activity.examples.of(latent)
        assert [(e.row, e.start, e.values.tolist()) for e in drawn] == [
            (e.row, e.start, e.values.tolist()) for e in wanted
        ]
    written = read_explanations(copy / "explain" / SITE)
    assert found.explanations == written
    correlation = load_scores(workplace, SITE).correlation
    for latent, value in enumerate(found.fidelity["correlation"].tolist()):
        assert np.isnan(value) or (value == correlation.of(latent) and latent in written)
    assert not np.isnan(found.fidelity["correlation"]).all()
    assert found.about.lm_fingerprint == workplace.lm.fingerprint
    assert found.wiring is not None
    assert len(found.wiring.promoted.token) == table.latents == made.latents
    assert len(anatomy(workplace.lm).layers) == 2
    assert StageFolder(made.file.parent).verify().counts == {"latents": made.latents, "explained": len(written)}


def test_the_same_run_gives_the_same_bytes_and_the_chain_is_left_as_it_was(copy: Path) -> None:
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    [made] = pipeline.dashboards(copy)
    first = made.file.read_bytes(), made.page.read_bytes()
    pipeline.dashboards(copy)
    assert (made.file.read_bytes(), made.page.read_bytes()) == first
    assert {p: p.read_bytes() for p in before} == before


def test_sentences_changed_since_they_were_scored_show_no_scores(copy: Path) -> None:
    path = copy / "explain" / SITE / "explanations.jsonl"
    path.write_text(path.read_text().replace('"text": "', '"text": "changed '))
    warned: list[str] = []
    [made] = pipeline.dashboards(copy, progress=Progress(warn=warned.append))
    found = read_dashboards(made.file)
    assert not found.fidelity
    assert "changed" in next(iter(found.explanations.values())).text
    assert "plainspoken score" in warned[0]


def test_a_run_that_is_encoded_only_has_dashboards_without_sentences(copy: Path) -> None:
    for stage in ("explain", "simulate", "calibrate", "evaluate", "report", "frontier", "score"):
        shutil.rmtree(copy / stage, ignore_errors=True)
    found = call("dashboards", copy, "--bins", 4)
    assert found.exit_code == 0
    assert "12 latents, none explained yet" in told(found)
    assert "plainspoken explain" in told(found)
    page = copy / "dashboards" / SITE / "dashboards.html"
    assert str(page) in found.output.replace("\n", "")
    assert "none with a sentence yet" in page.read_text()
    shutil.rmtree(copy / "encode")
    again = call("dashboards", copy)
    assert again.exit_code == 2
    assert f"no firing table of {SITE} yet; make it with: plainspoken encode" in told(again)


def test_wrong_sites_and_runs_are_refused_with_the_nearest(copy: Path, tmp_path: Path) -> None:
    found = call("dashboards", copy, "--site", "gpt_neox.layers.5.mlp")
    assert found.exit_code == 2
    assert f"nearest: {SITE}" in told(found)
    assert "no run folder" in told(call("dashboards", tmp_path / "none"))
    assert call("dashboards", copy, "--bands", 0).exit_code == 2
    assert not (copy / "dashboards").exists()


def test_firings_of_another_coder_and_altered_tables_are_refused(copy: Path) -> None:
    path = copy / "encode" / SITE / "manifest.json"
    manifest = Manifest.load(path)
    replace(manifest, inputs={**manifest.inputs, f"train/{SITE}": "0" * 64}).save(path)
    with pytest.raises(RunError, match=r"another coder.*plainspoken encode"):
        pipeline.dashboards(copy)
    manifest.save(path)
    table = copy / "encode" / SITE / "explain" / "value.npy"
    table.write_bytes(table.read_bytes()[:-4])
    with pytest.raises(StoreError, match=r"value\.npy is truncated"):
        pipeline.dashboards(copy)


def test_an_altered_coder_is_refused(copy: Path) -> None:
    """Its firings are those of the run's, and its weights would be told as theirs."""
    weights = copy / "train" / SITE / "coder.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 0x80
    weights.write_bytes(changed)
    with pytest.raises(StoreError, match=r"coder\.safetensors"):
        pipeline.dashboards(copy)


@pytest.mark.parametrize("words", [("dashboards",), ("score", "--by", "embedding")])
def test_the_device_that_is_named_is_used(copy: Path, words: tuple[str, ...]) -> None:
    result = call(*words, copy, "--device", "nowhere")
    assert result.exit_code != 0
    assert "nowhere" in told(result)
    assert stored_config(copy).lm.device != "nowhere"
