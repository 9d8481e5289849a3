"""Score: the sentences of a site by each scorer that is asked for, on documents of the calibrate part of their own.

Beside each stands its control: of some latents the same examples, scored by another latent's sentence.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from plainspoken.config import Config, ScoreConfig
from plainspoken.errors import ConfigError
from plainspoken.evaluate.statistics import samples, with_intervals
from plainspoken.pipeline import explanations
from plainspoken.pipeline.llm_settings import llm_settings_unread
from plainspoken.pipeline.shelves import latents_of, load_table, save_judged, scoring_rows
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.workplace import Workplace
from plainspoken.scorers import (
    MEASURES,
    Judged,
    JudgedScores,
    Score,
    Scored,
    ScoreMeans,
    Windows,
    ranking,
    scorer_named,
    site_differences,
    site_means,
)
from plainspoken.store import write_json

_CONTROL = 0xC0
_SUBSAMPLE = 0x5B


def check(workplace: Workplace) -> None:
    """ConfigError for a scorer that there is not or that is named twice, and for a ranking by none of them."""
    score = workplace.config.score
    for name in score.scorers:
        scorer_named(name)
    if len({*score.scorers}) < len(score.scorers):
        raise ConfigError(f"score.scorers names one twice: {', '.join(score.scorers)}; name each once")
    ranking(score.rank_by, score.scorers)


def reaches(workplace: Workplace) -> None:
    """ConfigError where the language model that is to judge cannot be reached as it is set."""
    if any(scorer_named(name).needs == "llm" for name in workplace.config.score.scorers):
        workplace.llms.require_reachable("score")


def parts(workplace: Workplace) -> tuple[str, ...]:
    """SITE/SCORER for each that is asked for; where none is, nothing is looked at."""
    scorers = workplace.config.score.scorers
    return tuple(f"{site.module}/{scorer}" for site in workplace.sites for scorer in scorers) if scorers else ()


def asks(workplace: Workplace) -> None:
    """LlmError or ConfigError where what is to be asked cannot answer."""
    for name in workplace.config.score.scorers:
        opened_scorer(workplace, name)


def unread_at(config: Config, part: str) -> tuple[str, ...]:
    """Which others score beside it, by what latents are ranked, and what this one does not ask."""
    scorer = scorer_named(part.rpartition("/")[2])
    asked = llm_settings_unread("score", scorer.needs == "llm")
    return ("score.scorers", "score.rank_by", *asked, *(("score.embedder",) if scorer.needs == "llm" else ()))


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes judged.safetensors, control.safetensors (where there is one) and scores.json for each site and scorer."""
    config, rows = workplace.config, scoring_rows(workplace)
    weights = samples(len(rows.keys), config.evaluate.bootstrap, config.seed)
    for unit in units:
        assert unit.site is not None
        module, _, scorer = unit.site.rpartition("/")
        folder, latents = workplace.path(unit.stage, unit.site), latents_of(workplace, module)
        written = explanations.read_explanations(workplace.path("explain", module), latents)
        sentences = {
            latent: written[latent].text for latent in _drawn(list(written), config.score.latents, config.seed)
        }
        windows = Windows(
            load_table(workplace, module, rows), config.score.per_decile, config.score.silent, config.score.window,
            config.seed,
        )  # fmt: skip
        score = opened_scorer(workplace, scorer)
        with workplace.progress.track(f"scoring {module} by {scorer} (latents)", len(sentences)) as tick:
            own = score(sentences, windows, workplace.lm.pieces.table, tick)
        # Of latents that could be asked about: a control of others would be none.
        could = {latent: sentences[latent] for latent in np.flatnonzero(own.judged.asked).tolist()}
        others, control = _handed_round(could, config.score, config.seed), None
        if others:
            with workplace.progress.track(f"scoring others' sentences by {scorer} (latents)", len(others)) as tick:
                control = score(others, windows, workplace.lm.pieces.table, tick)
        save_judged(folder / "judged.safetensors", own.judged)
        if control is not None:
            save_judged(folder / "control.safetensors", control.judged)
        record = {"site": module, "scorer": scorer, "documents": len(rows.keys), **_told(own, control, weights)}
        write_json(folder / "scores.json", record)
        yield Outcome(unit, {**record, **workplace.llms.spent("score")}, own.failures)


def opened_scorer(workplace: Workplace, name: str) -> Score:
    """The scorer, what it asks tried."""
    scorer, config = scorer_named(name), workplace.config

    def opens() -> Score:
        if scorer.needs == "llm":
            return scorer.opens(ScoreMeans(config.score, workplace.llms.of("score")))
        return scorer.opens(ScoreMeans(config.score, embed=_embedder(workplace)))

    return workplace.remembered(f"{name} scorer", opens)


def _embedder(workplace: Workplace):
    from plainspoken.lm import load_lm
    from plainspoken.scorers.embedding import hidden_states

    config = workplace.config
    with workplace.progress.track("loading the model that makes vectors of texts", None):
        return hidden_states(load_lm(config.score.embedder, device=config.lm.device, dtype=config.lm.dtype))


def _drawn(latents: Sequence[int], most: int, seed: int) -> list[int]:
    """So many of the latents at random (0: all), in order."""
    return sorted(_lots(latents, seed, _SUBSAMPLE)[: most or None])


def _lots(latents: Iterable[int], seed: int, salt: int) -> list[int]:
    """The latents by lot. Each draws its own: one more or less leaves the order of the others as it is."""
    return sorted(latents, key=lambda latent: np.random.default_rng([seed, salt, latent]).random())


def _handed_round(sentences: Mapping[int, str], config: ScoreConfig, seed: int) -> dict[int, str]:
    """Some latents with the sentence of the one before in a cycle through all of them, so that none keeps its own.

    None where there is no control to be, or fewer than two have a sentence.
    """
    if not config.control or len(sentences) < 2:
        return {}
    cycle = _lots(sentences, seed, _CONTROL)
    handed = {latent: sentences[cycle[place - 1]] for place, latent in enumerate(cycle)}
    return {latent: handed[latent] for latent in sorted(cycle[: config.control_latents or None])}


def _told(own: Scored, control: Scored | None, weights: np.ndarray) -> dict[str, Any]:
    """Site means over their intervals; of the control too, and how far the same latents' own sentences are above it."""
    found = _means(own.judged, weights) | _counts(own)
    if control is None:
        return found | {"control": None, "above_control": None}
    above = site_differences(own.judged, control.judged, weights)
    return found | {
        "control": _means(control.judged, weights) | _counts(control),
        "above_control": with_intervals(above),
    }


def _means(judged: Judged, weights: np.ndarray) -> dict[str, Any]:
    return with_intervals(site_means(judged, weights))


def _counts(scored: Scored) -> dict[str, Any]:
    """How many latents and examples were asked about and answered, and how often each fault left one unanswered.

    `defined`: of how many latents each measure is; the others are in no mean.
    """
    judged = scored.judged
    scores = JudgedScores.of(judged)
    return {
        "latents": int((judged.asked > 0).sum()),
        "defined": {name: int(getattr(scores, name).defined.sum()) for name in MEASURES},
        "examples_asked": int(judged.asked.sum()),
        "examples_answered": int(judged.answered.sum()),
        "examples_unanswered": dict(scored.unanswered),
    }
