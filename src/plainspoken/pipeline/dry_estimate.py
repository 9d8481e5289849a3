"""What a stage would ask of language models: its own code over a sample, with a wire that sends nothing, scaled up."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from plainspoken.config import LlmServiceConfig
from plainspoken.llm import Chat, Completion, NextToken
from plainspoken.llm.dry import DryWire
from plainspoken.llm.open import Llm
from plainspoken.pipeline.asked import SECTIONS, Section, service_of
from plainspoken.pipeline.dry_groups import GROUPS, WAYS, Group
from plainspoken.pipeline.workplace import Workplace
from plainspoken.types import Site

ENOUGH_S = 40.0
"""Two groups are enough where they take longer than so many seconds."""

Figures = Float[np.ndarray, " 4"]
"""Requests, prompt tokens, computed ones, answer tokens."""


@dataclass(frozen=True)
class Figure:
    """An estimate and its standard error; no error where nothing was left out."""

    value: float
    error: float

    def times(self, count: float) -> "Figure":
        """So many of them, each as much."""
        return Figure(self.value * count, self.error * count)


@dataclass(frozen=True)
class Estimate:
    """What a stage would ask of a model. `answers`: tokens, at their longest. `money`: None where no price is set.

    `section`: of the settings that names the model. `prompt`: one of the prompts, as text, in the model's own template.
    """

    stage: str
    section: Section
    model: str
    requests: Figure
    prompt_tokens: Figure
    computed: Figure
    answers: Figure
    money: Figure | None
    prompt: str

    def times(self, count: float, stage: str) -> "Estimate":
        """Of a stage that asks this so many times; none of its prompts is known."""
        requests, prompt, computed, answers = (
            figure.times(count) for figure in (self.requests, self.prompt_tokens, self.computed, self.answers)
        )
        money = None if self.money is None else self.money.times(count)
        return Estimate(stage, self.section, self.model, requests, prompt, computed, answers, money, "")


@dataclass(frozen=True)
class Shown:
    """A prompt of a stage that asks nothing now, since it is done."""

    stage: str
    model: str
    prompt: str


def estimates_of(workplace: Workplace, stage: str, sites: Sequence[Site]) -> Iterator[Estimate]:
    """Of one stage, over these sites: one for each model that it asks."""
    means: dict[Section, Figures] = {}
    variances: dict[Section, Figures] = {}
    for site in sites:
        for groups in WAYS[stage](workplace, site.module):
            for section, drawn in _drawn(workplace, groups, f"estimating what {stage} asks").items():
                several = len(drawn) > 1
                error = drawn.std(axis=0, ddof=1) / len(drawn) ** 0.5 if several else np.zeros(4)
                means[section] = means.get(section, np.zeros(4)) + drawn.mean(axis=0)
                variances[section] = variances.get(section, np.zeros(4)) + np.square(error)
    for section, mean in means.items():
        service = service_of(workplace.config, section)
        yield _estimate(stage, section, service, mean, np.sqrt(variances[section]), workplace.llms.of(section))


def prompts_of(workplace: Workplace, stage: str) -> Iterator[Shown]:
    """One prompt of a stage to each model that it asks, where there is anything to ask."""
    for site in workplace.sites:
        asked = set[Section]()
        for groups in WAYS[stage](workplace, site.module):
            if (group := next(groups, None)) is not None:
                group.ask()
                asked |= {section for section in SECTIONS if workplace.llms.spent(section)}
        for section in SECTIONS:
            if section in asked:
                model = service_of(workplace.config, section).model
                yield Shown(stage, model, _last(workplace.llms.of(section)))
        if asked:
            return


def _drawn(workplace: Workplace, groups: Iterator[Group], label: str) -> dict[Section, Float[np.ndarray, "group 4"]]:
    """Each group's figures scaled to the whole, by the section whose model was asked."""
    rows: list[dict[Section, Figures]] = []
    began = time.monotonic()
    with workplace.progress.track(label, GROUPS) as advance:
        for group in groups:
            group.ask()
            row: dict[Section, Figures] = {}
            for section in SECTIONS:
                for spent in workplace.llms.spent(section).values():
                    row[section] = group.scale * _figures(spent)
            rows.append(row)
            advance(1)
            if len(rows) >= 2 and time.monotonic() - began > ENOUGH_S:
                break
    found: dict[Section, Float[np.ndarray, "group 4"]] = {}
    for section in SECTIONS:
        if any(section in row for row in rows):
            found[section] = np.stack([row.get(section, np.zeros(4)) for row in rows])
    return found


def _figures(spent: Mapping[str, float]) -> Figures:
    prompt, cached = spent["prompt_tokens"], spent["cached_tokens"]
    return np.array([spent["requests"], prompt, prompt - cached, spent["completion_tokens"]], np.float64)


def _estimate(
    stage: str, section: Section, service: LlmServiceConfig, mean: Figures, error: Figures, llm: Llm
) -> Estimate:
    requests, prompt, computed, answers = map(Figure, mean.tolist(), error.tolist())
    money = _money(service, prompt, answers)
    return Estimate(stage, section, service.model, requests, prompt, computed, answers, money, _last(llm))


def _money(service: LlmServiceConfig, prompt: Figure, answers: Figure) -> Figure | None:
    """Prompts and answers vary together: their errors are added, not their squares."""
    if not service.price_in and not service.price_out:
        return None
    parts = ((prompt.value, answers.value), (prompt.error, answers.error))
    return Figure(*((read * service.price_in + said * service.price_out) / 1e6 for read, said in parts))


def _last(llm: Llm) -> str:
    """The request that came last, as the model is given it, its special tokens written out."""
    wire = llm.asker.wire
    request = wire.last if isinstance(wire, DryWire) else None
    if request is None:
        return ""
    if isinstance(request, Chat):
        return "\n\n".join(f"[{message.role}]\n{message.content}" for message in request.messages)
    if isinstance(request, Completion):
        return request.prompt
    ids = request.prompts[-1] if isinstance(request, NextToken) else request.prompt
    return str(llm.tokens.tokenizer.decode(list(ids), skip_special_tokens=False))
