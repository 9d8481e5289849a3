"""What a stage is: a name, the settings it reads, the stages it reads from, and the work itself."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plainspoken.config import Config
from plainspoken.errors import UsageError
from plainspoken.types import Failure

if TYPE_CHECKING:
    from plainspoken.pipeline.workplace import Workplace
else:  # the workplace knows the stages' folders, the stages work at the workplace
    Workplace = Any


@dataclass(frozen=True)
class Unit:
    """What is done, skipped or redone as a whole: a stage, or a stage at one site."""

    stage: str
    site: str | None = None
    """Module path, or for a stage with parts of its own MODULE/PART; None: the whole run."""

    @property
    def name(self) -> str:
        """`corpus`, `train/gpt_neox.layers.2.mlp`."""
        return self.stage if self.site is None else f"{self.stage}/{self.site}"


@dataclass(frozen=True)
class Outcome:
    """What a unit's work has to say for its manifest; the outputs themselves lie in its folder."""

    unit: Unit
    counts: Mapping[str, Any] = field(default_factory=dict)
    failures: Sequence[Failure | Mapping[str, Any]] = ()


Work = Callable[[Workplace, Sequence[Unit]], Iterator[Outcome]]
"""Does some units of one stage, in shared passes where that is cheaper, and yields each as soon as it is whole."""

Check = Callable[[Workplace], None]
"""Raises UsageError for what a stage's work cannot be done with."""


@dataclass(frozen=True)
class Stage:
    """One link of the chain."""

    name: str
    does: str
    """What it does, for the help and for progress bars."""
    version: int
    """Raised when the code changes what it writes: folders of another version are refused."""
    settings: tuple[str, ...]
    """Sections or settings that it reads, dotted."""
    after: tuple[str, ...]
    """Stages whose outputs it reads."""
    work: Work
    raised: Callable[[Config], int] | None = None
    """How often its version was raised for some settings alone: folders of other settings stay as they are."""
    unread: Callable[[Config], tuple[str, ...]] | None = None
    """Of these, what it does not read under some settings (a language model that is not asked, say); None: nothing."""
    unread_at: Callable[[Config, str], tuple[str, ...]] | None = None
    """The same of one of its units, by its site."""
    asks: Check | None = None
    """Called before anything is begun where some of it is to be done: what it asks on the way (a language model) must
    be there and able to answer."""
    does_here: Callable[[Config], str | None] | None = None
    """What it does under these settings, where that is something else; None: what it always does."""
    early: Check | None = None
    """Called before anything is loaded: what the settings alone tell, such as a name that there is not."""
    reaches: Check | None = None
    """Called then, where the stage is forced or was never begun: whom it asks must be reachable by the settings (its
    key set, its address one). Nobody is asked yet."""
    check: Check | None = None
    """Called before anything is begun: what its work would refuse after hours is refused at once."""
    needs: Check | None = None
    """Called before a run is touched where the stage is forced, or reads no other and is to be done: is what it reads
    from outside the run there?"""
    per_site: bool = False
    parts: Callable[[Workplace], Sequence[str]] | None = None
    """Names of its units, MODULE/PART, where several are made at one site, or none are asked for."""
    editable: tuple[str, ...] = ()
    """Outputs that people may change."""
    beside: tuple[str, ...] = ()
    """Outputs outside its folder, by their path from it."""
    keeps: tuple[str, ...] = ()
    """What survives a change of its inputs in its folder: stores whose entries say themselves what they are of."""
    content: Callable[[Path], str] | None = None
    """Hash of what later stages read, where that is not simply every output (an editable one, say)."""
    presentation: bool = False
    """Its settings change only how results are shown: another setting redoes it without being asked."""

    def version_under(self, config: Config) -> int:
        """Its version under these settings."""
        return self.version + (0 if self.raised is None else self.raised(config))


def chain_to(stages: Sequence[Stage], target: str | tuple[str, ...]) -> list[Stage]:
    """The stages that `target` (or each of several) rests on, itself included, in the order of the chain."""
    by_name = {stage.name: stage for stage in stages}
    needed, open_names = set(), [target] if isinstance(target, str) else [*target]
    while open_names:
        name = open_names.pop()
        if name not in needed:
            needed.add(name)
            open_names += by_name[name].after
    return [stage for stage in stages if stage.name in needed]


def with_dependents(stages: Sequence[Stage], force: Iterable[str]) -> set[str]:
    """The named stages and every stage that reads from them, however indirectly. UsageError where there is no such."""
    names = [stage.name for stage in stages]
    for name in force:
        if name not in names:
            raise UsageError(f"--force {name}: there is no such stage; stages: {', '.join(names)}")
    forced = set(force)
    for stage in stages:  # in order: a stage reads only from earlier ones
        if forced.intersection(stage.after):
            forced.add(stage.name)
    return forced
