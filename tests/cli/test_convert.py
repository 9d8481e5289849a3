"""`plainspoken convert`: what it writes is what it read, what it cannot do is told, and its help lists the formats."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from plainspoken.cli.app import app
from plainspoken.coders import FORMATS, Coder, CoderSpec, load_any, save_coder
from plainspoken.store import write_json
from plainspoken.types import Site

MODULES = ("gpt_neox.layers.0.mlp", "gpt_neox.layers.1.mlp")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["convert", *(str(a) for a in arguments)])


def told(result: Result) -> str:
    return " ".join(result.output.split())


def saved(folder: Path, module: str = MODULES[0], activation: str = "topk") -> Coder:
    coder = Coder(CoderSpec("transcoder", activation, 24, 3 if activation == "topk" else None, True, 8, 8))
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.normal_()
    save_coder(folder, coder, Site(module, "mlp", 8, 8))
    return coder


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """As a run leaves it, as far as its coders go."""
    write_json(tmp_path / "run" / "config.json", {})
    for module in MODULES:
        saved(tmp_path / "run" / "train" / module, module)
    return tmp_path / "run"


def test_help_lists_the_formats() -> None:
    shown = call("--help").output
    for name, form in FORMATS.items():
        [line] = [line for line in shown.splitlines() if line.split()[:1] == [name] and " read" in line]
        assert ("written" in line) == (form.save is not None)
        assert form.what in line
    assert "coder.load" in shown


def test_there_and_back(tmp_path: Path) -> None:
    coder, x = saved(tmp_path / "ours"), torch.randn(9, 8)
    there = call(tmp_path / "ours", tmp_path / "theirs", "--to", "sparsify")
    assert (there.exit_code, "transcoder, topk (k = 3), 24 latents, 8 -> 8, with a skip" in told(there)) == (0, True)
    assert MODULES[0] in told(there)
    assert call(tmp_path / "theirs", tmp_path / "again", "--to", "plainspoken", "--quiet").output == ""
    back, site, _ = load_any(tmp_path / "again")
    torch.testing.assert_close(back(x), coder(x))
    assert site.module == MODULES[0]


def test_what_becomes_of_a_coder_that_the_format_has_no_name_for_is_told(tmp_path: Path) -> None:
    for activation, became in (("batch_topk", True), ("jump_relu", False)):
        saved(tmp_path / activation, activation=activation)
        found = call(tmp_path / activation, tmp_path / f"{activation}-s", "--to", "saelens")
        assert (found.exit_code, "written as jumprelu_skip_transcoder with one threshold" in told(found)) == (0, became)


def test_a_run_s_coders_all_or_one(run_folder: Path, tmp_path: Path) -> None:
    assert call(run_folder, tmp_path / "all", "--to", "sparsify").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == list(MODULES)
    assert call(run_folder, tmp_path / "one", "--to", "sparsify", "--site", MODULES[1]).exit_code == 0
    assert load_any(tmp_path / "one")[1].module == MODULES[1]
    found = call(run_folder, tmp_path / "none", "--to", "sparsify", "--site", "gpt_neox.layers.7.mlp")
    assert (found.exit_code, f"its sites: {MODULES[0]}" in told(found)) == (2, True)


def test_what_cannot_be_done_is_told_and_writes_nothing(tmp_path: Path) -> None:
    saved(tmp_path / "ours", activation="relu")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    for target, to, code, words in (
        ("new", "gemma_scope", 2, "no format that is written; there are: plainspoken, sparsify, saelens"),
        ("new", "onnx", 2, "no format that is written"),
        ("full", "saelens", 2, "is not empty"),
        ("new", "sparsify", 1, "topk coders only"),
    ):
        found = call(tmp_path / "ours", tmp_path / target, "--to", to)
        assert (found.exit_code, words in told(found)) == (code, True)
    found = call(tmp_path / "full", tmp_path / "new", "--to", "saelens")
    assert (found.exit_code, "holds no coder in any format" in told(found)) == (1, True)
    found = call(tmp_path / "ours", tmp_path / "new", "--to", "saelens", "--site", "m")
    assert (found.exit_code, "--site goes with a run folder" in told(found)) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "ours"]


def test_a_run_without_a_coder_says_so(tmp_path: Path) -> None:
    write_json(tmp_path / "run" / "config.json", {})
    found = call(tmp_path / "run", tmp_path / "new", "--to", "saelens")
    assert (found.exit_code, "has no coder yet; train one with" in told(found)) == (2, True)


def test_of_a_comparison_the_coders_further_down_are_named(tmp_path: Path) -> None:
    write_json(tmp_path / "run" / "config.json", {})
    for name in ("sae-k8", "transcoder-k8"):
        saved(tmp_path / "run" / "coders" / MODULES[0] / name)
    for more in ((), ("--site", MODULES[0])):
        found = call(tmp_path / "run", tmp_path / "new", "--to", "sparsify", *more)
        assert (found.exit_code, "holds no coder itself, but below it do: " in told(found)) == (1, True)
        assert f"{MODULES[0]}/transcoder-k8; name one" in told(found).replace(" /", "/")
    assert not (tmp_path / "new").exists()


def test_a_language_model_s_folder_is_no_run(neox_folder: Path, tmp_path: Path) -> None:
    found = call(neox_folder, tmp_path / "new", "--to", "saelens")
    assert (found.exit_code, "holds no coder in any format" in told(found)) == (1, True)
