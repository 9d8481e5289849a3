"""The survey is blind: nothing shown before the end tells the coders apart; answers outlive a kill; a plan stays."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plainspoken import pipeline
from plainspoken.cli.app import app
from plainspoken.config import Config
from plainspoken.pipeline.survey import ANSWERS, PLAN, RESULTS, load_plan, save_plan

SITES = ("gpt_neox.layers.0.mlp", "gpt_neox.layers.1.mlp")
N = 3


def survey(run: Path, out: Path, *more: object, sites: tuple[str, ...] = SITES, typed: str = "") -> Result:
    named = [part for site in sites for part in ("--site", site)]
    fixed = ("--latents", N, "--seed", 4, "--quiet", "--device", "cpu", "--out", out)
    return CliRunner().invoke(app, [str(a) for a in ("survey", run, *named, *fixed, *more)], input=typed)


def told(result: Result) -> str:
    return " ".join(result.output.split())


TYPED = "y\nn\nends of words\nmaybe\nyes\n\nn\nn\n\n"
"""Answers to three latents."""


def before_the_end(shown: str) -> str:
    return shown.partition("interpretable? 3 latents of each coder")[0]


def test_answers_are_kept_as_they_come_and_the_end_tells_the_coders(both_layers: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    first = survey(both_layers, out, typed=TYPED + "y\nq\n")
    assert first.exit_code == 0, first.output
    assert "3 of 6 judged and kept" in told(first)
    for word in ("gpt_neox", "first less second", both_layers.name):
        assert word not in first.output.replace(str(out), "")
    kept = [json.loads(line) for line in (out / ANSWERS).read_text().splitlines()]
    assert [(a["item"], a["interpretable"], a["context_free"], a["note"]) for a in kept] == [
        (0, "yes", False, "ends of words"), (1, "maybe", True, ""), (2, "no", False, ""),
    ]  # fmt: skip
    assert not (out / RESULTS).exists()
    second = survey(both_layers, out, typed=TYPED)
    assert "latent 3 of 6" not in second.output and "latent 4 of 6" in second.output
    assert SITES[0] in second.output and "first less second" in second.output
    found, plan = json.loads((out / RESULTS).read_text()), load_plan(out)
    verdict = dict(zip(range(6), ["yes", "maybe", "no"] * 2, strict=True))
    for coder in (0, 1):
        mine = [verdict[i] for i, item in enumerate(plan.items) if item.coder == coder]
        counts = {name: share["count"] for name, share in found["result"]["verdicts"][coder].items()}
        assert counts == {name: mine.count(name) for name in ("yes", "maybe", "no")}
    assert found["settings"]["seed"] == 4 and "torch" in found["versions"] and found["coders"][0]["table"]


def test_nothing_before_the_end_tells_the_coders_apart(both_layers: Path, tmp_path: Path) -> None:
    """The same plan with the coders' names exchanged shows the same, to the last character."""
    one, other = tmp_path / "one", tmp_path / "two"
    shown = survey(both_layers, one, typed=TYPED * 2)
    plan = load_plan(one)
    items = tuple(replace(item, coder=1 - item.coder) for item in plan.items)
    other.mkdir()
    save_plan(other, replace(plan, coders=plan.coders[::-1], items=items))
    swapped = survey(both_layers, other, sites=SITES[::-1], typed=TYPED * 2)
    assert swapped.exit_code == 0, swapped.output
    assert before_the_end(shown.output) == before_the_end(swapped.output) != shown.output
    blind = before_the_end(shown.output)
    assert "gpt_neox" not in blind and not re.search(r"Fires at|explanation", blind)


def test_what_is_shown_are_firings_of_the_planned_latents(both_layers: Path, tmp_path: Path) -> None:
    from plainspoken.pipeline.survey import SurveySettings, opened_survey

    with opened_survey([both_layers], SITES, tmp_path / "s", SurveySettings(N, 4, 2, 2, 8), device="cpu") as found:
        for i, item in enumerate(found.plan.items):
            groups = dict(found.exhibit(i).groups)
            assert "⟧9" in groups["strongest"][0]
            assert all("⟦" in line for lines in groups.values() for line in lines)
            assert found.plan.coders[item.coder].site == SITES[item.coder]


def test_answers_from_a_file_go_on_where_they_were(both_layers: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "s", tmp_path / "answers.txt"
    lines = [f"{i} yes no note {i}" for i in range(1, 7)]
    file.write_text("\n".join(lines[:2]) + "\n")
    assert "2 of 6 judged" in told(survey(both_layers, out, "--answers", file))
    found = survey(both_layers, out, "--answers", "-", typed="\n".join(lines) + "\n")
    assert found.exit_code == 0 and "+0.000" in found.output
    assert len((out / ANSWERS).read_text().splitlines()) == 6
    found = survey(both_layers, out, "--answers", "-", typed="2 no no\n")
    assert (found.exit_code, "judged before, and otherwise" in told(found)) == (2, True)
    for line, message in (("7 yes no", "there is no latent 7"), ("1 perhaps no", "line 1: no answer")):
        found = survey(both_layers, out, "--answers", "-", typed=line + "\n")
        assert (found.exit_code, message in told(found)) == (2, True), found.output
    assert "no file of answers" in told(survey(both_layers, out, "--answers", tmp_path / "absent"))


def test_half_an_answer_is_cut_off_and_an_altered_one_is_named(both_layers: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    survey(both_layers, out, typed=TYPED + "q\n")
    path = out / ANSWERS
    whole = path.read_bytes()
    for cut in (1, 20, len(whole.splitlines()[-1])):
        path.write_bytes(whole[:-cut])
        assert "2 of 6 judged" in told(survey(both_layers, out, typed="q\n"))
        assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:2])
    doubled = whole + whole.splitlines(keepends=True)[0]
    for altered, what in ((whole.replace(b"maybe", b"mayba"), "line 2"), (doubled, "twice"), (b"x" + whole, "line 1")):
        path.write_bytes(altered)
        found = survey(both_layers, out, typed="q\n")
        assert (found.exit_code, what in told(found), "altered" in told(found)) == (1, True, True), found.output


def test_a_plan_that_was_altered_and_other_settings_are_refused(both_layers: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    survey(both_layers, out, typed=TYPED + "q\n")
    found = survey(both_layers, out, "--window", 9)
    assert (found.exit_code, "window: 24, now 9" in told(found)) == (2, True)
    found = survey(both_layers, out, sites=SITES[::-1])
    assert (found.exit_code, "other coders" in told(found)) == (2, True)
    plan = load_plan(out)
    path = out / PLAN
    kept = path.read_text()
    path.write_text(kept.replace('"coder": 0', '"coder": 1', 1))
    found = survey(both_layers, out)
    assert (found.exit_code, "plan.json is altered" in told(found)) == (1, True)
    save_plan(out, replace(plan, items=plan.items[::-1]))  # whole, and another
    found = survey(both_layers, out)
    assert (found.exit_code, "answers another plan" in told(found)) == (1, True)
    path.unlink()
    found = survey(both_layers, out)
    assert (found.exit_code, "plan.json is missing" in told(found)) == (1, True)


@pytest.mark.parametrize(
    ("sites", "more", "message"),
    [
        (SITES[:1], (), "two of its sites"),
        ((SITES[0], SITES[0]), (), "both coders are the same"),
        ((SITES[0], "gpt_neox.layers.7.mlp"), (), f"its sites: {SITES[0]}, {SITES[1]}"),
        (SITES, ("--latents", 99), "--latents"),
    ],
)
def test_bad_input_is_told_with_its_mend(
    both_layers: Path, tmp_path: Path, sites: tuple[str, ...], more: tuple[object, ...], message: str
) -> None:
    found = survey(both_layers, tmp_path / "s", *more, sites=sites)
    assert (found.exit_code, message in told(found)) == (2, True), found.output
    assert not (tmp_path / "s" / PLAN).exists()


def test_two_runs_are_two_coders(both_layers: Path, finished: Path, tmp_path: Path) -> None:
    other = shutil.copytree(finished, tmp_path / "other")
    found = survey(both_layers, tmp_path / "s", typed=TYPED * 2, sites=())
    assert "two of its sites" in told(found)
    arguments = ["survey", both_layers, other, "--site", SITES[1], "--site", SITES[0], "--latents", N, "--seed", 4]
    shown = CliRunner().invoke(app, [str(a) for a in (*arguments, "--quiet", "--out", tmp_path / "s")], input=TYPED * 2)
    assert shown.exit_code == 0, shown.output
    assert str(other) in told(shown) or other.name in shown.output
    assert "warning" not in told(shown) and json.loads((tmp_path / "s" / RESULTS).read_text())["differs"] == []


def test_coders_on_other_text_are_told(both_layers: Path, tiny: Config, corpus: Path, tmp_path: Path) -> None:
    text = tmp_path / "other.jsonl"
    text.write_text(corpus.read_text().replace("Story", "Tale"))
    pipeline.run(replace(tiny, corpus=replace(tiny.corpus, source=str(text))), tmp_path / "other", target="encode")
    arguments = ["survey", both_layers, tmp_path / "other", "--site", SITES[1], "--site", SITES[0], "--latents", N]
    more = ["--seed", 4, "--quiet", "--device", "cpu", "--out", tmp_path / "s"]
    shown = CliRunner().invoke(app, [str(a) for a in (*arguments, *more)], input=TYPED * 2)
    assert shown.exit_code == 0, shown.output
    assert "not of the same text, which may betray" in told(shown)
    assert json.loads((tmp_path / "s" / RESULTS).read_text())["differs"] == ["text"]
    first, second = load_plan(tmp_path / "s").coders
    assert first.lm == second.lm and first.rows != second.rows
