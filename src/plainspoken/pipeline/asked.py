"""What a run asked of language models, and what it did not get: the manifests of its stages, added up."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from plainspoken.config import Config, LlmServiceConfig
from plainspoken.llm.cost import Cost
from plainspoken.llm.spent import probing
from plainspoken.pipeline.llms import PROBE, Section
from plainspoken.pipeline.stored import stored_config
from plainspoken.store import Manifest

ASKING = ("explain", "score", "simulate", "evaluate", "frontier")
"""Stages that may ask a language model, in their order."""
NOT_READ = "not read"
"""What stands for the kind of a sentence that the simulator cannot read."""
SECTIONS: tuple[Section, ...] = get_args(Section)
_COUNTED: Mapping[str, Section] = {"llm_judging": "simulate", "llm_explain": "explain", "llm_simulate": "simulate"}
"""Of which section's model a manifest counts what was asked; `llm`: of the stage's own."""


@dataclass(frozen=True)
class FailureCount:
    """How many latents of a site a stage failed on in one way (of simulate: on some of the tokens at least)."""

    stage: str
    site: str
    kind: str
    latents: int


def llm_costs(folder: Path) -> tuple[Cost, ...]:
    """What each stage asked of each model, all sites together: of the attempts that finished.

    What trying a model out cost, before it was asked, is a line of its own: `simulate (probe)`.
    """
    config = stored_config(folder)
    found: dict[tuple[str, str], Cost] = {}
    for label, section, counts in _asked(folder):
        cost = Cost.of(label, service_of(config, section), counts)
        found[label, section] = found[label, section] + cost if (label, section) in found else cost
    return tuple(found.values())


def asked_a_stand_in(folder: Path) -> bool:
    """Whether who explained or simulated asked a model that only stands in for one that could."""
    config = stored_config(folder)
    services = [service_of(config, section) for _, section, _ in _asked(folder) if section != "score"]
    return any(is_stand_in(service) for service in services)


def is_stand_in(service: LlmServiceConfig) -> bool:
    """Whether it is the bundled model, which can be asked and knows nothing: to show that the pipeline runs whole."""
    return (service.service, service.model) == ("local", "pocket")


def _asked(folder: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(label, section of the settings that names the model, what was asked of it) of every manifest."""
    for stage in ASKING:
        for _, manifest in _manifests(folder, stage):
            for key, counts in manifest.counts.items():
                asked = key.removesuffix(PROBE)
                section = stage if asked == "llm" else _COUNTED.get(asked)
                if section is not None:
                    yield stage if asked == key else probing(stage), section, counts


def failure_counts(folder: Path) -> tuple[FailureCount, ...]:
    """Latents without an explanation, and latents whose simulation lacks something, by what was the matter."""
    found = []
    for stage in ("explain", "simulate"):
        for site, manifest in _manifests(folder, stage):
            found += [FailureCount(stage, site, *each) for each in latents_by_kind(stage, manifest.failures)]
    return tuple(found)


def latents_by_kind(stage: str, failures: Iterable[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """(kind, latents that failed in that way), most first: a latent counts once, however many shares it failed on."""
    kinds = Counter(kind for kind, _ in {(failure_kind(stage, failure), failure["latent"]) for failure in failures})
    return sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))


def failure_kind(stage: str, failure: Mapping[str, Any]) -> str:
    """The kind of a failure; of those that have none, what stands before the mend in the reason."""
    if failure.get("kind") is not None:
        return str(failure["kind"])
    return NOT_READ if stage == "simulate" else str(failure["reason"]).partition(";")[0]


def service_of(config: Config, section: str) -> LlmServiceConfig:
    """The language model that a section of the settings names."""
    return getattr(config, section).llm


def _manifests(folder: Path, stage: str) -> Iterator[tuple[str, Manifest]]:
    """(site, manifest) of a stage; a stage of the whole run has the site ""."""
    root = Path(folder) / stage
    for path in sorted(root.glob("**/manifest.json")):
        yield str(path.parent.relative_to(root)).removeprefix("."), Manifest.load(path)
