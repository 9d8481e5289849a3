"""Explainers and simulators as the stages use them: by name, on a site's latents, each text read once."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

from plainspoken.errors import ConfigError, LanguageError
from plainspoken.explainers.lattice import Lattice, build_lattice
from plainspoken.explainers.rules import explain_rules
from plainspoken.language.parse import parse
from plainspoken.language.reading import Reading, read_rows
from plainspoken.latents import FiringTable
from plainspoken.pipeline.workplace import Workplace
from plainspoken.simulators.conditions import Statements
from plainspoken.simulators.matching import matches
from plainspoken.simulators.rules import decide, parse_all, simulate_reading
from plainspoken.types import Explanation, Failure, Rows, Simulation

T = TypeVar("T")
Explain = Callable[..., list[Explanation | Failure]]
Simulate = Callable[..., tuple[Simulation, list[Failure]]]


def explain_latents(
    workplace: Workplace,
    module: str,
    table: FiringTable,
    weight: Float[np.ndarray, " latents"],
    words: int,
    words_max: int,
) -> list[Explanation | Failure]:
    """Every latent of a site explained, or the failure to."""
    explain = explainer_named(workplace.config.explain.explainer)
    return explain(workplace, module, table, weight, words, words_max)


def simulate_latents(
    workplace: Workplace, texts: Mapping[int, str], latents: int, rows: Rows, label: str
) -> tuple[Simulation, list[Failure]]:
    """What the sentences of some latents predict over the rows; a sentence that does not parse is a Failure."""
    simulate = simulator_named(workplace.config.simulate.simulator)
    return simulate(workplace, texts, latents, rows, label)


def simulate_as_written(
    workplace: Workplace, texts: Mapping[int, str], latents: int
) -> Callable[[Int[np.ndarray, "1 t"]], Simulation]:
    """A simulation of whatever text is given, for a text that grows as it is written; sentences are parsed once."""
    simulator_named(workplace.config.simulate.simulator)
    rules, failures = parse_all(texts)
    assert not failures, "only sentences that parse have been simulated"
    lm, statements = workplace.lm, Statements.of(rules)

    def simulate(tokens: Int[np.ndarray, "1 t"]) -> Simulation:
        mask = tokens != (-1 if lm.bos_id is None else lm.bos_id)
        reading = read_rows(tokens, mask, lm.pieces.table)
        conditions = statements.bind(reading)
        said = decide(conditions, *matches(conditions, reading), latents)
        return Simulation(*said, latents, 1, tokens.shape[1], "text that the model writes")

    return simulate


def explainer_named(name: str) -> Explain:
    """The explainer; ConfigError lists those there are."""
    return _named(EXPLAINERS, name, "explain.explainer")


def simulator_named(name: str) -> Simulate:
    """The simulator; ConfigError lists those there are."""
    return _named(SIMULATORS, name, "simulate.simulator")


def where_it_fails(text: str) -> dict[str, int | str]:
    """Column (from 1) and what was expected there, of a sentence that does not parse; empty for one that does."""
    try:
        parse(text)
    except LanguageError as error:
        return {"column": error.column, "expected": error.expected}
    return {}


def _explain_rules(
    workplace: Workplace,
    module: str,
    table: FiringTable,
    weight: Float[np.ndarray, " latents"],
    words: int,
    words_max: int,
) -> list[Explanation | Failure]:
    lattice = _lattice(workplace, table.rows)
    with workplace.progress.track(f"explaining {module} in {words} words", None) as advance:
        return explain_rules(table, lattice, weight, words, words_max, advance)


def _simulate_rules(
    workplace: Workplace, texts: Mapping[int, str], latents: int, rows: Rows, label: str
) -> tuple[Simulation, list[Failure]]:
    reading = read(workplace, rows)
    with workplace.progress.track(label, None):
        return simulate_reading(texts, latents, rows, reading)


EXPLAINERS: Mapping[str, Explain] = {"rules": _explain_rules}
SIMULATORS: Mapping[str, Simulate] = {"rules": _simulate_rules}


def read(workplace: Workplace, rows: Rows) -> Reading:
    """The rows as a reader sees them; several sites read the same text."""

    def make() -> Reading:
        with workplace.progress.track(f"reading the {rows.part} part", len(rows.tokens)) as advance:
            return read_rows(rows.tokens, rows.mask, workplace.lm.pieces.table, advance)

    return workplace.remembered(f"reading {rows.fingerprint}", make)


def _lattice(workplace: Workplace, rows: Rows) -> Lattice:
    def make() -> Lattice:
        reading = read(workplace, rows)
        with workplace.progress.track("listing what an explanation may speak of", None):
            return build_lattice(reading, rows.document)

    return workplace.remembered(f"lattice {rows.fingerprint}", make)


def _named(registry: Mapping[str, T], name: str, setting: str) -> T:
    if name not in registry:
        raise ConfigError(f"{setting} is {name!r}; there are: {', '.join(registry)}")
    return registry[name]
