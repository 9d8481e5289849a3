"""A dry run of a run that is done, or partly: what would be asked again, the prompts of all stages, nothing touched."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from explain_scene import says
from llm.server import Server, serve
from pipeline.test_explainers import begun, with_explain
from plainspoken.cli.app import app
from plainspoken.config import Config
from plainspoken.errors import RunError, UsageError
from plainspoken.pipeline import dry_run, run
from plainspoken.pipeline.dry import DryRun
from plainspoken.pipeline.dry_groups import placeholder
from plainspoken.store import Manifest
from told_run import SAID, telling, told_config

SITE = "gpt_neox.layers.0.mlp"
Contents = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def told(
    tiny: Config,
    finished: Path,
    assistant: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Config, Path, Server]]:
    """A run whose explainer and simulator are models on one server; done."""
    with serve(telling()) as server:
        config = told_config(tiny, server.url, assistant)
        folder = begun(finished, tmp_path_factory.mktemp("told") / "run")
        run(config, folder, target="frontier")
        yield config, folder, server


def asked(folder: Path, stage: str) -> int:
    return Manifest.load(folder / stage / SITE / "manifest.json").counts["llm"]["asked"]


@pytest.fixture
def untouched(told: tuple[Config, Path, Server], contents: Contents) -> Iterator[None]:
    """Nothing is sent, and no file of the run is changed."""
    _, folder, server = told
    before, sent = contents(folder), server.seen.total()
    yield
    assert server.seen.total() == sent
    assert contents(folder) == before


def stages(dry: DryRun) -> dict[str, float]:
    return {one.stage: one.requests.value for one in dry.estimates}


@pytest.mark.slow
@pytest.mark.checked
@pytest.mark.usefixtures("untouched")
def test_of_a_finished_run_nothing_is_estimated_and_all_prompts_are_shown(told: tuple[Config, Path, Server]) -> None:
    config, folder, _ = told
    plain, shown = dry_run(config, folder), dry_run(config, folder, prompts=True)
    assert plain.estimates == shown.estimates == plain.done == ()
    assert plain.notes == ("explain is done, and asks nothing", "simulate is done, and asks nothing")
    assert [(one.stage, one.model) for one in shown.done] == [("explain", "writer"), ("simulate", "judge")]
    assert "[EXPLANATION]:" in shown.done[0].prompt and "<<" in shown.done[0].prompt
    assert f"Explanation: {SAID}" in shown.done[1].prompt


@pytest.mark.usefixtures("untouched")
def test_what_is_forced_is_estimated_as_it_would_be_asked(told: tuple[Config, Path, Server]) -> None:
    """With all that depends on it, by the sentences that stand; what was answered before is not paid again."""
    config, folder, _ = told
    each = {stage: pytest.approx(asked(folder, stage), rel=0.01) for stage in ("explain", "simulate")}
    again = dry_run(config, folder, force=["simulate"])
    assert stages(again) == {"simulate": each["simulate"]}
    assert again.notes[0] == "explain is done, and asks nothing"
    [kept] = [note for note in again.notes if "answered before" in note]
    assert str(folder / "llm" / "answers.sqlite") in kept and "is not asked or paid for again" in kept
    assert not any("not written yet" in note for note in again.notes)
    assert stages(dry_run(config, folder, force=["explain"])) == each
    assert stages(dry_run(config, folder, force=["evaluate"])) == {}
    anew = dry_run(config, folder, force=["encode", "calibrate"])
    assert stages(anew) == each
    assert anew.notes[0].startswith("encode would be made anew (--force)")
    # A stage beyond the one that is asked for is not forced.
    assert stages(dry_run(config, folder, target="explain", force=["simulate"])) == {}


@pytest.mark.usefixtures("untouched")
def test_other_settings_are_refused_as_a_run_refuses_them(told: tuple[Config, Path, Server]) -> None:
    config, folder, _ = told
    other = with_explain(config, {"examples": 5})
    with pytest.raises(RunError, match="--force explain"):
        dry_run(other, folder)
    forced = dry_run(other, folder, force=["explain"])
    assert set(stages(forced)) == {"explain", "simulate"}
    assert forced.estimates[0].prompt.count("Example 5:") == 1 and "Example 6:" not in forced.estimates[0].prompt
    wider = dataclasses.replace(config, coder=dataclasses.replace(config.coder, latents=13))
    with pytest.raises(RunError, match="--force train"):
        dry_run(wider, folder)
    with pytest.raises(UsageError, match=r"makes nothing anew, and train, encode in .* another folder \(--out\)"):
        dry_run(wider, folder, force=["train"])
    with pytest.raises(UsageError, match="--force nothing: there is no such stage"):
        dry_run(config, folder, force=["nothing"])


@pytest.mark.usefixtures("untouched")
def test_a_frontier_of_a_finished_run_is_estimated(told: tuple[Config, Path, Server]) -> None:
    config, folder, _ = told
    two = dataclasses.replace(config, report=dataclasses.replace(config.report, frontier=(12, 15)))
    found = [(one.stage, one.model, one.requests.value) for one in dry_run(two, folder).estimates]
    counts = Manifest.load(folder / "simulate" / SITE / "manifest.json").counts
    read = counts["calibrate_pairs_asked"] + counts["evaluate_pairs_asked"]  # a request each; nothing is scored
    assert counts["scoring_pairs_asked"] > 0
    assert found == [
        ("frontier", "writer", pytest.approx(2 * asked(folder, "explain"), rel=0.01)),
        ("frontier", "judge", pytest.approx(2 * read, rel=0.01)),
    ]


def test_of_a_killed_run_what_lacks_is_estimated(
    told: tuple[Config, Path, Server], tmp_path: Path, contents: Contents
) -> None:
    config, folder, server = told
    half = Path(shutil.copytree(folder, tmp_path / "half"))
    (half / "simulate" / SITE / "manifest.json").unlink()
    before, sent = contents(half), server.seen.total()
    dry = dry_run(config, half, prompts=True)
    assert stages(dry) == {"simulate": pytest.approx(asked(folder, "simulate"), rel=0.01)}
    assert [one.stage for one in dry.done] == ["explain"]
    # After an edit the stage is stale, not new.
    half = Path(shutil.copytree(folder, tmp_path / "edited"))
    path = half / "explain" / SITE / "explanations.jsonl"
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), "text": "On numbers."}), *others]) + "\n")
    edited = dry_run(config, half)
    assert set(stages(edited)) == {"simulate"}
    assert "simulate was done, and asks only about what has changed since: less than stands here" in edited.notes
    assert server.seen.total() == sent
    assert contents(tmp_path / "half") == before


@pytest.mark.usefixtures("untouched")
def test_the_command_line_shows_the_prompts_of_all_stages(told: tuple[Config, Path, Server]) -> None:
    _, folder, _ = told
    shown = CliRunner().invoke(app, ["run", str(folder), "--dry-run", "--show-prompts", "--force", "simulate"])
    assert shown.exit_code == 0, shown.output
    assert "one prompt of explain, to writer" in shown.output and "one prompt of simulate, to judge" in shown.output
    assert shown.output.index("one prompt of explain") < shown.output.index("one prompt of simulate")
    assert "nothing was sent" in shown.output and "explain is done, and asks nothing" in shown.output


def test_asking_again_for_what_is_too_long_adds_at_most_what_is_told(
    tiny: Config, finished: Path, assistant: Path, tmp_path: Path
) -> None:
    """And adds all of it where every explanation comes back too long."""
    with serve(Server(reply=says(f"[EXPLANATION]: {'word ' * 300}"))) as server:
        config = told_config(tiny, server.url, assistant)
        folder = begun(finished, tmp_path / "run")
        dry = dry_run(config, folder, target="explain")
        [most] = [int(found[1]) for note in dry.notes if (found := re.search(r"at most (\d+) requests more", note))]
        run(config, folder, target="explain")
    assert most == stages(dry)["explain"] > 0
    assert asked(folder, "explain") == 2 * most


def test_what_stands_for_a_sentence_is_as_long_and_each_latents_own() -> None:
    """Equal questions are asked once: with equal stand-ins the estimate would be of one latent, not of all."""
    stands = [placeholder(7, latent) for latent in range(20)]
    assert len(set(stands)) == 20 and {len(text.split()) for text in stands} == {7}
