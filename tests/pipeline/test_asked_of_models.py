"""A run whose simulator is a language model over HTTP: what it would ask, what it asked, what it was not answered."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from llm.server import Server, Trouble, drawn, serve
from plainspoken.cli.app import app
from plainspoken.config import Config, LimitsConfig
from plainspoken.errors import ConfigError
from plainspoken.evaluate.results import COVERED
from plainspoken.pipeline import dry_run, failure_counts, llm_costs, run
from plainspoken.pipeline.dry import DryRun
from plainspoken.pipeline.results import Results
from plainspoken.pipeline.shelves import SHARES, load_simulation
from plainspoken.store import Manifest

SITE = "gpt_neox.layers.0.mlp"
VOCABULARY = 320


def odds(ids: tuple[int, ...]) -> np.ndarray:
    """Log-probabilities of the tests' tokenizer, made of the whole prompt."""
    logits = drawn(ids).normal(size=VOCABULARY)
    return logits - np.log(np.exp(logits).sum())


@pytest.fixture(scope="module")
def settings(tiny: Config, neox_folder: Path) -> Config:
    """The rules' sentences read by a model on a server, at the last token of each row."""
    llm = dataclasses.replace(
        tiny.simulate.llm, service="openai", model="judge", tokenizer=str(neox_folder), retries=0,
        base_url="http://127.0.0.1:9/v1", price_in=2.0, price_out=10.0,
    )  # fmt: skip
    return dataclasses.replace(
        tiny,
        corpus=dataclasses.replace(tiny.corpus, calibrate_tokens=500, evaluate_tokens=500, rows_per_document=2),
        simulate=dataclasses.replace(
            tiny.simulate, simulator="last-token", calibrate_positions="last", least_mass=1e-9, llm=llm
        ),
        evaluate=dataclasses.replace(tiny.evaluate, positions="last"),
        limits=LimitsConfig(concurrency=1),
    )


def at(config: Config, url: str) -> Config:
    return dataclasses.replace(
        config,
        simulate=dataclasses.replace(config.simulate, llm=dataclasses.replace(config.simulate.llm, base_url=url)),
    )


@pytest.fixture(scope="module")
def folder(settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("asked") / "run"


@pytest.fixture(scope="module")
def estimated(settings: Config, folder: Path) -> DryRun:
    """Before the run; at the address nobody listens."""
    return dry_run(settings, folder)


@pytest.fixture(scope="module")
def incomplete(settings: Config, folder: Path, estimated: DryRun) -> Iterator[tuple[Server, Config]]:
    """The run, one request in seven failing; the server still there."""
    server = Server(brain=odds, keep_bodies=False)
    server.trouble = lambda path, before, headers: Trouble(500) if before > 30 and before % 7 == 0 else None
    with serve(server):
        config = at(settings, server.url)
        run(config, folder)
        yield server, config


def test_a_dry_run_does_what_asks_nobody_and_sends_nothing(estimated: DryRun, folder: Path) -> None:
    assert [one.stage for one in estimated.estimates] == ["simulate"]
    assert "Explanation: " in estimated.estimates[0].prompt and "<<" in estimated.estimates[0].prompt


@pytest.mark.slow
def test_the_estimate_is_what_the_run_then_asks(
    estimated: DryRun, incomplete: tuple[Server, Config], folder: Path
) -> None:
    (estimate,) = estimated.estimates
    counts = Manifest.load(folder / "simulate" / SITE / "manifest.json").counts
    assert estimate.requests.value == pytest.approx(counts["llm"]["asked"], rel=1e-9)
    cost, _ = llm_costs(folder)
    # Requests that failed cost no tokens: what was answered stands for all.
    answered = cost.spent.asked - sum(cost.spent.faults.values())
    prompt = cost.spent.prompt_tokens * cost.spent.asked / answered
    assert abs(estimate.prompt_tokens.value - prompt) < 4 * estimate.prompt_tokens.error + 0.02 * prompt
    assert estimate.money is not None and cost.money is not None
    assert estimate.money.value == pytest.approx(cost.money * cost.spent.asked / answered, rel=0.05)
    assert 0 < estimate.computed.value <= estimate.prompt_tokens.value


def test_an_incomplete_rewrite_cannot_be_overlooked(incomplete: tuple[Server, Config], folder: Path) -> None:
    counts = Manifest.load(folder / "simulate" / SITE / "manifest.json").counts
    lacking, asked = counts["evaluate_pairs_unanswered"], counts["evaluate_pairs_asked"]
    assert 0 < lacking < asked
    assert Results.read(folder).record("rewritten")["coverage"] == pytest.approx(1 - lacking / asked)
    page = (folder / "report.html").read_text()
    headline = re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)
    record = Results.read(folder).record("rewritten")
    assert record["coverage"] < COVERED and record["p_beats_zero"] is None and record["ce"] > 0
    assert headline is not None and "keeps" not in headline.group(1)
    assert f'<span class="before">Incomplete, verdict {record["withheld"]}.</span>' in headline.group(1)
    manifest = Manifest.load(folder / "simulate" / SITE / "manifest.json")
    lost = {share: {f["latent"] for f in manifest.failures if f["share"] == share} for share in SHARES}
    assert f"this rewrite is incomplete. Of {asked:,}" in page and "are put at 0" in page
    assert f"(server: {len(lost['evaluate']):,} latents)" in page
    (each,) = (failure for failure in failure_counts(folder) if failure.stage == "simulate")
    assert each.latents == len(set.union(*lost.values())) < sum(map(len, lost.values())), "a latent counts once"
    (line,) = re.findall(r"<tr><td>\d+</td><td class=\"word\">simulate</td>.*?</tr>", page, re.DOTALL)[:1]
    of_one = [latent for latent in sorted(set.union(*lost.values())) if f"<td>{latent}</td>" in line]
    assert len(of_one) == 1
    assert re.findall(r"<b>(\w+), server</b>: \d+ \(token, latent\) pair", line) == [
        share for share in SHARES if of_one[0] in lost[share]
    ]
    listed = re.findall(r"<tr><td>(\d+)</td><td class=\"word\">simulate</td>", page)
    assert len(listed) == len(set(listed)) == each.latents, "one line a latent"
    shown = " ".join(CliRunner().invoke(app, ["evaluate", str(folder)]).output.split())
    assert "incomplete (*): of the (latent, token) pairs" in shown and f"verdict {record['withheld']}" in shown
    assert "latents that simulate failed on" in shown and "server" in shown


def test_the_report_says_who_read_the_sentences_and_what_it_cost(
    incomplete: tuple[Server, Config], folder: Path
) -> None:
    page = (folder / "report.html").read_text()
    assert "Explained by rules, simulated by last-token (judge, at 127.0.0.1:" in page
    assert "What was asked of language models" in page and "small in-process model" not in page
    cost, probe = llm_costs(folder)
    assert (cost.stage, cost.model) == ("simulate", "judge")
    assert (probe.stage, probe.model) == ("simulate (probe)", "judge") and "simulate (probe)" in page
    assert probe.spent.requests + cost.spent.requests == incomplete[0].seen.total(), "every request is in the bill"
    assert f"{cost.spent.prompt_tokens:,}" in page and f"{cost.computed:,}" in page
    assert "Of the simulator’s probability" in page
    explained = Manifest.load(folder / "explain" / SITE / "manifest.json").counts["explained"]
    assert Results.read(folder).record("rewritten")["explained"] == explained, "a latent without some answers is one"
    assert {failure.kind for failure in failure_counts(folder) if failure.stage == "simulate"} == {"server"}


def test_what_is_done_is_not_estimated_again(settings: Config, incomplete: tuple[Server, Config], folder: Path) -> None:
    before = incomplete[0].seen.total()
    again = dry_run(incomplete[1], folder)
    assert again.estimates == () and "simulate is done" in again.notes[0]
    assert incomplete[0].seen.total() == before


def test_asked_again_only_what_was_not_answered_is_sent(incomplete: tuple[Server, Config], folder: Path) -> None:
    server, config = incomplete
    server.trouble = lambda path, before, headers: None
    unanswered = Manifest.load(folder / "simulate" / SITE / "manifest.json").counts
    lacking = sum(unanswered[f"{part}_pairs_unanswered"] for part in SHARES)
    results = run(config, folder, force=["simulate"])
    assert results is not None and results.record("rewritten")["coverage"] == 1
    cost, _ = llm_costs(folder)
    assert cost.spent.requests == lacking and not cost.spent.faults
    answered = cost.spent.asked - lacking
    assert cost.spent.from_cache == answered >= cost.spent.earlier_requests > 0
    assert cost.spent.earlier_prompt_tokens > 0 and cost.earlier_money
    page = (folder / "report.html").read_text()
    assert f"{cost.spent.earlier_requests:,} requests, {cost.spent.earlier_prompt_tokens:,} prompt" in page
    shown = " ".join(CliRunner().invoke(app, ["evaluate", str(folder)]).output.split())
    assert "paid earlier (simulate): " in shown
    assert "Incomplete" not in (folder / "report.html").read_text()


def test_what_is_done_needs_no_key(
    incomplete: tuple[Server, Config], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    server, config = incomplete
    llm = dataclasses.replace(config.simulate.llm, key_variable="NO_SUCH_KEY")
    keyed = dataclasses.replace(config, simulate=dataclasses.replace(config.simulate, llm=llm))
    before = server.seen.total()
    assert run(keyed, folder) is not None and server.seen.total() == before
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        run(keyed, folder, force=["simulate"])


def test_a_run_that_asks_nobody_says_so_and_does_nothing(tiny: Config, tmp_path: Path) -> None:
    dry = dry_run(tiny, tmp_path / "run")
    assert dry.estimates == () and "asks no language model" in dry.notes[0]
    assert not (tmp_path / "run").exists()


def test_scoring_a_finished_run_is_estimated_and_nothing_is_sent_or_written(
    settings: Config, copy: Path, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    before = contents(copy)
    llm = settings.simulate.llm
    named = [f"--set=score.llm.{name}={getattr(llm, name)}" for name in ("service", "model", "tokenizer", "base_url")]
    names = ("detection", "fuzzing", "intruder", "surprisal")
    told = CliRunner().invoke(app, ["score", str(copy), "--by", ",".join(names), "--dry-run", *named])
    assert told.exit_code == 0, told.output
    assert "nothing was sent" in told.output and "score: judge" in told.output
    assert contents(copy) == before


@pytest.mark.slow
def test_a_dry_run_passes_the_gate_of_sentences_that_are_written(
    tiny: Config, settings: Config, tmp_path: Path
) -> None:
    """The rules have written them before anything is estimated; fewer pairs are asked about than without a gate."""
    settings = dataclasses.replace(settings, corpus=tiny.corpus)  # documents enough to choose a gate on
    gated = dataclasses.replace(settings.simulate, gate="rules", gate_recall=0.6)
    (open_,) = dry_run(settings, tmp_path / "run").estimates
    (few,) = dry_run(dataclasses.replace(settings, simulate=gated), tmp_path / "run").estimates
    assert 0 < few.requests.value < open_.requests.value


@pytest.mark.slow
def test_a_gate_hides_no_lack_of_answers(settings: Config, tiny: Config, tmp_path: Path) -> None:
    """What it drops was neither asked nor answered: of the pairs that passed alone the coverage is told."""
    simulate = dataclasses.replace(settings.simulate, gate="embedding", gate_recall=0.5)
    settings = dataclasses.replace(settings, corpus=tiny.corpus)
    folder, server = tmp_path / "run", Server(brain=odds, keep_bodies=False)
    server.trouble = lambda path, before, headers: Trouble(500) if before > 30 and before % 2 == 0 else None
    with serve(server):
        run(at(dataclasses.replace(settings, simulate=simulate), server.url), folder, target="evaluate")
    counts = Manifest.load(folder / "simulate" / SITE / "manifest.json").counts
    lacking, asked = counts["evaluate_pairs_unanswered"], counts["evaluate_pairs_asked"]
    assert counts["evaluate_pairs_dropped"] > 0 and 0 < lacking < asked
    record = Results.read(folder).record("rewritten")
    assert record["coverage"] == pytest.approx(1 - lacking / asked)
    assert record["coverage"] < COVERED and record["p_beats_zero"] is None and record["withheld"]
    scoring, _, _ = load_simulation(folder / "simulate" / SITE / "scoring.safetensors")
    scores = json.loads((folder / "calibrate" / SITE / "scores.json").read_text())
    assert scoring.passed is not None and len(scoring.passed) == counts["scoring_pairs_asked"]
    assert 0 < scores["examples_answered"] < scores["examples_asked"] <= counts["scoring_pairs_asked"]
    lost = scores["examples_asked"] - scores["examples_answered"]
    assert 0 < lost <= counts["scoring_pairs_unanswered"]
