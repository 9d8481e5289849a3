"""Where a run's figures come from: its settings, versions, hashes and times, and the command that makes it again."""

import os
import shlex
from pathlib import Path

from plainspoken.config import CoderConfig, Config, LlmServiceConfig, flat_settings, load_config
from plainspoken.config.named import short_name
from plainspoken.explainers import explainer_named
from plainspoken.language.counted import counted
from plainspoken.pipeline.asked import is_stand_in
from plainspoken.pipeline.workplace import Workplace
from plainspoken.report import Provenance, Speaker, Speakers
from plainspoken.simulators import simulator_named
from plainspoken.store import Manifest

_FLAGS = {"lm.name": "--lm", "corpus.source": "--corpus", "corpus.eval_source": "--eval-corpus", "site": "--site"}
_HERE = ("lm.device",)


def command_for(config: Config, root: Path) -> str:
    """The command that makes this run here: what differs from its preset, and the folder."""
    preset = flat_settings(load_config(config.preset))
    by_default = "pocket" if config.lm.name == "pocket" else "own"
    command = ["plainspoken", "run"]
    if config.preset != by_default:
        command += ["--preset", config.preset]
    for name, value in flat_settings(config).items():
        if value == preset[name] or name in _HERE:
            continue
        shown = ",".join(map(str, value)) if isinstance(value, list) else _text(value)
        command += [_FLAGS[name], shown] if name in _FLAGS and value is not None else ["--set", f"{name}={shown}"]
    return shlex.join([*command, "--out", str(root)])


def provenance(workplace: Workplace) -> Provenance:
    """For the foot of the report."""
    config = workplace.config
    manifests = {path.parent.relative_to(workplace.root): Manifest.load(path) for path in _manifests(workplace.root)}
    seconds: dict[str, float] = {}
    for manifest in manifests.values():
        seconds[manifest.stage] = seconds.get(manifest.stage, 0.0) + manifest.seconds
    corpus = Manifest.load(workplace.path("corpus") / "manifest.json")
    order = list(seconds)
    return Provenance(
        model=short_name(config.lm.name),
        corpus=short_name(config.corpus.source),
        eval_corpus=config.corpus.eval_source and short_name(config.corpus.eval_source),
        seed=config.seed,
        command=command_for(config, workplace.root),
        method=_method(workplace, corpus),
        versions=tuple(corpus.versions.items()),
        inputs=tuple((name, value) for name, value in corpus.config.items() if " of " in name),
        seconds=tuple(
            (stage, seconds[stage]) for stage in workplace.stage_names if stage in order and stage != "report"
        ),
    )


def _manifests(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("**/manifest.json"))


def _method(workplace: Workplace, corpus: Manifest) -> tuple[tuple[str, str], ...]:
    c = workplace.config
    by, sampled = (
        speakers(c),
        f"; at most {counted(c.explain.latents, 'latent')}, drawn at random" * bool(c.explain.latents),
    )
    parts = ("fit", "explain", "calibrate", "evaluate")
    text = "; ".join(f"{part}: {counted(corpus.counts[part]['tokens'], 'token')}" for part in parts)
    return (
        ("Text", f"{text}, in rows of {corpus.counts['context']}"),
        ("Coder", _coder(c.coder)),
        (
            "Explainer",
            f"{by.explainer}, {counted(c.explain.words, 'word')} in the mean, at most {c.explain.words_max}{sampled}",
        ),
        ("Simulator", str(by.simulator)),
        ("Calibrator", ", ".join((c.calibrate.calibrator, *c.evaluate.also_calibrated))),
        ("Positions", c.evaluate.positions),
        ("Kept of a mixture", c.evaluate.keep),
    )


def speakers(config: Config) -> Speakers:
    """Who explains and who simulates, and the language models that they ask."""
    explain, simulate = config.explain, config.simulate
    explains = explain.llm if explainer_named(explain.explainer).needs_llm else None
    simulates = simulate.llm if simulator_named(simulate.simulator).needs_llm else None
    return Speakers(
        _speaker(explain.explainer, explains),
        _speaker(simulate.simulator, simulates),
        stand_in=any(llm is not None and is_stand_in(llm) for llm in (explains, simulates)),
    )


def _speaker(name: str, llm: LlmServiceConfig | None) -> Speaker:
    if llm is None:
        return Speaker(name)
    return Speaker(name, short_name(llm.model), "in process" if llm.service == "local" else f"at {_host(llm.base_url)}")


def _host(url: str) -> str:
    """Without the scheme: a page that fetches nothing names no address that could be fetched."""
    return url.partition("//")[2].rstrip("/")


def _coder(config: CoderConfig) -> str:
    if config.load is not None:
        return f"not trained here: taken from {short_name(config.load)}"
    skip = ", with a skip connection" if config.skip else ""
    return f"{counted(config.latents, 'latent')}, {config.activation} with k = {config.k}{skip}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else _from_here(str(value))


def _from_here(name: str) -> str:
    """A path as one would type it in this folder: the shorter of the relative and the absolute."""
    return min(os.path.relpath(name), name, key=len) if os.path.isabs(name) else name
