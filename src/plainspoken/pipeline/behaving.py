"""Behaving: what of a run's latents makes a behaviour, found on half of its prompts and tested on the other half."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from plainspoken.circuits.behaviour import difference
from plainspoken.circuits.contributions import Found, Unit, find
from plainspoken.circuits.graph import Node
from plainspoken.circuits.prompt_pairs import Behaviours, PromptFile, behaviours
from plainspoken.errors import ActivationError, UsageError
from plainspoken.evaluate.ablation import ablation, apart, random_draws
from plainspoken.evaluate.by_prompt import over_prompts
from plainspoken.evaluate.kept import conditions_of, kept
from plainspoken.evaluate.statistics import samples
from plainspoken.language.counted import counted
from plainspoken.lm import LanguageModel
from plainspoken.pipeline.circuit import RunCircuits
from plainspoken.pipeline.workplace import Workplace
from plainspoken.report.behaviour_page import render_behaviour
from plainspoken.report.figures import kept_picture
from plainspoken.report.svg import standalone
from plainspoken.store import write_json, write_text
from plainspoken.store.manifest import digest

FOLDER, FILE, PAGE, PICTURE = "behaviour", "behaviour.json", "behaviour.html", "kept.svg"
FORMAT, VERSION = "plainspoken behaviour", 1
EXAMPLES = 3
FEW = 40
"""Prompts below which there is a warning: a bootstrap over half of so few is too sure."""


@dataclass(frozen=True)
class BehaviourSettings:
    """How a behaviour is looked into."""

    top: int = 10
    """Latents that are ablated together: those of the largest mean contribution."""
    draws: int = 20
    """Draws of as many random latents, the control."""
    curves: int = 10
    """Random orders beside the curve of latents kept, and of neurons. One alone has no intervals."""
    seed: int = 0
    """Of the halves, the draws and the bootstrap."""

    def __post_init__(self) -> None:
        for name, number in asdict(self).items():
            if number < (name != "seed"):
                raise UsageError(f"{name} is {number}: give at least {int(name != 'seed')}")


@dataclass(frozen=True, eq=False)
class BehaviourFound:
    """What was found, and where it was written. `record`: docs/behaviours.md has its fields."""

    record: dict[str, Any]
    files: Mapping[str, Path]


def behave(
    workplace: Workplace, file: PromptFile, settings: BehaviourSettings, out: Path | None = None
) -> BehaviourFound:
    """Writes RUN/behaviour/NAME/: record, page and picture. The run must be brought up to `train`.

    Raises UsageError for a line that the model cannot be asked, for prompts that would be written over, where no latent
    fires on the prompts, and for a control with too few latents; ActivationError for differences that are no finite
    numbers. Nothing is written then.
    """
    folder = out or workplace.path(FOLDER) / _name(file, settings)
    files = {name: folder / name for name in (FILE, PAGE, PICTURE)}
    if any(path.resolve() == file.path.resolve() for path in files.values()):
        raise UsageError(f"{file.path} would be written over by what is found: name another --out")
    circuits, lines = RunCircuits(workplace), list(file.pairs)
    made = behaviours(circuits.lm, file, lambda text: circuits.prompt(text, typed=False).tokens)
    order = np.random.default_rng([settings.seed, 0xBE]).permutation(len(lines))
    finding, telling = (sorted(half.tolist()) for half in np.array_split(order, 2))
    few = None
    if len(lines) < FEW:
        few = (
            f"{file.path.name} has {counted(len(lines), 'prompt')}, so that all figures are of {len(telling)} of them, "
            f"and intervals over so few are too narrow: give at least {FEW}, better two hundred"
        )
        workplace.progress.warn(few)
    record = {
        "format": FORMAT,
        "version": VERSION,
        "warning": few and few.encode("utf-8", "backslashreplace").decode(),
        "about": circuits.about(
            prompts=file.path.name.encode("utf-8", "backslashreplace").decode(),
            prompts_sha256=file.sha256,
            settings=asdict(settings),
            bootstrap=workplace.config.evaluate.bootstrap,
        ),
        "split": {name: [lines[i] for i in half] for name, half in (("finding", finding), ("telling", telling))},
        "wanted": sorted({pair.wanted for pair in file.pairs.values()}),
        "other": sorted({pair.other for pair in file.pairs.values()}),
        "examples": [pair.model_dump(exclude_none=True) for pair in list(file.pairs.values())[:EXAMPLES]],
        **_measured(workplace, circuits, made, finding, telling, settings),
    }
    page, picture = render_behaviour(record), standalone(kept_picture(record["kept"], "behaviour-kept").wide)
    write_json(files[FILE], record)
    write_text(files[PAGE], page)
    write_text(files[PICTURE], picture)
    return BehaviourFound(record, files)


def _name(file: PromptFile, settings: BehaviourSettings) -> str:
    """The folder's: the file's name as far as file systems take it, and a digest of what was asked."""
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in file.path.stem[:40]).strip("-")
    return f"{stem or 'prompts'}-{digest([file.sha256, asdict(settings)])[:12]}"


def _measured(
    workplace: Workplace,
    circuits: RunCircuits,
    made: Behaviours,
    finding: Sequence[int],
    telling: Sequence[int],
    settings: BehaviourSettings,
) -> dict[str, Any]:
    lm, coders, seed, contrasts = circuits.lm, circuits.coders, settings.seed, made.contrasts
    bootstrap, track = workplace.config.evaluate.bootstrap, workplace.progress.track
    value = difference(lm, made.prompts)
    _require_finite(lm, value)
    with track("finding the circuit", 2 * len(finding)) as advance:
        found = find(lm, coders, made.prompts.some(finding), advance)
    latents = found.latents.strongest()[: settings.top]
    if not latents:
        raise UsageError("no latent of the run fires on these prompts, so that there is no circuit to find")
    drawn = random_draws(found, latents, settings.draws, seed)
    told = made.prompts.some(telling)
    with track("ablating", (1 + len(drawn)) * (2 if contrasts else 1)) as advance:
        without = ablation(lm, coders, told, latents, drawn, advance)
        beside = None if contrasts is None else ablation(lm, coders, contrasts.some(telling), latents, drawn, advance)
    for each in (without, beside) if beside else (without,):
        _require_finite(lm, each.original, each.without, each.random)
    with track("keeping latents and neurons", conditions_of(found, settings.curves)) as advance:
        curve = kept(lm, coders, told, found, settings.curves, seed, advance)
    for line in (curve.latents, curve.neurons):
        _require_finite(lm, line.strongest, line.random)
    counts = samples(len(finding), bootstrap, seed)
    return {
        "finding": {
            "prompts": len(finding),
            "firing_latents": len(found.latents.strongest()),
            **over_prompts({"original": value[finding]}, counts),
        },
        "ablation": without.record(bootstrap, seed),
        "contrast": None if beside is None else beside.record(bootstrap, seed),
        "apart": None if beside is None else apart(without, beside, bootstrap, seed),
        "latents": [_told(circuits, found, unit) for unit in latents],
        "kept": curve.record(bootstrap, seed),
    }


def _require_finite(lm: LanguageModel, *values: Float[np.ndarray, "..."]) -> None:
    if not all(np.isfinite(each).all() for each in values):
        raise ActivationError(
            f"{lm.name} gives logits that are no finite numbers after a prompt, as it is or with latents held: load it "
            "anew, or in float32"
        )


def _told(circuits: RunCircuits, found: Found, unit: Unit) -> dict[str, Any]:
    """A latent of the circuit with its sentence."""
    layer, number = unit
    value = found.latents.of(unit)
    node = circuits.tell(Node("latent", layer, 0, number))
    return {
        "latent": f"{layer}/{number}",
        "contribution": float(value.mean()),
        "size": float(np.abs(value).mean()),
        "fires_in": float(found.latents.fires[layer][:, number].mean()),
        "text": node.text,
        "fidelity": node.fidelity,
    }
