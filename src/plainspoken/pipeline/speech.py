"""The run's explainer and simulator on a site's latents, each text read once for all sites."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from plainspoken.circuits.named_tokens import LatentTokens, latent_tokens
from plainspoken.coders import Coder, load_coder
from plainspoken.explainers import ExplainMeans, explainer_named
from plainspoken.language.counted import counted
from plainspoken.language.reading import Reading, read_rows
from plainspoken.language.text import Text
from plainspoken.latents import FiringTable
from plainspoken.pipeline.workplace import Workplace
from plainspoken.rewrite.spans import chance, drawn, spans
from plainspoken.simulators import Simulate, SimulateMeans, require_follows, simulator_named
from plainspoken.store.manifest import digest
from plainspoken.types import Explanation, Failure, Pairs, Rows, Simulation

NOT_CHOSEN = "not chosen"
"""The kind of failure of a latent that was left out of a sample: nobody tried to explain it."""

Lost = Callable[[Failure], object]


def _unheard(failure: Failure) -> None:
    """Nobody wants to know."""


def explain_latents(
    workplace: Workplace,
    module: str,
    table: FiringTable,
    weight: Float[np.ndarray, " latents"],
    words: int,
    words_max: int,
    lost: Lost = _unheard,
) -> list[Explanation | Failure]:
    """Every latent of a site explained, or the failure to; at most `explain.latents` of them.

    `lost`: told of candidates that failed where another stands.
    """
    most = workplace.config.explain.latents
    chosen = latents_to_explain(table, most, workplace.config.seed)
    if len(chosen) < int((np.diff(table.pointer) > 0).sum()):
        left = Failure(
            0,
            "explain",
            f"not among the {counted(most, 'latent that was', 'latents that were')} drawn (explain.latents)",
            kind=NOT_CHOSEN,
        )
        found = explain_these(workplace, module, table.only(chosen), weight, words, words_max, lost)
        silent, drawn = np.diff(table.pointer) == 0, set(chosen.tolist())
        return [e if silent[i] or i in drawn else replace(left, latent=i) for i, e in enumerate(found)]
    return explain_these(workplace, module, table, weight, words, words_max, lost)


def latents_to_explain(table: FiringTable, most: int, seed: int) -> Int[np.ndarray, " some"]:
    """The latents that fire at all, ascending; of more than `most` (0: however many) so many drawn at random."""
    fire = np.flatnonzero(np.diff(table.pointer) > 0)
    if not most or len(fire) <= most:
        return fire
    return np.sort(np.random.default_rng([seed, 0xE7]).choice(fire, most, replace=False))


def explain_these(
    workplace: Workplace,
    module: str,
    table: FiringTable,
    weight: Float[np.ndarray, " latents"],
    words: int,
    words_max: int,
    lost: Lost = _unheard,
) -> list[Explanation | Failure]:
    """Every latent that fires in the table explained, or the failure to; whatever `explain.latents` says."""
    name = workplace.config.explain.explainer
    explainer, text = explainer_named(name), text_of(workplace, table.rows)
    explain = explainer.opens(replace(explain_means(workplace, module), lost=lost))

    def prepare() -> Any:
        with workplace.progress.track("listing what an explanation may speak of", None):
            return explainer.prepare(text)

    prepared = workplace.remembered(f"{name} explainer, {table.rows.fingerprint}", prepare)
    with workplace.progress.track(
        f"explaining {module} in {counted(words, 'word')} (sentences tried)", None
    ) as advance:
        return explain(table, prepared, weight, words, words_max, advance)


def explain_means(workplace: Workplace, module: str | None = None) -> ExplainMeans:
    """What the run's explainer works with at a site; None: before there is a coder, to see whether it can work."""
    config = workplace.config
    explainer = explainer_named(config.explain.explainer)
    if not explainer.needs_llm:
        return ExplainMeans(config.explain, config.seed)

    def coder() -> Coder:
        assert module is not None, "before there is a coder its weights cannot be asked about"
        return load_coder(workplace.path("train", module))

    def tokens() -> LatentTokens:
        (site,) = (site for site in workplace.sites if site.module == module)
        return latent_tokens(workplace.lm, coder().to(workplace.lm.device), site)

    def rows(side: str) -> Float[np.ndarray, "latents d"]:
        weight = coder().W_dec if side == "decoder" else coder().W_enc
        return weight.detach().float().numpy()

    # Its language model is tried now, before anything is asked of the explainer's.
    simulate = opened_simulator(workplace) if explainer.hears else None

    def hear(texts: Mapping[int, str], latents: int, text: Text, pairs: Pairs) -> tuple[Simulation, list[Failure]]:
        assert simulate is not None, "an explainer that hears says so in the registry"
        return simulate(texts, latents, text, None, pairs)

    return ExplainMeans(config.explain, config.seed, workplace.llms.of("explain"), tokens, rows, hear)


def opened_simulator(workplace: Workplace) -> Simulate:
    """The run's simulator, its language model tried."""
    return _opened(workplace)[0]


def _opened(workplace: Workplace) -> tuple[Simulate, tuple[str, ...]]:
    """(the run's simulator, the form of its prompts where that rests on what was found of the language model)."""
    config = workplace.config
    simulator = simulator_named(config.simulate.simulator)

    def opens() -> tuple[Simulate, tuple[str, ...]]:
        llm, forms = workplace.llms.of("simulate") if simulator.needs_llm else None, list[str]()
        means = SimulateMeans(config.simulate, config.seed, llm, workplace.progress.say, forms.append)
        return simulator.opens(means), tuple(forms)

    return workplace.remembered(f"{config.simulate.simulator} simulator", opens)


def simulated_by(workplace: Workplace) -> str:
    """Names what made a simulation: simulator and gate, the language model and the settings that its levels rest on,
    and the form of its prompts, where that was found out by trying the model."""
    config = workplace.config
    name, gate = config.simulate.simulator, config.simulate.gate
    if not simulator_named(name).needs_llm:
        return name if gate == "none" else f"{name}, gate {gate}"
    stage = workplace.stage("simulate")
    read = {n: v for n, v in workplace.settings(stage).items() if n.startswith("simulate.")}
    return f"{name} {digest([read, workplace.llms.of('simulate').name, *_opened(workplace)[1]])[:16]}"


def simulate_latents(
    workplace: Workplace, texts: Mapping[int, str], latents: int, rows: Rows, label: str, only: Pairs | None = None
) -> tuple[Simulation, list[Failure]]:
    """What the sentences of some latents predict over the rows; one that cannot be read is a Failure.

    `only`: the pairs, of these latents and others, that pass the gate (None: there is none).
    """
    text = text_of(workplace, rows)
    if only is not None:
        mine = np.isin(only.latent, list(texts))
        only = Pairs(only.position[mine], only.latent[mine])
    simulate = opened_simulator(workplace)
    asked = tokens_asked(workplace, rows)
    with workplace.progress.track(label, len(rows.tokens)) as advance:
        simulation, failures = simulate(texts, latents, text, asked, only, advance)
    return replace(simulation, chance=chance_asked(workplace, rows), passed=only), failures


def unread_latents(failures: Sequence[Failure]) -> list[int]:
    """The latents whose sentence could not be read at all; the other failures are of some tokens of a latent."""
    return [failure.latent for failure in failures if failure.kind is None]


def tokens_asked(workplace: Workplace, rows: Rows) -> Bool[np.ndarray, "row t"] | None:
    """Which tokens the simulator is asked about (None: all): of the evaluate part, those that are rewritten."""
    wanted = _wanted(workplace, rows)
    if wanted == "all":
        return None
    if wanted == "last":
        return spans(rows.mask, "last").spliced
    few = drawn(rows.mask, wanted, workplace.config.seed)
    return None if np.array_equal(few, rows.mask) else few


def chance_asked(workplace: Workplace, rows: Rows) -> Float[np.ndarray, " row"] | None:
    """With what probability each token of a row was to be among these, where they were drawn; None: they were not.

    What is summed over drawn tokens is to be what it is over all of them, in the mean over draws. The `last` ones stand
    for themselves alone, one a row whatever its length: they are the tokens that evaluate.positions=last rewrites.
    """
    wanted = _wanted(workplace, rows)
    if not isinstance(wanted, int) or tokens_asked(workplace, rows) is None:
        return None
    return chance(rows.mask, wanted)


def _wanted(workplace: Workplace, rows: Rows) -> Literal["all", "last"] | int:
    config = workplace.config
    return config.evaluate.positions if rows.part == "evaluate" else config.simulate.calibrate_positions


def simulate_as_written(
    workplace: Workplace, texts: Mapping[int, str], latents: int
) -> Callable[[Int[np.ndarray, "1 t"]], Simulation]:
    """A simulation of whatever text is given, for a text that grows as it is written; sentences are read once.

    Raises ConfigError for a simulator that cannot follow one.
    """
    lm, name = workplace.lm, workplace.config.simulate.simulator
    follow = require_follows(name)
    listen = follow(texts, latents, lm.pieces.table)
    return lambda tokens: listen(tokens, tokens != (-1 if lm.bos_id is None else lm.bos_id))


def text_of(workplace: Workplace, rows: Rows) -> Text:
    """The rows as text; several sites read the same, and it is read when one first does."""

    def how(rows: Rows, pieces: Sequence[bytes]) -> Reading:
        with workplace.progress.track(f"reading the {rows.part} part", len(rows.tokens)) as advance:
            return read_rows(rows.tokens, rows.mask, pieces, advance)

    return workplace.remembered(f"text {rows.fingerprint}", lambda: Text(rows, workplace.lm.pieces.table, how))
