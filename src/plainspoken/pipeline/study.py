"""A study's folder: its log, and what each verb adds to it. What is hidden stands in none of its files.

Looks are logged by what was looked at and the hash of what was shown, which is enough to prove it and tells nothing.
"""

import datetime
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from plainspoken.circuits.study import (
    LOOKS,
    REVEALS,
    Head,
    Kind,
    StudyLog,
    look_words,
    opened_log,
    verified,
)
from plainspoken.errors import RunError, StoreError, UsageError
from plainspoken.latents import FiringTable
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.circuit import Prompt, RunCircuits
from plainspoken.pipeline.lock import held
from plainspoken.pipeline.machine import bring_up
from plainspoken.pipeline.progress import SILENT, Progress
from plainspoken.pipeline.shelves import load_rows, load_table
from plainspoken.pipeline.stage import Unit
from plainspoken.pipeline.stored import is_run_folder, stored_config
from plainspoken.pipeline.study_looks import (
    Subject,
    coder_of,
    example_lines,
    firing_prompts,
    look_lines,
    prompt_lines,
)
from plainspoken.pipeline.workplace import Workplace
from plainspoken.store import read_json, write_json
from plainspoken.store.journal import append_line, cut_half_line, read_lines
from plainspoken.store.manifest import digest, versions
from plainspoken.types import Site

LOG, HEAD = "log.jsonl", "head.json"
PROMPTS = 20
"""Prompts that a study has, at most: the documents in which the latent fires most strongly."""


@dataclass(frozen=True)
class Studied:
    """What a verb did: the lines to show, and the study's log as it is now."""

    log: StudyLog
    lines: tuple[str, ...] = ()


class Study:
    """A study with the run that it is of. Made by `opened_study`."""

    def __init__(self, folder: Path, log: StudyLog, workplace: Workplace) -> None:
        self.folder, self.log, self.workplace = folder, log, workplace
        self.circuits = RunCircuits(workplace)
        self.subject = Subject(*log.opened["latent"])

    @property
    def site(self) -> Site:
        """Where the latent is."""
        return self.circuits.site_of_layer[self.subject.layer]

    @cached_property
    def table(self) -> FiringTable:
        """Its coder's firings on the explain documents."""
        return load_table(self.workplace, self.site.module, load_rows(self.workplace, "explain"))

    @cached_property
    def prompts(self) -> list[Prompt]:
        """Where the latent fires."""
        return firing_prompts(self.circuits, self.table, self.subject.latent, PROMPTS)

    def add(self, kind: Kind, what: Mapping[str, Any]) -> None:
        """One more entry: on the disk when this returns."""
        self.log = self.log.followed_by(kind, what, _now())
        _append(self.folder, self.log)


def open_study(
    root: Path,
    latent: tuple[int, int],
    *,
    restricted: bool = False,
    folder: Path | None = None,
    device: str | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Open a study of a latent (its layer, its number); where it lies. The run is brought up to `encode`.

    Raises UsageError for a latent that there is not or that never fires, and for a folder in which one was opened.
    """
    subject = Subject(*latent)
    name = f"latent-{subject.layer}-{subject.latent}{'-restricted' * restricted}"
    folder = folder or Path(root) / "study" / name
    workplace = _workplace(Path(root), device, progress)
    _bring_up(workplace)
    circuits = RunCircuits(workplace)
    coder_of(circuits, subject)
    site = circuits.site_of_layer[subject.layer]
    table = load_table(workplace, site.module, load_rows(workplace, "explain"))
    if not len(table.latent(subject.latent)[0]):
        raise UsageError(f"latent {subject.name} fires nowhere in the explain documents: study one that does")
    with held(folder):
        if (folder / LOG).exists():
            raise UsageError(f"{folder} has a study already: go on with it, or name another --out")
        what = {
            "run": _seen_from(folder, Path(root)),
            "latent": [subject.layer, subject.latent],
            "site": site.module,
            "restricted": restricted,
            "seed": workplace.config.seed,
            "model_fingerprint": workplace.lm.fingerprint,
            **_hashes(workplace, site),
            "versions": versions(),
        }
        _append(folder, opened_log(what, _now()))
    return folder


@contextmanager
def opened_study(
    folder: Path, *, device: str | None = None, progress: Progress = SILENT, run: bool = True
) -> Iterator[Study]:
    """A study that was opened before, held by this process while the block lasts; with its `run` brought up, or not.

    Raises UsageError where there is none, StoreError for a log that was altered or cut off, RunError where the run is
    gone or its coder is another by now.
    """
    folder = Path(folder)
    if not (folder / LOG).exists():
        raise UsageError(f"there is no study in {folder}: open one with: plainspoken study open RUN LAYER/NUMBER")
    with held(folder):
        log = load_log(folder)
        cut_half_line(folder / LOG)
        root = folder / log.opened["run"]
        if not is_run_folder(root):
            raise RunError(f"the run that {folder} is a study of is no longer at {root}: put it back")
        workplace = _workplace(root, device, progress)
        if run:
            _bring_up(workplace)
        study = Study(folder, log, workplace)
        if run and any(log.opened[name] != now for name, now in _hashes(study.workplace, study.site).items()):
            raise RunError(
                f"{root} was trained or encoded anew since the study in {folder} was opened: its latent is another "
                "one; open a new study"
            )
        yield study


def load_log(folder: Path) -> StudyLog:
    """The log, held against what stands beside it. Raises StoreError where it was altered or cut off."""
    path, head = folder / LOG, folder / HEAD
    records, known = read_lines(path), None
    if head.exists():
        tree = read_json(head)
        if not isinstance(tree, dict) or set(tree) != {"entries", "sha256"}:
            raise StoreError(f"{head} is altered: its fields are not those of a head; put the file back as it was")
        known = Head(**tree)
    if not records:
        raise StoreError(f"{path} is truncated: not even the entry that opened the study is whole; put it back")
    return verified(records, known, str(path))


def look(study: Study, what: str, prompt: int | None = None, latent: tuple[int, int] | None = None) -> Studied:
    """Look at something that may be known, of the latent or of another; logged, then shown.

    Raises UsageError for what is hidden or that there is not.
    """
    if what not in LOOKS:
        raise UsageError(f"'{what}' is nothing to look at: look at {', '.join(LOOKS)}")
    subject = Subject(*latent) if latent is not None else study.subject
    if what == "circuit" and subject != study.subject:
        raise UsageError(f"circuits are traced of the studied latent {study.subject.name}: leave --latent out")
    number = prompt if what == "circuit" else None
    prompts = study.prompts if what == "circuit" else []
    lines = look_lines(study.circuits, prompts, study.log.known(), what, subject, number)
    study.add("look", {"look": what, "latent": subject.name, "prompt": number, "shown": digest(lines)})
    return Studied(study.log, tuple(lines))


def hypothesis(study: Study, text: str) -> Studied:
    """Write down what the latent is thought to fire on, with what had been seen by then. Raises UsageError for none."""
    if not (text := " ".join(text.split())):
        raise UsageError("the hypothesis has no words: say what the latent fires on")
    known = study.log.known()
    study.add("hypothesis", {"text": text, "known": known.told, "looks": list(known.looks)})
    return Studied(study.log, (f"written down ({known.told}): {text}",))


def reveal(study: Study, what: str) -> Studied:
    """Show what was hidden; logged first. Raises UsageError for what there is not."""
    if what not in REVEALS:
        raise UsageError(f"'{what}' is nothing to reveal: reveal {', '.join(REVEALS)}")
    lines = []
    if what in ("examples", "everything"):
        lines += example_lines(study.circuits, study.table, study.subject.latent, study.log.opened["seed"])
    if what in ("prompts", "everything"):
        looked = [e.what["prompt"] for e in study.log.entries if e.kind == "look" and e.what["look"] == "circuit"]
        lines += prompt_lines(study.prompts, sorted({*looked}) or range(1, len(study.prompts) + 1))
    if what in ("explanation", "everything"):
        known = study.circuits.sentences(study.site).get(study.subject.latent)
        lines.append(f"the run's sentence: {known.text}" if known else "the run has no sentence for it")
    if what == "everything" and study.log.known().layer_0_hidden and study.subject.layer == 0:
        by_then = replace(study.log.known(), revealed=("everything",))
        lines += look_lines(study.circuits, (), by_then, "deembedding", study.subject, None)
    study.add("reveal", {"reveal": what, "shown": digest(lines)})
    return Studied(study.log, tuple(lines))


def timeline(log: StudyLog) -> list[str]:
    """What was done when, a line each; of hypotheses, what was known."""
    lines = []
    for entry in log.entries:
        match entry.kind:
            case "open":
                told = f"opened, {'restricted' if entry.what['restricted'] else 'blind'}"
            case "look":
                told = f"looked at {look_words(entry.what)}"
            case "hypothesis":
                told = f"hypothesis ({log.known(entry.number).told}): {entry.what['text']}"
            case "reveal":
                told = f"revealed {entry.what['reveal']}"
            case "score":
                told = "scored"
        lines.append(f"{entry.number}  {entry.at}  {told}")
    return lines


def _append(folder: Path, log: StudyLog) -> None:
    append_line(folder / LOG, log.entries[-1].record())
    write_json(folder / HEAD, asdict(log.head))


def _workplace(root: Path, device: str | None, progress: Progress) -> Workplace:
    return Workplace(root, stored_config(root, lm__device=device), STAGES, progress)


def _bring_up(workplace: Workplace) -> None:
    with workplace.locked(wait=True):
        # No further: a site that was never explained has no sentence to score, and needs none.
        bring_up(workplace, STAGES, "encode")


def _hashes(workplace: Workplace, site: Site) -> dict[str, str]:
    found = {stage: workplace.folder(Unit(stage, site.module)).manifest() for stage in ("train", "encode")}
    return {
        name: manifest.output_digest for name, stage in (("coder", "train"), ("table", "encode"))
        if (manifest := found[stage]) is not None
    }  # fmt: skip


def _seen_from(folder: Path, root: Path) -> str:
    """Where a run is, from a study's folder: within the run a way that moves with it, else the whole path."""
    inside = folder.resolve().is_relative_to(root.resolve())
    return os.path.relpath(root.resolve(), folder.resolve()) if inside else str(root.resolve())


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
