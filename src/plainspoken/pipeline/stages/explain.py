"""Explain: every latent of a site in words, from the explain rows alone."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from plainspoken.config import Config
from plainspoken.evaluate import SiteFacts
from plainspoken.explainers import OPTIONAL, explainer_named
from plainspoken.pipeline import explanations
from plainspoken.pipeline.llm_settings import llm_settings_unread
from plainspoken.pipeline.shelves import load_rows, load_statistics, load_table
from plainspoken.pipeline.speech import explain_latents, explain_means
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.stages import simulate
from plainspoken.pipeline.workplace import Workplace
from plainspoken.types import Explanation, Failure


def check(workplace: Workplace) -> None:
    """ConfigError where there is no such explainer."""
    explainer_named(workplace.config.explain.explainer)


def asks(workplace: Workplace) -> None:
    """LlmError or ConfigError where the language model that is to be asked cannot answer what it will be."""
    explainer = explainer_named(workplace.config.explain.explainer)
    explainer.opens(explain_means(workplace))


def unread(config: Config) -> tuple[str, ...]:
    """What this explainer does not rest on: settings of others, how a language model is reached, all of it for one that
    asks none; the simulator's, unless it judges the explanations. And `explain.latents` where it is all of them: a run
    made before there was such a setting is the same."""
    explainer = explainer_named(config.explain.explainer)
    others = sorted(OPTIONAL - explainer.reads(config.explain))
    simulator = (*simulate.unread(config), "simulate.calibrate_positions") if explainer.hears else ("simulate",)
    asked = llm_settings_unread("explain", explainer.needs_llm)
    drawn = () if config.explain.latents else ("explain.latents",)
    return (*asked, *(f"explain.{name}" for name in others), *simulator, *drawn)


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes as_written.jsonl and explanations.jsonl at each site; failures are latents that could not be explained."""
    rows = load_rows(workplace, "explain")
    config = workplace.config.explain
    for unit in units:
        assert unit.site is not None
        table = load_table(workplace, unit.site, rows)
        _, weight = load_statistics(workplace, unit.site, "explain")
        lost: list[Failure] = []
        found = explain_latents(workplace, unit.site, table, weight, config.words, config.words_max, lost.append)
        written = sorted((f for f in found if isinstance(f, Explanation)), key=lambda e: e.latent)
        explanations.write_explanations(workplace.path("explain", unit.site), written)
        facts = SiteFacts.of([e.words for e in written], table.latents)
        judging = {f"{name}_judging": spent for name, spent in workplace.llm_spent("simulate").items()}
        kinds = Counter(str(failure.kind) for failure in lost)
        beside = {"candidates_failed": dict(kinds)} if kinds else {}
        counts = {**asdict(facts), **workplace.llm_spent("explain"), **judging, **beside}
        yield Outcome(unit, counts, [f for f in found if isinstance(f, Failure)])
