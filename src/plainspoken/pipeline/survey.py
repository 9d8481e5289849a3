"""A survey's folder: the plan, written first; the answers, appended as they come; the results, once all are there.

What is shown of a latent meanwhile, `survey_exhibit` makes.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plainspoken.errors import RunError, StoreError, UsageError
from plainspoken.evaluate.survey import (
    VERDICTS,
    Answer,
    Item,
    Surveyed,
    SurveyPlan,
    SurveyResult,
    differing,
    drawn_items,
    result,
)
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.lock import held
from plainspoken.pipeline.machine import bring_up
from plainspoken.pipeline.progress import SILENT, Progress
from plainspoken.pipeline.shelves import load_rows, load_table
from plainspoken.pipeline.stage import Unit
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.survey_exhibit import Exhibit, Fired, exhibit
from plainspoken.pipeline.workplace import Workplace
from plainspoken.store import read_json, write_json
from plainspoken.store.journal import append_line, cut_half_line, read_lines
from plainspoken.store.manifest import digest, versions

PLAN, ANSWERS, RESULTS = "plan.json", "answers.jsonl", "results.json"
_HASH = "plan_sha256"
_FIXED = ("seed", "latents", "bands", "per_band", "window")


@dataclass(frozen=True)
class SurveySettings:
    """How a survey is drawn and what it shows."""

    latents: int = 50
    """Of each coder."""
    seed: int = 0
    """Of the draw of latents, their order, and their examples."""
    bands: int = 4
    """Groups of equal size, by their largest activation, into which a latent's windows are put."""
    per_band: int = 3
    """Windows shown of each band, and of the strongest."""
    window: int = 24
    """Their tokens."""


class Survey:
    """A survey that is under way in a folder. Made by `opened_survey`."""

    def __init__(self, folder: Path, plan: SurveyPlan, fired: tuple[Fired, Fired]) -> None:
        self._folder, self.plan, self._fired = folder, plan, fired
        self._hash = digest(asdict(plan))
        self._answers = {answer.item: answer for answer in read_answers(folder, plan)}

    @property
    def answers(self) -> Mapping[int, Answer]:
        """What was answered, by item."""
        return self._answers

    @property
    def remaining(self) -> tuple[int, ...]:
        """The items that are not judged yet, in the order in which they are shown."""
        return tuple(i for i in range(len(self.plan.items)) if i not in self._answers)

    def exhibit(self, item: int) -> Exhibit:
        """What is shown of an item."""
        it = self.plan.items[item]
        return exhibit(self._fired[it.coder], it.latent, item, self.plan)

    def answer(self, item: int, interpretable: str, context_free: bool, note: str = "") -> None:
        """Keep an answer: it is on the disk when this returns.

        Raises UsageError for another verdict than yes, maybe or no, and for an item that there is not or that was
        judged otherwise before.
        """
        if interpretable not in VERDICTS:
            raise UsageError(f"'{interpretable}' is no verdict: answer {', '.join(VERDICTS)}")
        if not 0 <= item < len(self.plan.items):
            raise UsageError(f"there is no latent {item + 1} in a survey of {len(self.plan.items)}")
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        given = Answer(item, interpretable, context_free, note, now)
        if known := self._answers.get(item):
            if (known.interpretable, known.context_free) != (interpretable, context_free):
                raise UsageError(
                    f"latent {item + 1} was judged before, and otherwise ({known.interpretable}, "
                    f"{'' if known.context_free else 'not '}context-free): the first answer stands; take this one out"
                )
            return
        append_line(self._folder / ANSWERS, {**asdict(given), "plan": self._hash})
        self._answers[item] = given

    def finish(self) -> SurveyResult:
        """The results, and results.json. Raises UsageError where some latents are not judged yet."""
        found = result(self.plan, list(self._answers.values()))
        record = {
            "coders": [asdict(coder) for coder in self.plan.coders],
            "differs": differing(*self.plan.coders),
            "settings": {name: getattr(self.plan, name) for name in _FIXED},
            "plan_sha256": self._hash,
            "intervals": "95 %: Wilson's of shares, Newcombe's of their difference",
            "result": _told(found),
            "judged": [
                {**asdict(item), **{k: v for k, v in asdict(self._answers[i]).items() if k != "item"}}
                for i, item in enumerate(self.plan.items)
            ],
            "versions": versions(),
        }
        write_json(self._folder / RESULTS, record)
        return found


@contextmanager
def opened_survey(
    runs: Sequence[Path],
    sites: Sequence[str],
    folder: Path,
    settings: SurveySettings,
    *,
    device: str | None = None,
    progress: Progress = SILENT,
) -> Iterator[Survey]:
    """A survey of two coders, begun or gone on with, its folder held by this process while the block lasts.

    runs: one or two run folders, which are brought up to `encode`. sites: none where each run has one; one for both
    runs, or one for each coder. Raises UsageError where that does not make two coders, or where they have too few
    latents that fire; RunError for a folder with a survey of other coders or settings; StoreError for a plan or answers
    that were altered.
    """
    if settings.latents < 1 or settings.bands < 1 or settings.per_band < 1 or settings.window < 1:
        raise UsageError("a survey shows at least one latent, band, window and token: raise what is below 1")
    fired = _two_coders(list(map(Path, runs)), sites, device, progress)
    with held(folder):
        plan = _planned(folder, settings, fired)
        cut_half_line(folder / ANSWERS)
        yield Survey(folder, plan, fired)


def _two_coders(
    runs: Sequence[Path], sites: Sequence[str], device: str | None, progress: Progress
) -> tuple[Fired, Fired]:
    if not 1 <= len(runs) <= 2 or len(sites) > 2:
        raise UsageError("a survey is of two coders: name two runs, or one run and two of its sites")
    for root in runs:
        stored_config(root)  # what is no run is told as such
    roots = runs if len(runs) == 2 else [runs[0], runs[0]]
    # One site is meant for both runs; of one run there must be two.
    wanted: list[str | None] = list(sites) if len(sites) == 2 else [*sites, *sites] or [None, None]
    if len(runs) == 1 and len(sites) < 2:
        raise UsageError("one run has one coder at a site: name two of its sites (--site A --site B), or another run")
    first, second = (_fired(root, site, device, progress) for root, site in zip(roots, wanted, strict=True))
    if (first.about.coder, first.about.table) == (second.about.coder, second.about.table):
        raise UsageError("both coders are the same: name another run or another --site for one of them")
    if differs := differing(first.about, second.about):
        progress.warn(
            f"the two coders are not of the same {' and '.join(differs)}, which may betray of which one a latent is; "
            "results.json says so; for a blind survey name coders of one model, encoded on the same text"
        )
    return first, second


def _fired(root: Path, site: str | None, device: str | None, progress: Progress) -> Fired:
    workplace = Workplace(root, stored_config(root, lm__device=device), STAGES, progress)
    with workplace.locked(wait=True):
        bring_up(workplace, STAGES, "encode")
        modules = [each.module for each in workplace.sites]
        if site is None and len(modules) > 1:
            raise UsageError(f"{root} has several sites: name one with --site; its sites: {', '.join(modules)}")
        if site is not None and site not in modules:
            raise UsageError(f"{site} is no site of {root}; its sites: {', '.join(modules)}")
        module = site or modules[0]
        trained, encoded = (workplace.folder(Unit(stage, module)).verify() for stage in ("train", "encode"))
        table = load_table(workplace, module, load_rows(workplace, "explain"))
        explained = {path: entry["sha256"] for path, entry in encoded.outputs.items() if path.startswith("explain/")}
        rows = table.rows.fingerprint
        about = Surveyed(str(root), module, trained.output_digest, digest(explained), workplace.lm.fingerprint, rows)
        return Fired(about, table, workplace.lm.pieces.table)


def _planned(folder: Path, settings: SurveySettings, fired: tuple[Fired, Fired]) -> SurveyPlan:
    path = folder / PLAN
    if not path.exists():
        if (folder / ANSWERS).exists():
            raise StoreError(f"{path} is missing, and there are answers beside it: put it back, or name another --out")
        items = drawn_items([np.diff(each.table.pointer) for each in fired], settings.latents, settings.seed)
        plan = SurveyPlan((fired[0].about, fired[1].about), **asdict(settings), items=items)
        save_plan(folder, plan)
        return plan
    plan = load_plan(folder)
    told = asdict(settings)
    others = [
        f"{name}: {getattr(plan, name)}, now {told[name]}" for name in _FIXED if getattr(plan, name) != told[name]
    ]
    if others:
        raise RunError(
            f"{folder} holds a survey with other settings ({'; '.join(others)}): name those, or another --out"
        )
    for known, now in zip(plan.coders, (each.about for each in fired), strict=True):
        if (known.site, known.coder, known.table) != (now.site, now.coder, now.table):
            raise RunError(
                f"{folder} holds a survey of other coders, or of the same before they were made anew: name the runs "
                "and sites that it was begun with, in their order, or another --out"
            )
    return plan


def save_plan(folder: Path, plan: SurveyPlan) -> None:
    """Write the plan with a hash over it."""
    write_json(folder / PLAN, {**asdict(plan), _HASH: digest(asdict(plan))})


def load_plan(folder: Path) -> SurveyPlan:
    """The plan. Raises StoreError where it is missing, truncated or altered."""
    path = folder / PLAN
    tree = read_json(path)
    mend = "put it back as it was, or begin another survey with --out"
    if not isinstance(tree, dict) or tree.pop(_HASH, None) != digest(tree):
        raise StoreError(f"{path} is altered: its content does not match its own hash; {mend}")
    try:
        first, second = (Surveyed(**each) for each in tree.pop("coders"))
        items = tuple(Item(**each) for each in tree.pop("items"))
        return SurveyPlan((first, second), items=items, **tree)
    except (TypeError, ValueError, KeyError) as error:
        raise StoreError(f"{path} was written by another version of plainspoken ({error}); {mend}") from error


def read_answers(folder: Path, plan: SurveyPlan) -> list[Answer]:
    """The answers that are whole. Raises StoreError for one that is altered, double, or of another plan."""
    path, found = folder / ANSWERS, list[Answer]()
    for number, line in enumerate(read_lines(path), 1):
        where = f"{path}, line {number}"
        if line.pop("plan", None) != digest(asdict(plan)):
            raise StoreError(f"{where}: answers another plan than {PLAN}; put both back as they were")
        try:
            answer = Answer(**line)
        except TypeError as error:
            raise StoreError(f"{where} is altered ({error}); put the file back as it was") from error
        known = isinstance(answer.item, int) and 0 <= answer.item < len(plan.items)
        if not known or answer.interpretable not in VERDICTS or not isinstance(answer.context_free, bool):
            raise StoreError(f"{where} is altered: it is no answer to this plan; put the file back as it was")
        if answer.item in {each.item for each in found}:
            raise StoreError(
                f"{where} is altered: latent {answer.item + 1} is judged twice; put the file back as it was"
            )
        found.append(answer)
    return found


def _told(found: SurveyResult) -> dict[str, Any]:
    return {
        "verdicts": [{name: _share(each) for name, each in mine.items()} for mine in found.verdicts],
        "context_free": [_share(each) for each in found.context_free],
        "yes_first_less_second": {"value": found.difference, "low": found.low, "high": found.high},
    }


def _share(each: Any) -> dict[str, float]:
    return {**asdict(each), "share": each.value}
