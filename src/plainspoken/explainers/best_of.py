"""Best of several: each latent keeps, of several candidates, the sentence that is simulated best on unseen documents.

A quarter of the explain documents is held out: no candidate is written from them. On windows of these, as many in which
the latent fires as in which it does not, the run's own simulator reads every candidate back, and the one whose levels
correlate best with the true activations is kept (Bills et al. 2023, who score explanations so). Every token counts as
many times as it was likely to be drawn, so that a sentence that fires on too much is not spared for the many firings.
The budget of words holds for what is kept.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from plainspoken.corpus.rows import require_part
from plainspoken.corpus.split import hash_order
from plainspoken.errors import ConfigError, CorpusError
from plainspoken.explainers.budget import held_to
from plainspoken.explainers.means import Explain, ExplainMeans, Hear
from plainspoken.language.counted import counted
from plainspoken.language.text import Text
from plainspoken.latents.table import FiringTable
from plainspoken.latents.windows import Windows
from plainspoken.types import Explanation, Failure, Pairs, Rows

if TYPE_CHECKING:
    from plainspoken.explainers.registry import Explainer
else:  # the registry lists this explainer, which looks its candidates up there
    Explainer = Any

NAME = "best_of"
HELD_OUT = 0.25
"""The share of the explain documents that candidates are judged on."""

Candidates = list[Explanation | Failure]


@dataclass(frozen=True, eq=False)
class Divided:
    """The explain text in two, by document: what candidates are `written` from, and what they are judged on.

    `held`: which rows these are. `known`: what each explainer prepared of the first, by its name.
    """

    written: Text
    judged: Text
    held: Bool[np.ndarray, " row"]
    known: dict[str, Any] = field(default_factory=dict)

    def prepared(self, name: str, explainer: "Explainer[Any]") -> Any:
        """What an explainer needs to know of the text that it writes from; made when it is first asked for."""
        if name not in self.known:
            self.known[name] = explainer.prepare(self.written)
        return self.known[name]


def divide(text: Text) -> Divided:
    """Hold a quarter of the documents out, by the hash of their keys, one at least.

    Raises CorpusError for a text of one document.
    """
    rows = text.rows
    documents = sorted(np.unique(rows.document).tolist(), key=lambda d: hash_order(f"best_of\0{rows.keys[d]}"))
    if len(documents) < 2:
        raise CorpusError(
            "best_of judges explanations on documents that they were not written from, and there is only one explain "
            "document; raise corpus.explain_tokens, or give more documents"
        )
    held = np.isin(rows.document, documents[: max(1, round(HELD_OUT * len(documents)))])
    return Divided(_some(text, ~held), _some(text, held), held)


def open_best_of(means: ExplainMeans, named: Callable[[str], "Explainer[Any]"]) -> Explain[Divided]:
    """The explainer at a site. `named`: finds the explainers that write the candidates.

    Candidates of one explainer differ by their seed: they are written from other examples, and at a temperature above 0
    in other words. Raises what opening these raises, and ConfigError where this explainer is named among them.
    """
    names = means.settings.candidates_from
    if NAME in names:
        raise ConfigError(f"explain.candidates_from names {NAME} itself; name the explainers that it chooses among")
    writers = [(names[i % len(names)], i // len(names)) for i in range(means.settings.candidates)]
    opened = [(name, named(name), named(name).opens(replace(means, seed=means.seed + i))) for name, i in writers]

    def explain(
        table: FiringTable,
        divided: Divided,
        weight: Float[np.ndarray, " latents"],
        words: int,
        words_max: int,
        progress: Callable[[int], object] | None = None,
    ) -> Candidates:
        require_part(table.rows, "explain")
        assert means.hear is not None, "an explainer that chooses by simulation is given a simulator"
        written, held = table.among(~divided.held), table.among(divided.held)
        candidates = [
            write(written, divided.prepared(name, explainer), weight, words, words_max, progress)
            for name, explainer, write in opened
        ]
        several = [sum(isinstance(c, Explanation) for c in each) > 1 for each in zip(*candidates, strict=True)]
        sample = draw_sample(held, np.flatnonzero(several), means.settings.held_out, means.settings.window, means.seed)
        judged = [judge(each, held.latents, divided.judged, sample, means.hear) for each in candidates]
        kept = within_budget(list(zip(*candidates, strict=True)), list(zip(*judged, strict=True)), words)
        for failure in _beside(kept, candidates, judged):
            means.lost(failure)
        return kept

    return explain


@dataclass(frozen=True, eq=False)
class Sample:
    """(position, latent) pairs, sorted so, with the true activation and how many tokens each stands for."""

    pairs: Pairs
    true: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]

    def of(self, chosen: Bool[np.ndarray, " n"]) -> "Sample":
        """Some of the pairs."""
        return Sample(
            Pairs(self.pairs.position[chosen], self.pairs.latent[chosen]), self.true[chosen], self.weight[chosen]
        )


def draw_sample(table: FiringTable, latents: Int[np.ndarray, " some"], count: int, window: int, seed: int) -> Sample:
    """For each latent that fires here at all the tokens of `count` windows in which it fires and of as many others."""
    windows = Windows(table, window)
    position, latent, true, weight = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)], [np.zeros(0)]
    for each in latents.tolist():
        generator = np.random.default_rng([seed, each, 1])
        firing = windows.firing(each)
        if not len(firing):
            continue
        for places in (firing, windows.silent(each)):
            for place in generator.choice(places, min(count, len(places)), replace=False).tolist():
                text = windows.tokens_of(place)
                position.append(text)
                latent.append(np.full(len(text), each))
                true.append(windows.activations(each, text).astype(np.float64))
                weight.append(np.full(len(text), len(places) / min(count, len(places))))
    columns = [np.concatenate(column) for column in (position, latent, true, weight)]
    order = np.lexsort((columns[1], columns[0]))
    position, latent, true, weight = (column[order] for column in columns)
    return Sample(Pairs(position, latent), true, weight)


@dataclass(frozen=True)
class Judged:
    """`score`: the correlation of a candidate, None where it is not defined. `unreadable`: why it could not be read.

    `unanswered`: what the simulator did not answer about it.
    """

    score: float | None = None
    unreadable: str | None = None
    unanswered: Failure | None = None

    @property
    def worth(self) -> float:
        """The score; where it is not defined, that of the worst."""
        return -1.0 if self.score is None else self.score


def judge(
    candidates: Sequence[Explanation | Failure], latents: int, text: Text, sample: Sample, hear: Hear
) -> list[Judged]:
    """Each latent's candidate against the truth, where the simulator answered about all of its pairs."""
    found = [Judged()] * latents
    asked = np.isin(sample.pairs.latent, [c.latent for c in candidates if isinstance(c, Explanation)])
    sample = sample.of(asked)
    if not len(sample.pairs):
        return found
    drawn = set(sample.pairs.latent.tolist())
    sentences = {c.latent: c.text for c in candidates if isinstance(c, Explanation) and c.latent in drawn}
    simulation, failures = hear(sentences, latents, text, sample.pairs)

    def keys(position: Int[np.ndarray, "*n"], latent: Int[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
        return position.astype(np.int64) * latents + latent

    here, said = keys(sample.pairs.position, sample.pairs.latent), keys(simulation.position, simulation.latent)
    level = np.zeros(len(here))
    if len(said):
        at = np.minimum(np.searchsorted(said, here), len(said) - 1)
        level = np.where(said[at] == here, simulation.level[at], 0.0)
    own = np.argsort(sample.pairs.latent, kind="stable")
    spoken, first = np.unique(sample.pairs.latent[own], return_index=True)
    for latent, at in zip(spoken.tolist(), np.split(own, first[1:]), strict=False):
        found[latent] = Judged(correlation(level[at], sample.true[at], sample.weight[at]))
    for failure in failures:
        if failure.kind is None:
            found[failure.latent] = Judged(unreadable=failure.reason)
        else:  # judged on fewer tokens than the others it could not be compared with them
            found[failure.latent] = Judged(unanswered=failure)
    return found


def correlation(
    level: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"]
) -> float | None:
    """Pearson's, every token counted by its weight; None where either side does not vary."""
    if not len(level) or np.ptp(level) == 0 or np.ptp(true) == 0:
        return None
    covariance = np.cov(level, true, aweights=weight, ddof=0)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def choose(candidates: Sequence[Explanation | Failure], judged: Sequence[Judged]) -> Explanation | Failure:
    """The readable candidate with the best score; of equals, and where none has a score, the first.

    A latent that does not fire on the held-out documents has no scores. Where no candidate could be written, none could
    be read by the simulator, or one got no answer from it, the failure says why.
    """
    if unanswered := next((found.unanswered for found in judged if found.unanswered is not None), None):
        reason = f"the candidates cannot be compared, since the simulator did not answer for one: {unanswered.reason}"
        return Failure(candidates[0].latent, "explain", reason, kind=unanswered.kind)
    best: tuple[float, Explanation] | None = None
    for candidate, found in zip(candidates, judged, strict=True):
        if isinstance(candidate, Failure) or found.unreadable is not None:
            continue
        score = -np.inf if found.score is None else found.score
        if best is None or score > best[0]:
            best = (score, candidate)
    if best is not None:
        return _kept(best[1])
    failed = next((c for c in candidates if isinstance(c, Failure)), None)
    latent = candidates[0].latent
    unread = next((found.unreadable for found in judged if found.unreadable is not None), None)
    if unread is not None:
        return Failure(latent, "explain", f"the simulator can read none of the candidates: {unread}", kind="parse")
    assert failed is not None
    return replace(failed, reason=f"none of {counted(len(candidates), 'candidate')} could be written: {failed.reason}")


def within_budget(
    candidates: Sequence[Sequence[Explanation | Failure]], judged: Sequence[Sequence[Judged]], words: int
) -> Candidates:
    """What is chosen for each latent, shorter candidates where all together would have more than `words` in the mean.

    These stand where a word that is saved costs the least score. Where that is not enough the longest are given up.
    """
    found = {i: choose(several, scores) for i, (several, scores) in enumerate(zip(candidates, judged, strict=True))}
    swaps: list[tuple[float, int, Explanation]] = []
    for latent, best in found.items():
        if isinstance(best, Explanation):
            pairs = zip(candidates[latent], judged[latent], strict=True)
            read = [(e, s) for e, s in pairs if isinstance(e, Explanation) and s.unreadable is None]
            most = max(score.worth for _, score in read)
            swaps += [
                ((most - score.worth) / (best.words - other.words), latent, other)
                for other, score in read
                if other.words < best.words
            ]
    spoken = [e.words for e in found.values() if isinstance(e, Explanation)]
    spare = words * len(spoken) - sum(spoken)
    for _, latent, other in sorted(swaps, key=lambda swap: swap[:2]):
        now = found[latent]
        if spare < 0 and isinstance(now, Explanation) and other.words < now.words:
            spare += now.words - other.words
            found[latent] = _kept(other)
    return list(held_to(found, words).values())


def _beside(
    kept: Candidates, candidates: Sequence[Candidates], judged: Sequence[Sequence[Judged]]
) -> Iterator[Failure]:
    """The candidates that could not be written, or not be read, of latents that have a sentence all the same."""
    for several, scores in zip(candidates, judged, strict=True):
        for latent, (candidate, score) in enumerate(zip(several, scores, strict=True)):
            if isinstance(kept[latent], Failure):
                continue
            if isinstance(candidate, Failure):
                yield candidate
            elif score.unreadable is not None:
                yield Failure(latent, "explain", score.unreadable, kind="not read")


def _kept(candidate: Explanation) -> Explanation:
    return replace(candidate, explainer=f"{NAME} {candidate.explainer}")


def _some(text: Text, chosen: Bool[np.ndarray, " row"]) -> Text:
    rows = text.rows
    some = Rows(rows.tokens[chosen], rows.mask[chosen], rows.document[chosen], rows.keys, rows.part)
    return Text(some, text.pieces, text.how)
