"""A study's score: what was known when, and how well each hypothesis foretells the latent on documents of its own."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plainspoken.calibrators import Evidence, calibrator_named
from plainspoken.errors import ConfigError, LlmError
from plainspoken.evaluate.statistics import samples, with_intervals
from plainspoken.latents import FiringTable
from plainspoken.latents.paired import Paired
from plainspoken.pipeline.shelves import calibrate_rows, load_table, scoring_rows
from plainspoken.pipeline.speech import simulate_latents, unread_latents
from plainspoken.pipeline.stages.calibrate import maximum
from plainspoken.pipeline.study import Study, timeline
from plainspoken.pipeline.workplace import Workplace
from plainspoken.scorers.by_document import simulation_means
from plainspoken.store import write_json
from plainspoken.store.manifest import versions
from plainspoken.types import Failure, Rows, Simulation

SCORE = "score.json"
MEASURES = ("correlation", "auprc")
_CONTROL = 0xC7


@dataclass(frozen=True)
class Scored:
    """A sentence with its scores over their intervals, or why there are none (`lacks`). `text`: None while hidden."""

    what: str
    text: str | None
    measures: Mapping[str, float | None] | None
    lacks: str | None = None


@dataclass(frozen=True)
class StudyScore:
    """The score of a study, and where it was written."""

    timeline: tuple[str, ...]
    hypotheses: tuple[Scored, ...]
    explanation: Scored
    control: Scored


def score_study(study: Study) -> StudyScore:
    """Score every hypothesis that the run's simulator reads, beside the run's own sentence for the latent and another
    latent's; logged, and written as score.json, the run's sentence only where it was revealed.

    All are treated alike: simulated without a gate, calibrated on the calibrate documents, scored on the scoring ones;
    intervals are 95 % bootstrap intervals over documents.
    """
    written = [entry for entry in study.log.entries if entry.kind == "hypothesis"]
    sentences = {n: e.text for n, e in study.circuits.sentences(study.site).items()}
    other = _another(sentences, study.subject.latent, study.log.opened["seed"])
    own = sentences.get(study.subject.latent)
    texts = [*(entry.what["text"] for entry in written), own, None if other is None else sentences[other]]
    shown = {"explanation", "everything"} & {*study.log.known().revealed}
    hidden = {len(written) + 1} if shown else {len(written), len(written) + 1}
    with study.workplace.locked(wait=True):  # what it asks is let go of at the end
        found = measured(study.workplace, study.site.module, study.subject.latent, texts, hidden)
        spent = study.workplace.llms.spent("simulate")
    labels = [f"{entry.number} ({study.log.known(entry.number).told})" for entry in written]
    scored = [
        Scored(label, entry.what["text"], *each) for label, entry, each in zip(labels, written, found[:-2], strict=True)
    ]
    explanation = Scored("the run's own sentence", own if shown else None, *found[-2])
    control = Scored("another latent's sentence" + ("" if other is None else f" ({other}'s)"), None, *found[-1])
    study.add("score", {"hypotheses": [entry.number for entry in written]})
    score = StudyScore(tuple(timeline(study.log)), tuple(scored), explanation, control)
    write_json(study.folder / SCORE, {**_record(study, score), **spent})
    return score


def measured(
    workplace: Workplace, module: str, latent: int, texts: Sequence[str | None], hidden: Collection[int]
) -> list[tuple[dict[str, float | None] | None, str | None]]:
    """(scores, None) of each sentence as one about this latent, or (None, why it has none).

    `hidden`: of which sentences the reason must not quote a word.
    """
    said = {i: text for i, text in enumerate(texts) if text is not None}
    lacks: dict[int, str] = {i: "the run has no such sentence" for i in range(len(texts)) if i not in said}
    rows, fitted = scoring_rows(workplace), calibrate_rows(workplace)
    try:
        heard, failures = _simulated(workplace, said, len(texts), rows)
        learned, more = _simulated(workplace, said, len(texts), fitted)
    except (LlmError, ConfigError) as error:  # nobody answers, which is no score
        return [(None, "no simulator answers" if i in hidden else str(error)) for i in range(len(texts))]
    reasons = {failure.latent: failure.reason for failure in (*failures, *more)}
    name = workplace.config.simulate.simulator
    for i in unread_latents([*failures, *more]):
        lacks[i] = f"the run's simulator ({name}) does not read it"
        if i not in hidden:
            lacks[i] += f": {reasons[i]}; write it down anew as it would, e.g. Fires at 9 on “her” after “with”."
    truth, other = (_repeated(load_table(workplace, module, r), latent, len(texts)) for r in (rows, fitted))
    largest = np.full(len(texts), maximum(workplace, module)[latent])
    calibration = calibrator_named(workplace.config.calibrate.calibrator).fit(Evidence.over(learned, other), largest)
    paired, weights = (
        Paired.of(heard, truth),
        samples(len(rows.keys), workplace.config.evaluate.bootstrap, workplace.config.seed),
    )
    found: list[tuple[dict[str, float | None] | None, str | None]] = []
    for i in range(len(texts)):
        if i in lacks:
            found.append((None, lacks[i]))
            continue
        means = simulation_means(paired, None, rows, np.array([i]), calibration.apply, weights).own
        record = with_intervals({measure: means[measure] for measure in MEASURES})
        undefined = all(record[measure] is None for measure in MEASURES)
        found.append((None, _UNDEFINED) if undefined else (record, None))
    return found


_UNDEFINED = (
    "nothing is defined: the latent fires nowhere in the scoring documents; give the run more text, or a larger "
    "score.share"
)


def _simulated(workplace: Workplace, texts: Mapping[int, str], n: int, rows: Rows) -> tuple[Simulation, list[Failure]]:
    return simulate_latents(workplace, texts, n, rows, f"simulating the sentences on the {rows.part} part")


def _repeated(table: FiringTable, latent: int, n: int) -> FiringTable:
    """A table of n latents that all fire as this one does."""
    position, value = map(np.asarray, table.latent(latent))
    pointer = np.arange(n + 1) * len(position)
    return FiringTable(pointer, np.tile(position, n), np.tile(value, n), table.rows)


def _another(sentences: Mapping[int, str], latent: int, seed: int) -> int | None:
    """Another latent with another sentence, by lot; None where there is none."""
    others = sorted(n for n, text in sentences.items() if n != latent and text != sentences.get(latent))
    return int(np.random.default_rng([seed, latent, _CONTROL]).choice(others)) if others else None


def _record(study: Study, score: StudyScore) -> dict[str, Any]:
    def told(each: Scored) -> dict[str, Any]:
        text = {} if each.text is None else {"text": each.text}
        return {"what": each.what, **text, **({"not_measured": each.lacks} if each.measures is None else each.measures)}

    return {
        "study": dict(study.log.opened),
        "log_sha256": study.log.head.sha256,
        "timeline": list(score.timeline),
        "hypotheses": [told(each) for each in score.hypotheses],
        "explanation": told(score.explanation),
        "control": told(score.control),
        "intervals": "95 %, bootstrap over the scoring documents",
        "documents": len(scoring_rows(study.workplace).keys),
        "simulator": study.workplace.config.simulate.simulator,
        "calibrator": study.workplace.config.calibrate.calibrator,
        "bootstrap": study.workplace.config.evaluate.bootstrap,
        "versions": versions(),
    }
