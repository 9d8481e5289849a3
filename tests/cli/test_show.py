"""The closing tables: whole names and whole figures on terminals of every width."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from rich.color import ColorSystem

from plainspoken.circuits.effects import Effects, Measured
from plainspoken.circuits.graph import Node
from plainspoken.cli.effects import show_effects
from plainspoken.cli.show import OUT, show_coders, show_comparison, show_conditions, show_edits
from plainspoken.evaluate import SiteFacts
from plainspoken.pipeline import CoderResult, Comparison

RECORD = {
    "tokens": 5940, "documents": 15, "part": "calibrate", "ce_original": 1.645, "l0": 128.31, "dead": 1.0,
    "kl": 0.559, "fvu": 0.752, "fvu_low": 0.744, "fvu_high": 0.755, "increase": -0.501, "increase_low": -0.458,
    "increase_high": 0.53, "recovered_zero": -1.24, "recovered_zero_low": -1.3, "recovered_zero_high": 0.29,
    "recovered_mean": None,
}  # fmt: skip
SITES = ("gpt_neox.layers.2.mlp", "gpt_neox.layers.22.mlp")


@pytest.mark.parametrize(("width", "beside"), [(70, False), (80, False), (100, True), (200, True)])
def test_a_site_s_name_is_never_broken(
    width: int, beside: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(OUT, "_width", width)
    show_coders([CoderResult(site, RECORD, Path("coder.svg")) for site in SITES])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    for site in SITES:
        [start] = [i for i, line in enumerate(lines) if line.startswith(site)]
        figures, ranges = lines[start : start + 2] if beside else lines[start + 1 : start + 3]
        assert figures.removeprefix(site).split() == [
            "0.752",
            "128.3",
            "100.0%",
            "-0.501",
            "0.559",
            "-1.24",
            "undefined",
        ]
        assert ranges.split() == ["0.744…0.755", "-0.458…0.530", "-1.30…0.29"]
        assert figures.index("-0.501") + 6 == ranges.index("-0.458") + 12  # under one another


def test_where_one_document_leaves_no_bounds_a_dash_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """Of every figure that is there; beside one that is not defined there is nothing to be sure of."""
    bare = {name: None if name.endswith(("_low", "_high")) else value for name, value in RECORD.items()}
    show_coders([CoderResult("mlp", bare, Path("coder.svg"))])
    figures, ranges = capsys.readouterr().out.splitlines()[-3:-1]
    assert "0.752" in figures and ranges.split() == ["–"] * 3  # of FVU, loss and recovered over zero
    condition = {
        "site": "mlp", "condition": "rewritten", "explained": 0, "latents": 4, "ce": 2.5, "ce_low": None,
        "ce_high": None, "recovered": None, "recovered_low": None, "recovered_high": None, "kl": 0.25,
    }  # fmt: skip
    show_conditions([condition])
    assert capsys.readouterr().out.splitlines()[-1].split() == ["rewritten", "2.500", "–", "0.250"]
    apart = {"kind": "transcoder", "against": "sae", "k": 3, "increase": 0.5, "fvu": 0.25}
    point = {"kind": "sae", "k": 3, **bare}
    show_comparison(Comparison("mlp", "", (point,), (apart,), ()))
    assert "transcoder - sae, k = 3: +0.5000 –, FVU +0.2500 –" in capsys.readouterr().out
    show_edits([{"site": "mlp", "latent": 1, "effect": 0.5, "effect_low": None, "effect_high": None}])
    assert "latent 1: +0.50000 –" in capsys.readouterr().out


def condition(**changed) -> dict:
    """A record with everything rewritten."""
    names, ends = ("ce", "recovered", "recovered_over_mean", "kl"), (("", 0.5), ("_low", 0.25), ("_high", 0.75))
    figures = {f"{name}{end}": at for name in names for end, at in ends}
    told = {"site": "mlp", "condition": "rewritten", "coverage": 1.0, "withheld": None}
    of = {field.name: changed.pop(field.name) for field in fields(SiteFacts) if field.name in changed}
    return {**told, **figures, **replace(SiteFacts(12.0, 30, 100, 95, 5, 0, 8.0, 7.6), **of).record(), **changed}


def shown(capsys: pytest.CaptureFixture[str], *records: dict) -> str:
    show_conditions(records)
    return in_one_line(capsys)


def in_one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, prose that was wrapped at words put together again."""
    return " ".join(capsys.readouterr().out.split())


def test_how_many_latents_have_a_sentence_comes_before_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert "few sentences" not in shown(capsys, condition())
    out = shown(capsys, condition(explained=5, firings_explained=0.4))
    told = "only 5 of 100 latents (5.0%), with 5.0% of the firings, have a sentence; the others stand at 0"
    assert out.index("few sentences") < out.index(told) < out.index("nats a token")
    # Nearly all latents, but not those that fire.
    assert "only 95 of 100 latents (95.0%), with 50.0% of the firings" in shown(
        capsys, condition(firings_explained=4.0)
    )
    assert "few" not in shown(capsys, condition(firings=0.0, firings_explained=0.0))
    assert "only 5 of 100 latents (5.0%) have" in shown(capsys, condition(explained=5, firings=None))


def test_a_sample_that_was_asked_for_is_told_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, condition(explained=20, firings_explained=1.0, not_chosen=70))
    assert "few sentences" not in out
    assert "a sample: 30 latents were tried (explain.latents); 20 of 100 latents (20.0%), with 12.5%" in out


def test_a_row_that_lacks_answers_says_so_and_is_not_bold_where_its_verdict_is_withheld(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(OUT, "_force_terminal", True)
    monkeypatch.setattr(OUT, "_color_system", ColorSystem.STANDARD)
    bold = "\x1b[1mrewritten"
    assert bold in shown(capsys, condition())
    some = shown(capsys, condition(coverage=0.995))
    assert f"{bold} *" in some and "answered: rewritten 99.50 %" in some and "verdict withheld" not in some
    short = shown(capsys, condition(coverage=0.873, withheld="withheld: 12.7 % of the pairs got no answer; mend"))
    assert bold not in short and "rewritten *" in short and "answered: rewritten 87.30 %" in short
    assert short.index("verdict withheld: 12.7 % of the pairs got no answer; mend") < short.index("nats a token")
    taught = shown(capsys, condition(coverage_calibrate=0.5, withheld="withheld: why"))
    assert bold not in taught and "answered: rewritten all (to calibrate on: 50.00 %)" in taught


def test_of_edits_in_prompts_of_several_latents_it_is_said_whose_levels_an_effect_is_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    edits = [
        {"site": "mlp", "latent": latent, "effect": 0.5, "effect_low": 0.4, "effect_high": 0.6} for latent in (1, None)
    ]
    told = "up to 20 latents stood in one prompt: the effect of one edit is of its own latent's levels alone"
    show_edits(edits, 20)
    assert told in in_one_line(capsys)
    for alone, in_prompt in ((edits, 1), (edits[1:], 20)):
        show_edits(alone, in_prompt)
        assert "prompt" not in capsys.readouterr().out


def test_a_share_of_a_gap_that_is_not_sure_to_be_there_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor one of the original, which is no rewrite: in a report they are dashes as well."""
    unsure = {"recovered": -6.77, "recovered_low": None, "recovered_high": None}
    assert "-6.77" not in shown(capsys, condition(**unsure, documents=26))
    assert "-6.77" in shown(capsys, condition(**unsure, documents=1))
    assert "2.58" not in shown(capsys, condition(condition="original", recovered=2.58, documents=26))


def _effects(direct: np.ndarray, free: np.ndarray) -> Effects:
    latents = tuple(Node("latent", 0, i, i) for i in range(len(direct)))
    measured = Measured(latents, free, free, free)
    return Effects((Node("logit", position=0, index=0),), direct, direct, measured, measured, 0)


def test_correlations_have_a_true_minus_sign_and_none_before_a_zero(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = (np.tile(np.array(pattern, float), 10)[:, None] for pattern in ([1, -1, 1, -1], [1, 1, -1, -1]))
    show_effects(_effects(x, -x))
    assert "−1.00" in (shown := capsys.readouterr().out) and "[−1.00, −1.00]" in shown
    assert "rounding" not in shown
    show_effects(replace(_effects(x, -x), dtype="bfloat16"))
    assert "the model runs in bfloat16, whose rounding is in all" in in_one_line(capsys)
    show_effects(_effects(x, y - 0.002 * x))
    shown = capsys.readouterr().out
    assert " 0.00" in shown and "-" not in shown and "−0.00" not in shown
