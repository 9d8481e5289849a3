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
from plainspoken.pipeline.speech import NOT_CHOSEN, explain_latents, explain_means
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.stages import simulate
from plainspoken.pipeline.workplace import Workplace
from plainspoken.types import Explanation, Failure


def check(workplace: Workplace) -> None:
    """ConfigError where there is no such explainer."""
    explainer_named(workplace.config.explain.explainer)


def reaches(workplace: Workplace) -> None:
    """ConfigError where the language models that are to be asked, or to judge, cannot be reached as they are set."""
    explainer = explainer_named(workplace.config.explain.explainer)
    if explainer.needs_llm:
        workplace.llms.require_reachable("explain")
    if explainer.hears:
        simulate.reaches(workplace)


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
    judged = explainer_named(config.explainer).hears
    for unit in units:
        assert unit.site is not None
        table = load_table(workplace, unit.site, rows)
        _, weight = load_statistics(workplace, unit.site, "explain")
        lost: list[Failure] = []
        found = explain_latents(workplace, unit.site, table, weight, config.words, config.words_max, lost.append)
        written = sorted((f for f in found if isinstance(f, Explanation)), key=lambda e: e.latent)
        explanations.write_explanations(workplace.path("explain", unit.site), written)
        failures = [f for f in found if isinstance(f, Failure)]
        if not written and (why := [failure for failure in failures if failure.kind != NOT_CHOSEN]):
            kind, count = Counter(str(failure.kind) for failure in why).most_common(1)[0]
            first = next(failure.reason for failure in why if str(failure.kind) == kind)
            workplace.progress.warn(
                f"{unit.site}: no latent has a sentence, so that there is nothing to read back ({kind}: {count}; the "
                f"first: {first}); mend that, then go on with --force explain"
            )
        facts = asdict(SiteFacts.of([e.words for e in written], table.latents))
        facts |= {"not_chosen": sum(failure.kind == NOT_CHOSEN for failure in failures)}
        facts = {name: value for name, value in facts.items() if not name.startswith("firings")}  # known at evaluate
        judging = workplace.llms.spent("simulate", "llm_judging") if judged else {}
        kinds = Counter(str(failure.kind) for failure in lost)
        beside = {"candidates_failed": dict(kinds)} if kinds else {}
        counts = {**facts, **workplace.llms.spent("explain"), **judging, **beside}
        yield Outcome(unit, counts, failures)
