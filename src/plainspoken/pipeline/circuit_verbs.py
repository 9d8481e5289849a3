"""What a user asks of a run's circuits: traced, intervened on, told by weights alone, replaced, behaving."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plainspoken.errors import UsageError
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.machine import bring_up
from plainspoken.pipeline.progress import SILENT, Progress
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace

if TYPE_CHECKING:
    from plainspoken.pipeline.behaving import BehaviourFound
    from plainspoken.pipeline.connecting import ConnectionsMade, NormsMade
    from plainspoken.pipeline.intervening import Intervened
    from plainspoken.pipeline.replacing import Measured
    from plainspoken.pipeline.tracing import Traced
else:  # they bring torch
    BehaviourFound = ConnectionsMade = Intervened = Measured = NormsMade = Traced = Any


def trace(
    root: Path | str,
    prompt: str,
    target: str = "logits",
    *,
    node_share: float = 0.8,
    edge_share: float = 0.98,
    paths: int = 10,
    simulated: bool = False,
    heads: bool = False,
    silent: bool = False,
    effects: int = 0,
    group: bool = False,
    by_head: int = 0,
    out: Path | None = None,
    device: str | None = None,
    progress: Progress = SILENT,
) -> Traced:
    """The circuit behind a target at a prompt, written down as a graph and a drawing.

    target: as `circuits.asking.parse_target` has it. The rest: as `TraceSettings` has it. The sentences are taken as
    they stand now; a run is brought up to its coders alone, and to `calibrate` where `simulated`.
    """
    from plainspoken.circuits.asking import parse_target
    from plainspoken.pipeline.tracing import TraceSettings, trace

    if effects and simulated:
        raise UsageError(
            "--effects ablates latents as they truly fire, and --simulated traces what sentences say of them: ask for "
            "one of the two"
        )
    asked = parse_target(target)
    settings = TraceSettings(node_share, edge_share, paths, simulated, heads, silent, effects, group, by_head)
    workplace = Workplace(Path(root), stored_config(Path(root), lm__device=device), STAGES, progress)
    with workplace.locked(wait=True):
        bring_up(workplace, STAGES, "calibrate" if simulated else "train")
        return trace(workplace, prompt, asked, settings, out)


def intervene(
    root: Path | str,
    prompt: str,
    *,
    ablate: Sequence[str] = (),
    scale: Sequence[str] = (),
    set_to: Sequence[str] = (),
    hold_attention: bool = False,
    tokens: int = 0,
    temperature: float = 1.0,
    seed: int = 0,
    device: str | None = None,
    progress: Progress = SILENT,
) -> Intervened:
    """What the run's model says next at a prompt with latents ablated, scaled or set, beside what it says as it is.

    ablate, scale, set_to: as `circuits.intervention_words.parse_interventions` has them. The rest: as
    `InterveningSettings` has it. Nothing is written down. The run is brought up to its coders.
    """
    from plainspoken.circuits.intervention_words import parse_interventions
    from plainspoken.pipeline.intervening import InterveningSettings, intervene

    asked = parse_interventions(ablate, scale, set_to)
    settings = InterveningSettings(hold_attention, tokens, temperature, seed)
    workplace = Workplace(Path(root), stored_config(Path(root), lm__device=device), STAGES, progress)
    with workplace.locked(wait=True):
        bring_up(workplace, STAGES, "train")  # sentences are told where there are some: a run half done stays so
        return intervene(workplace, prompt, asked, settings)


def replace_ffns(
    root: Path | str, *, tokens: int | None = None, device: str | None = None, progress: Progress = SILENT
) -> Measured:
    """Every FFN that has a coder replaced by it at once, and each alone, on calibrate documents; written down.

    tokens: of text, at most; None: `measure.tokens`. A run without coders is brought up to them first.
    """
    from plainspoken.pipeline.replacing import replace_ffns

    workplace = Workplace(Path(root), stored_config(Path(root), lm__device=device), STAGES, progress)
    with workplace.locked(wait=True):
        bring_up(workplace, STAGES, "train")
        return replace_ffns(workplace, tokens)


def connections(
    root: Path | str,
    latent: str,
    *,
    through: str | None = None,
    texts: int = 0,
    top: int = 10,
    out: Path | None = None,
    device: str | None = None,
    progress: Progress = SILENT,
) -> ConnectionsMade:
    """What the weights alone connect with a latent, LAYER/NUMBER, without a prompt; written down.

    through: the one head, LAYER/HEAD, to tell latents through. texts: rows of explain documents over which means of
    contributions are taken and held against the weights; 0: none. top: of each kind. The run is brought up to its
    coders; sentences are taken as they stand. Raises UsageError for a latent or a head that there is not, and for a
    latent that fires nowhere in the texts.
    """
    from plainspoken.circuits.written import parsed_head, parsed_latent
    from plainspoken.pipeline.connecting import ConnectionSettings, connect

    settings = ConnectionSettings(top, None if through is None else parsed_head(through), texts)
    number = parsed_latent(latent)
    workplace = Workplace(Path(root), stored_config(Path(root), lm__device=device), STAGES, progress)
    with workplace.locked(wait=True):
        bring_up(workplace, STAGES, "train")
        return connect(workplace, number, settings, out)


def head_norms(
    root: Path | str, *, out: Path | None = None, device: str | None = None, progress: Progress = SILENT
) -> NormsMade:
    """The size of what each head of the run's model moves (OV norms), as a heat map and as numbers; written down."""
    from plainspoken.pipeline.connecting import make_norms

    workplace = Workplace(Path(root), stored_config(Path(root), lm__device=device), STAGES, progress)
    with workplace.locked(wait=True):
        return make_norms(workplace, out)


def behaviour(
    root: Path | str,
    prompts: Path | str,
    *,
    top: int = 10,
    draws: int = 20,
    curves: int = 10,
    seed: int = 0,
    out: Path | None = None,
    device: str | None = None,
    progress: Progress = SILENT,
) -> BehaviourFound:
    """What of the run's latents makes a behaviour: found on half of the prompts, ablated on the others; written down.

    prompts: a JSONL file, as `circuits.prompt_pairs.read_pairs` has it. top, draws, curves, seed: as
    `BehaviourSettings` has them. The run is brought up to its coders; sentences are taken as they stand. Raises
    UsageError for prompts that cannot be read or asked.
    """
    from plainspoken.circuits.prompt_pairs import read_pairs
    from plainspoken.pipeline.behaving import BehaviourSettings, behave

    settings, file = BehaviourSettings(top, draws, curves, seed), read_pairs(Path(prompts))
    workplace = Workplace(Path(root), stored_config(Path(root), lm__device=device), STAGES, progress)
    with workplace.locked(wait=True):
        bring_up(workplace, STAGES, "train")
        return behave(workplace, file, settings, out)
