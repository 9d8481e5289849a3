"""Connections: what the verb writes is what dense products and means say; what is asked wrongly is told."""

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from plainspoken import pipeline
from plainspoken.circuits.connected_file import HeadNorms, load_connections
from plainspoken.circuits.means import mean_attributions
from plainspoken.circuits.overlaps import FEWEST, mean_overlap
from plainspoken.circuits.weights import ov_norms
from plainspoken.cli.app import app
from plainspoken.cli.connections import _show_norms
from plainspoken.cli.show import OUT
from plainspoken.coders import read_extra
from plainspoken.errors import ModelError
from plainspoken.lm.anatomy import anatomy
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.circuit import RunCircuits
from plainspoken.pipeline.connecting import CONTROLS, make_norms
from plainspoken.pipeline.explanations import read_explanations
from plainspoken.pipeline.shelves import load_rows, load_scores
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace

SITE = "gpt_neox.layers.0.mlp"


@pytest.fixture(scope="module")
def both(two_coders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run with two coders, to which connections are written; it is not explained."""
    return Path(shutil.copytree(two_coders, tmp_path_factory.mktemp("connections") / "run"))


@pytest.fixture(scope="module")
def circuits(both: Path) -> RunCircuits:
    return RunCircuits(Workplace(both, stored_config(both), STAGES))


@pytest.fixture(scope="module")
def firing(both: Path, circuits: RunCircuits) -> int:
    """A latent of layer 1 that fires in the explain documents."""
    rows, latents = load_rows(Workplace(both, stored_config(both), STAGES), "explain"), range(12)
    return int(mean_attributions(circuits.lm, circuits.coders, rows, 1, latents, [0], 6, 0).fired[0])


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "80"})


def said(result: Result) -> str:
    return " ".join(result.output.split())


def test_what_is_written_is_the_dense_products(both: Path, circuits: RunCircuits, firing: int) -> None:
    made = pipeline.connections(both, f"1/{firing}", top=12)
    found, of = made.found, circuits.weights.of
    assert load_connections(made.files["connections.json"]) == found
    lower, upper = circuits.weights.coders[0], circuits.weights.coders[1]
    W_dec, norm = lower.W_dec.detach(), of.layers[1].ffn_norm
    dense = (norm.linear(W_dec, torch.ones(12)) @ upper.W_enc[firing]).tolist()
    assert [each.latent for each in found.sources] == sorted(range(12), key=lambda i: -abs(dense[i]))
    for each in found.sources:
        assert each.weight == pytest.approx(dense[each.latent], rel=1e-4, abs=1e-6)
        assert each.text is None
    assert found.targets == found.from_heads == found.to_heads == (), "the last of two parallel layers"
    assert found.texts is None and found.about["model_fingerprint"] == circuits.lm.fingerprint
    assert {"coders", "seed", "versions", "settings"} <= set(found.about)
    back = pipeline.connections(both, "0/3", top=12).found
    assert {each.latent: each.weight for each in back.targets}[firing] == pytest.approx(dense[3], rel=1e-4, abs=1e-6)


def test_overlaps_stand_beside_those_with_other_latents_that_fire(
    both: Path, circuits: RunCircuits, firing: int
) -> None:
    found = pipeline.connections(both, f"1/{firing}", texts=6, top=3).found
    again = pipeline.connections(both, f"1/{firing}", texts=6, top=3).found
    texts, seed = found.texts, stored_config(both).seed
    assert texts is not None and again == found
    rows = load_rows(Workplace(both, stored_config(both), STAGES), "explain")
    means = mean_attributions(circuits.lm, circuits.coders, rows, 1, [firing], [0], 6, seed)
    assert means.of[0] is not None
    mean = means.of[0][0]
    assert (texts.rows, texts.tokens, texts.firings) == (6, means.tokens, mean.firings.sum())
    assert firing not in texts.controls and {*texts.controls} <= {*means.fired.tolist()}
    assert len(texts.controls) == min(CONTROLS, len(means.fired) - 1) > 0
    [source] = texts.layers
    order = np.argsort(-np.abs(mean.mean), kind="stable")[:3]
    assert [each.latent for each in source.strongest] == order.tolist()
    assert [each.mean for each in source.strongest] == pytest.approx(mean.mean[order].tolist())
    W_dec, norm = circuits.weights.coders[0].W_dec.detach(), circuits.weights.of.layers[1].ffn_norm
    dense = (norm.linear(W_dec, torch.ones(12)) @ circuits.weights.coders[1].W_enc.T).detach().double().numpy()
    assert source.contributing == np.count_nonzero(mean.mean) >= 10
    [compared] = source.overlaps  # of 12 latents 10 are some of them, and 20 all
    mine = mean_overlap(mean, dense[:, firing], 10)
    assert (compared.top, compared.share, compared.low, compared.high) == (10, mine.share, mine.low, mine.high)
    others = [mean_overlap(mean, dense[:, i], 10).share for i in texts.controls]
    assert compared.control == pytest.approx(np.mean(others))
    assert (compared.low is None) == (compared.control_low is None) == (texts.firing_documents < FEWEST)


def test_the_verb_prints_within_80_columns_and_where_the_file_is(both: Path, firing: int) -> None:
    result = call("connections", both, "--latent", f"latent:1/{firing}", "--texts", 6, "--top", 4)
    assert result.exit_code == 0, result.output
    for words in (
        "excited by (pre-activation):",
        "suppresses (logit, factor at 1):",
        "reads from earlier latents:",
        "fires at",
        "top 10",
        "control",
    ):
        assert words in result.output
    lines = [line for line in result.output.splitlines() if "connections.json" not in line]
    assert max(map(len, lines)) <= 80
    path = both / "connections" / f"latent-1-{firing}-texts-6" / "connections.json"
    assert str(path) in result.output.replace("\n", "") and path.is_file()


@pytest.mark.parametrize(
    ("latent", "none"),
    [
        ("1/0", "through any head: none, as no head lies between layer 1 and a later layer with a coder"),
        ("1/0", "writes to later latents: none, as no later layer has a coder"),
        ("0/0", "through any head: none, as no head lies between an earlier layer with a coder and layer 0"),
    ],
)
def test_where_there_is_nothing_before_or_behind_it_says_why(both: Path, latent: str, none: str) -> None:
    result = call("connections", both, "--latent", latent, "--top", 1)
    assert result.exit_code == 0 and none in said(result), result.output


def test_the_sentence_is_told_as_it_stands_with_how_well_it_foretells(copy: Path) -> None:
    """Of a run that is explained and scored; of one coder, so that there is nothing before it or behind it."""
    written = read_explanations(copy / "explain" / SITE)
    scores = load_scores(Workplace(copy, stored_config(copy), STAGES), SITE).correlation
    latent = next(i for i in written if scores.of(i) is not None)
    found = pipeline.connections(copy, f"0/{latent}").found
    assert (found.text, found.fidelity) == (written[latent].text, scores.of(latent))
    assert found.sources == found.targets == () and found.excited


def test_without_a_latent_the_heads_are_drawn(both: Path, circuits: RunCircuits) -> None:
    result = call("connections", both)
    assert result.exit_code == 0 and "OV norms" in result.output, result.output
    kept = json.loads((both / "connections" / "heads.json").read_text())
    assert np.allclose(kept["norms"], ov_norms(anatomy(circuits.lm)).numpy())
    with Image.open(both / "connections" / "heads.png") as picture:
        assert picture.width > 300 and picture.height > 150
        colours = picture.convert("RGB").getcolors(1 << 20)
        assert colours is not None and len(colours) > 10, "cells have shades"


def test_norms_that_are_no_numbers_are_refused_and_nothing_is_written(both: Path, tmp_path: Path) -> None:
    workplace = Workplace(both, stored_config(both), STAGES)
    broken = replace(workplace.lm, model=deepcopy(workplace.lm.model))
    with torch.no_grad():
        broken.model.gpt_neox.layers[1].attention.dense.weight[0, 0] = torch.nan
    vars(workplace)["lm"] = broken
    vars(broken)["fingerprint"] = read_extra(both / "train" / SITE)["lm_fingerprint"]  # as if trained on it
    with pytest.raises(ModelError, match=r"head 1/0 of .* no finite number"):
        make_norms(workplace, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_head_is_in_the_table_however_narrow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(OUT, "_width", 80)
    _show_norms(HeadNorms(tuple(tuple(100.0 * at + head for head in range(32)) for at in range(1, 4)), {}))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert all(f"h{head}" in out.split() for head in range(32))
    assert all(f"{100 * at + head}.00" in out.split() for at in range(1, 4) for head in range(32))


@pytest.mark.parametrize(("scale", "decimals"), [(1.0, 2), (40.0, 2), (0.003, 5)])
def test_all_norms_of_a_table_have_as_many_decimals(
    capsys: pytest.CaptureFixture[str], scale: float, decimals: int
) -> None:
    norms = ((1.0 * scale, 0.5 * scale), (0.3333 * scale, 0.0))
    _show_norms(HeadNorms(norms, {}))
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[1:] for row in rows] == [[f"{norm:.{decimals}f}" for norm in row] for row in norms]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--latent", "1/99"], "nearest: latent:1/11"),
        (["--latent", "7/0"], "layers with one: 0, 1"),
        (["--latent", "1.0"], "write LAYER/NUMBER"),
        (["--latent", "1/0", "--through", "0/0"], "does not stand between"),
        (["--latent", "1/0", "--through", "0/9"], "it has 2, the last 0/1"),
        (["--latent", "0/0", "--texts", "3"], "no coder stands before layer 0"),
        (["--texts", "3"], "name it with --latent"),
    ],
)
def test_what_was_asked_wrongly_is_told_and_nothing_is_written(both: Path, options: list[str], words: str) -> None:
    before = {*both.rglob("*")}
    result = call("connections", both, *options)
    assert result.exit_code == 2 and words in said(result), result.output
    assert {*both.rglob("*")} == before


def test_a_latent_that_fires_nowhere_in_the_texts_has_no_mean(both: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(both, tmp_path / "run"))
    workplace = Workplace(run, stored_config(run), STAGES)
    rows, circuits = load_rows(workplace, "explain"), RunCircuits(workplace)
    found = mean_attributions(circuits.lm, circuits.coders, rows, 1, range(12), [0], 1, workplace.config.seed)
    silent = next(i for i, each in enumerate(found.of) if each is None)
    result = call("connections", run, "--latent", f"1/{silent}", "--texts", 1)
    assert result.exit_code == 2 and "fires nowhere in the 1 row of the explain part" in said(result), result.output
    assert not (run / "connections" / f"latent-1-{silent}-texts-1").exists()
