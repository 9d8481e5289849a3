"""The machine: which units are done, which are stale, which are refused; then the work, in order, each committed.

A unit's key is a hash over its settings, its inputs' contents and its stage's version. Under the same key it is
verified and skipped. Other inputs (an edited explanation, a stage redone before it) make it stale: it is done again.
Other settings are refused before anything starts, unless `--force` names the stage or one before it.
"""

import errno
import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from plainspoken.errors import StoreError, UsageError
from plainspoken.pipeline.other_settings import as_begun, as_loaded, refuse_other_settings
from plainspoken.pipeline.stage import Outcome, Stage, Unit, chain_to, with_dependents
from plainspoken.pipeline.workplace import Workplace
from plainspoken.store import StageFolder, StageKey
from plainspoken.store.atomic import storage_error
from plainspoken.types import Failure

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EROFS)


def bring_up(
    workplace: Workplace, stages: Sequence[Stage], target: str | tuple[str, ...], force: Collection[str] = ()
) -> None:
    """Do whatever is still to do up to and including the stage `target`, or each of several.

    Raises ConfigError for settings that some stage cannot work with and RunError when the folder is of other settings
    (nothing is touched then), StoreError for a file that is truncated, altered or cannot be written, and whatever a
    stage raises.
    """
    chain = chain_to(stages, target)
    forced = with_dependents(stages, force)
    refuse_early(workplace, stages, target, force)
    for stage in stages:  # all of them: what a later stage must refuse should not wait for hours of earlier ones
        if stage.check is not None:
            stage.check(workplace)
    with _storage_errors(workplace.root):
        refuse_other_settings(workplace, chain, forced, as_loaded)
        _require_sources(workplace, chain, forced)
        workplace.llms.take_up(lambda unit: _has_manifest(workplace, unit))
        _require_answers(workplace, chain, forced)
        workplace.save_config()
        for stage in stages:
            if stage.name in forced:
                for unit in workplace.units(stage):
                    workplace.set_aside_edits(unit)
                    workplace.folder(unit).invalidate()
                    workplace.llms.begun(unit.name)  # behind: a manifest never stands without its bill
        for stage in chain:
            _bring_up_stage(workplace, stage)


def refuse_early(
    workplace: Workplace, stages: Sequence[Stage], target: str | tuple[str, ...], force: Collection[str] = ()
) -> None:
    """Raises ConfigError for what the settings and the environment alone tell, before any model is loaded: a name that
    there is not, whichever stage reads it; a service that a stage still to be begun cannot reach as it is set. RunError
    where the folder is of other settings than these, as far as that can be told by now."""
    chain, forced = chain_to(stages, target), with_dependents(stages, force)
    _refuse_names(workplace, stages)
    with _storage_errors(workplace.root):
        refuse_other_settings(workplace, chain, forced, as_begun)
    for stage in chain:
        if stage.reaches is not None:
            done = any(workplace.path(stage.name).glob("**/manifest.json"))  # sites are not known yet
            if stage.name in forced or not done:
                stage.reaches(workplace)


def _refuse_names(workplace: Workplace, stages: Sequence[Stage]) -> None:
    workplace.refuse_secrets()  # first of all: what else is wrong with a setting may be told with its value
    for stage in stages:
        if stage.early is not None:
            stage.early(workplace)


def to_do(
    workplace: Workplace, stages: Sequence[Stage], target: str, force: Collection[str] = ()
) -> dict[str, tuple[Unit, ...]]:
    """What `bring_up` would do, by the stages up to `target`, in order; nothing is written.

    Raises ConfigError for settings that some stage cannot work with, RunError when the folder is of other settings.
    """
    chain = chain_to(stages, target)
    _refuse_names(workplace, stages)  # a dry run reaches nobody, and needs no key
    forced = with_dependents(stages, force)
    refuse_other_settings(workplace, chain, forced, as_begun)
    for stage in stages:
        if stage.check is not None:
            stage.check(workplace)
    refuse_other_settings(workplace, chain, forced, as_loaded)
    found: dict[str, tuple[Unit, ...]] = {}
    for stage in chain:  # in order: the key of a stage rests on those before it
        before = [unit for name in stage.after for unit in found[name]]
        found[stage.name] = tuple(
            unit
            for unit in workplace.units(stage)
            if stage.name in forced
            or any(_reads(unit, source) for source in before)
            or not workplace.folder(unit).is_done(_key(workplace, stage, unit))
        )
    return found


def redone(stages: Sequence[Stage], target: str, force: Collection[str]) -> list[str]:
    """The stages up to `target` that are made anew where these are forced. UsageError where there is no such stage."""
    forced = with_dependents(stages, force)
    return [stage.name for stage in chain_to(stages, target) if stage.name in forced]


def _require_sources(workplace: Workplace, chain: Sequence[Stage], forced: Collection[str]) -> None:
    """What is read from outside the run must be there, unless it has been read: before an old reading is cleared."""
    for stage in chain:
        if stage.needs is not None and (stage.name in forced or (not stage.after and _is_open(workplace, stage))):
            stage.needs(workplace)


def _require_answers(workplace: Workplace, chain: Sequence[Stage], forced: Collection[str]) -> None:
    """Whom a stage asks must be able to answer, where any of it is to be done: before hours of earlier stages."""
    for stage in chain:
        if stage.asks is not None and (stage.name in forced or _is_begun_or_new(workplace, stage)):
            stage.asks(workplace)


def _is_begun_or_new(workplace: Workplace, stage: Stage) -> bool:
    return any(workplace.folder(unit).manifest() is None for unit in workplace.units(stage))


def _is_open(workplace: Workplace, stage: Stage) -> bool:
    """Whether anything is to be done in a stage that reads no other."""
    folders = {unit: workplace.folder(unit) for unit in workplace.units(stage)}
    if any(folder.manifest() is None for folder in folders.values()):
        return True
    return not all(folder.is_done(_key(workplace, stage, unit)) for unit, folder in folders.items())


def _bring_up_stage(workplace: Workplace, stage: Stage) -> None:
    keys = {unit: _key(workplace, stage, unit) for unit in workplace.units(stage)}
    if not keys:
        return
    pending = []
    for unit, key in keys.items():
        folder = workplace.folder(unit)
        if folder.is_done(key):
            folder.verify()
        else:
            pending.append(unit)
    if not pending:
        workplace.progress.say(f"{stage.name}: done before, skipped")
        return
    for unit in pending:
        _begin(workplace, stage, unit, keys[unit])
    here = stage.does_here(workplace.config) if stage.does_here is not None else None
    workplace.progress.say(f"{stage.name}: {here or stage.does}")
    began = time.monotonic()
    try:
        for outcome in stage.work(workplace, pending):
            _commit(workplace, keys[outcome.unit], outcome, time.monotonic() - began)
            began = time.monotonic()
    except UsageError:
        if not stage.after:  # nothing came of it: the next try, with another text, is not of other settings than this
            for unit in pending:
                workplace.folder(unit).abandon()
        raise
    for unit in pending:
        assert workplace.folder(unit).is_done(keys[unit]), f"{unit.name} was not committed by its stage"


def _begin(workplace: Workplace, stage: Stage, unit: Unit, key: StageKey) -> None:
    folder = workplace.folder(unit)
    if stage.keeps and folder.manifest() is not None:
        folder.verify()  # what is kept must be whole: after this its manifest is gone
    if stage.editable:
        workplace.set_aside_edits(unit)
    folder.begin(key, keep=stage.keeps)
    workplace.llms.begun(unit.name)


def _commit(workplace: Workplace, key: StageKey, outcome: Outcome, seconds: float) -> None:
    workplace.llms.billed(outcome.unit.name)
    workplace.folder(outcome.unit).commit(
        key,
        seed=workplace.config.seed,
        seconds=seconds,
        counts=outcome.counts,
        failures=[asdict(f) if isinstance(f, Failure) else f for f in outcome.failures],
    )


def _has_manifest(workplace: Workplace, unit: str) -> bool:
    """Whole or not: one that is altered is refused in its turn, unless it is made anew."""
    stage, _, site = unit.partition("/")
    return (workplace.path(stage, site or None) / "manifest.json").exists()


def _key(workplace: Workplace, stage: Stage, unit: Unit) -> StageKey:
    inputs: dict[str, str] = {}
    for name in stage.after:
        before = workplace.stage(name)
        for source in workplace.units(before):
            if _reads(unit, source):
                inputs[source.name] = content_hash(before, workplace.folder(source))
    version = stage.version_under(workplace.config)
    return StageKey(stage.name, unit.site, version, workplace.settings(stage, unit.site), inputs)


def _reads(unit: Unit, source: Unit) -> bool:
    """Whether a unit reads another of a stage that its own reads: that of its site, or of the whole run."""
    return source.site is None or unit.site is None or f"{unit.site}/".startswith(f"{source.site}/")


def content_hash(stage: Stage, folder: StageFolder) -> str:
    """Hash of what later stages read from a finished folder."""
    if stage.content is not None:
        return stage.content(folder.path)
    manifest = folder.manifest()
    if manifest is None:
        raise StoreError(
            f"{folder.path} is not finished; bring it up with: plainspoken {stage.name} and the run folder"
        )
    return manifest.output_digest


@contextmanager
def _storage_errors(root: Path) -> Iterator[None]:
    """A full disk is told as such, whoever wrote: numpy, safetensors and matplotlib know no StoreError.

    So is a refusal inside the run folder; elsewhere (a corpus that may not be read) another --out would mend nothing.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or (error.errno in _REFUSED and _is_below(error.filename, root)):
            raise storage_error(error, root) from error
        raise


def _is_below(name: object, root: Path) -> bool:
    if not isinstance(name, str | os.PathLike):
        return False
    return Path(os.path.abspath(name)).is_relative_to(os.path.abspath(root))
