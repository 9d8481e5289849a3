"""A folder that holds a run of other settings: refused with what differs, and what would have to be redone.

It is looked at twice: before a model is loaded by what the settings alone tell, so that nobody waits for what is known,
and once more, whole, when the sites, the weights and the coders are.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from plainspoken.config.site_names import is_named
from plainspoken.errors import RunError
from plainspoken.pipeline.stage import Stage, Unit, with_dependents
from plainspoken.pipeline.workplace import KNOWN_LATE, Workplace
from plainspoken.store.manifest import setting_differences

Settings = Mapping[str, Any]


def as_loaded(workplace: Workplace, stage: Stage) -> Iterator[tuple[Settings, Settings]]:
    """Of each unit of a stage that was ever begun, the settings that it was made with, and those it would be."""
    for unit in workplace.units(stage):
        before = workplace.folder(unit).settings()
        if before is not None:
            yield before, workplace.settings(stage, unit.site)


def as_begun(workplace: Workplace, stage: Stage) -> Iterator[tuple[Settings, Settings]]:
    """The same as far as it is known before a model is loaded."""
    for unit in _units_begun(workplace, stage):
        before = workplace.folder(unit).settings()
        if before is not None:
            known = [_known(each, workplace) for each in (before, workplace.settings_known(stage, unit.site))]
            yield known[0], known[1]


def _units_begun(workplace: Workplace, stage: Stage) -> tuple[Unit, ...]:
    """Units of a stage that have a folder, found without a model: of its folders those that the sites' names fit.

    None of a stage with parts of its own, whose names only it knows.
    """
    if stage.parts is not None:
        return ()
    if not stage.per_site:
        return (Unit(stage.name),)
    folder = workplace.path(stage.name)
    modules = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return tuple(Unit(stage.name, module) for module in modules if is_named(module, workplace.config.site))


def _known(settings: Settings, workplace: Workplace) -> Settings:
    config = workplace.config
    # What is to be loaded, and is not there or is no coder, is told by whoever loads it, before any difference.
    gone = config.lm.name.startswith((".", "/", "~")) and not os.path.isdir(config.lm.name)
    late = ("lm.name",) * gone + ("coder.",) * (config.coder.load is not None)
    return {n: value for n, value in settings.items() if n not in KNOWN_LATE and not n.startswith(late)}


def refuse_other_settings(
    workplace: Workplace,
    chain: Sequence[Stage],
    forced: Collection[str],
    settings: Callable[[Workplace, Stage], Iterator[tuple[Settings, Settings]]],
) -> None:
    """Raises RunError where a stage of the chain, and not forced, was begun with other settings.

    `settings`: those before and now of whatever of a stage was begun (`as_begun`, `as_loaded`).
    """
    differences: dict[str, str] = {}
    earliest: list[str] = []
    for stage in chain:
        if stage.name in forced or stage.presentation:
            continue
        for before, now in settings(workplace, stage):
            now = {**now, "stage version": stage.version_under(workplace.config)}
            found = setting_differences(before, now)
            if found and stage.name not in earliest:
                earliest.append(stage.name)
            differences.update({line: f"{line}  ({stage.name})" for line in found if line not in differences})
    if not differences:
        return
    # A stage redone takes those that read from it along: only the others need naming.
    named: list[str] = []
    for name in earliest:
        if not with_dependents(chain, named) & {name}:
            named.append(name)
    force = " ".join(f"--force {name}" for name in named)
    lines = "\n".join(f"  {line}" for line in differences.values())
    raise RunError(
        f"{workplace.root} holds a run of other settings:\n{lines}\n"
        f"Keep it and choose another folder with --out, or redo what they touch with {force}"
    )
