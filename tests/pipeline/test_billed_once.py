"""However a run is brought up, verb by verb or killed between, its bill is what the server counted: nothing twice."""

import dataclasses
from pathlib import Path

import pytest

from llm.server import Server, Trouble, serve
from pipeline.test_explainers import begun
from pipeline.test_kill_asked import SITE, bill, killed_at, stage_of
from plainspoken.config import Config
from plainspoken.errors import LlmError
from plainspoken.llm import Spent
from plainspoken.pipeline import run
from plainspoken.pipeline.asked import llm_costs
from told_run import telling, told_config


def with_budgets(config: Config, *budgets: int) -> Config:
    return dataclasses.replace(config, report=dataclasses.replace(config.report, frontier=budgets))


def counted(told: Spent) -> tuple[int, int]:
    """(requests, prompt tokens) of a bill, whenever they were paid."""
    return told.requests + told.earlier_requests, told.prompt_tokens + told.earlier_prompt_tokens


@pytest.mark.slow
def test_a_run_brought_up_verb_by_verb_is_billed_as_one(
    tiny: Config, finished: Path, assistant: Path, tmp_path: Path
) -> None:
    """At 20 words, the run's own, the frontier asks again what explain and simulate have in their bills."""
    with serve(telling()) as server:
        config, folder = told_config(tiny, server.url, assistant), begun(finished, tmp_path / "run")
        for target in ("explain", "simulate", "calibrate"):
            run(config, folder, target=target)
        run(with_budgets(config, 15, 20), folder, target="frontier")
        assert counted(bill(folder)) == (server.seen.total(), server.sent)
        assert not bill(folder).earlier_requests


@pytest.mark.slow
def test_a_verb_between_two_attempts_is_billed_once(
    tiny: Config, finished: Path, assistant: Path, tmp_path: Path
) -> None:
    with serve(telling()) as server:
        config = with_budgets(told_config(tiny, server.url, assistant), 20)
        folder = begun(finished, tmp_path / "run")
        killed_at(server, "simulate", 20, config, folder)
        run(config, folder, target="explain")
        run(config, folder, target="frontier")
        assert counted(bill(folder)) == (server.seen.total() - 1, server.sent)
        assert bill(folder).earlier_requests > 0


@pytest.mark.slow
def test_another_budget_of_a_finished_run_is_billed_for_what_it_asks(
    tiny: Config, finished: Path, assistant: Path, tmp_path: Path
) -> None:
    with serve(telling()) as server:
        config, folder = told_config(tiny, server.url, assistant), begun(finished, tmp_path / "run")
        run(config, folder, target="frontier")
        for budgets in ((20,), (15, 20)):
            before = server.seen.total()
            run(with_budgets(config, *budgets), folder, target="frontier")
            frontier = [cost.spent for cost in llm_costs(folder) if cost.stage.startswith("frontier")]
            assert sum(spent.requests for spent in frontier) == server.seen.total() - before
            assert not any(spent.earlier_requests for spent in frontier)


def test_what_is_made_anew_may_have_been_altered(tiny: Config, finished: Path, assistant: Path, tmp_path: Path) -> None:
    """With a bill of an attempt that ended early beside it."""
    with serve(telling()) as server:
        config, folder = told_config(tiny, server.url, assistant), begun(finished, tmp_path / "run")
        gone_while_simulating(server, config, folder)
        manifest = folder / "explain" / SITE / "manifest.json"
        manifest.write_text(manifest.read_text()[:50])
        before = server.seen.total()
        run(config, folder, target="explain", force=["explain"])
        anew = [cost.spent for cost in llm_costs(folder) if cost.stage == "explain"]
        assert sum(spent.earlier_requests for spent in anew) > 0, "out of the cache, and no longer in another bill"
        assert server.seen.total() > before, "the probes"


def gone_while_simulating(server: Server, config: Config, folder: Path) -> None:
    """The run, until the server answers no more."""
    server.trouble = lambda path, before, headers: (
        Trouble(drop=True) if stage_of(server.bodies[-1]) == "simulate" else None
    )
    with pytest.raises(LlmError, match="the server is gone"):
        run(config, folder)
    server.trouble = lambda path, before, headers: None
