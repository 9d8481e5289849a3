"""Where a run happens: its folder, its settings, its language model and sites, loaded when first needed."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from plainspoken.config import Config, config_tree, flat_settings
from plainspoken.config.named import short_name
from plainspoken.corpus import require_source
from plainspoken.errors import CoderError, PlainspokenError
from plainspoken.pipeline import explanations
from plainspoken.pipeline.llms import LLM, Llms, Opens, Section
from plainspoken.pipeline.lock import LOCK, held
from plainspoken.pipeline.progress import SILENT, Progress
from plainspoken.pipeline.sources import is_gone, located, source_fingerprint
from plainspoken.pipeline.stage import Stage, Unit
from plainspoken.pipeline.stored import CONFIG
from plainspoken.store import StageFolder, read_json, sha256_file, write_json
from plainspoken.store.manifest import digest
from plainspoken.types import Site

if TYPE_CHECKING:
    from plainspoken.lm import LanguageModel
    from plainspoken.pipeline.coder_source import CoderSource
    from plainspoken.train.processes import Processes
else:  # they bring torch; a workplace is made before anything is loaded
    LanguageModel = Processes = CoderSource = Any

SOURCES = ("corpus.source", "corpus.eval_source")
_NAMES = ("lm.name", *SOURCES, "coder.load", "score.embedder")
_LOADED, _WEIGHTS = "content of coder.load", "weights of lm.name"
KNOWN_LATE = frozenset({"site", _WEIGHTS, _LOADED})
"""Of a unit's settings, what only a model that is loaded tells."""
T = TypeVar("T")


class Workplace:
    """One run folder with its settings; stages ask it for everything that lies outside their own folder."""

    def __init__(
        self,
        root: Path,
        config: Config,
        stages: Sequence[Stage],
        progress: Progress = SILENT,
        kept: Config | None = None,
        opens: Opens | None = None,
    ) -> None:
        """`kept`: the settings that stay with the folder, where this time something else is asked for beside them.

        `opens`: as `Llms` has it.
        """
        self.root = Path(root)
        self.config = located(config)
        self.kept = self.config if kept is None else located(kept)
        self.progress = progress
        self.llms = Llms(self.config, self.root / LLM, progress, opens)
        self._stages = {stage.name: stage for stage in stages}
        self._settings = flat_settings(self.config)
        self._memory: dict[str, Any] = {}

    @cached_property
    def lm(self) -> LanguageModel:
        """The language model."""
        from plainspoken.lm import load_lm

        lm = self.config.lm
        with self.progress.track("loading the language model", None):
            return load_lm(lm.name, device=lm.device, dtype=lm.dtype)

    @cached_property
    def processes(self) -> Processes:
        """The processes that work here together: this one alone, unless torchrun started others (`run`)."""
        from plainspoken.train.processes import Processes

        return Processes()

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """The sites that are rewritten; for an SAE an FFN is a site that is read, and written, at its output."""
        from plainspoken.lm import reconstructed, resolve_sites

        sites = resolve_sites(self.lm, self.config.site)
        return tuple(map(reconstructed, sites)) if self.config.coder.kind == "sae" else sites

    @cached_property
    def _texts(self) -> dict[str, str]:
        """What the run depends on beside its settings and its model: the text that the corpus names stand for.

        Of a text that is gone, what the run's own rows were made of: only who reads it anew cannot do without it.
        """
        found: dict[str, str] = {}
        for setting in SOURCES:
            source = self._settings[setting]
            if source is not None:
                found[f"text of {setting}"] = self._text_of(setting, source)
        return found

    def _text_of(self, setting: str, source: str) -> str:
        if not is_gone(source):
            return source_fingerprint(source)[:16]
        if not self.is_of(setting, source):
            require_source(source)
        for stage in self._stages.values():
            manifest = self.folder(Unit(stage.name)).manifest() if not stage.after else None
            if manifest is not None and f"text of {setting}" in manifest.config:
                kept = self.path(stage.name)
                self.progress.warn(f"{setting} is gone ({source}): going on with what {kept} holds of it")
                return manifest.config[f"text of {setting}"]
        require_source(source)
        raise AssertionError(f"{source} is gone and is not")

    def _contents_of_llms(self, found: Mapping[str, Any]) -> dict[str, str]:
        """For each of these settings that is a folder of a language model or tokenizer, the hash of what it holds.

        A name on the hub, or at a server, has none: there the name is all that is known.
        """
        folders = {n: Path(v) for n, v in found.items() if _is_llm_name(n) and v is not None and os.path.isdir(v)}
        return {
            f"content of {n}": self.remembered(f"content of {folder}", lambda folder=folder: _content(folder))
            for n, folder in folders.items()
        }

    @cached_property
    def coder_source(self) -> CoderSource:
        """Where `coder.load` leads, the hub asked once. Raises CoderError where it cannot be had."""
        from plainspoken.pipeline.coder_source import coder_source

        return coder_source(self._settings["coder.load"], [site.module for site in self.sites])

    def _content_of_coder(self, stage: Stage, site: str) -> str:
        """Hash of the coder that `coder.load` has for a site; where it is gone, of what the run made its own of it."""
        from plainspoken.coders import fingerprint, is_coder
        from plainspoken.pipeline.coder_source import coder_path, require_trained

        kept = self.folder(Unit(stage.name, site))
        before = kept.settings() or {}
        owned = _LOADED in before and self.is_of("coder.load", self._settings["coder.load"])
        try:
            given = self.coder_source.path
        except CoderError as error:  # neither in the hub's cache nor to be fetched
            if not owned:
                raise
            self.progress.warn(f"coder.load cannot be had, going on with what {kept.path} holds of it: {error}")
            return before[_LOADED]
        path = coder_path(given, site, [each.module for each in self.sites])
        if not is_coder(path) and owned:
            self.progress.warn(f"coder.load is gone ({path}): going on with what {kept.path} holds of it")
            return before[_LOADED]
        require_trained(given, path)
        return fingerprint(path)[:16]

    def is_of(self, setting: str, value: str) -> bool:
        """Whether this is what the run folder was made with."""
        section, _, name = setting.partition(".")
        path = self.root / CONFIG
        return path.is_file() and read_json(path).get(section, {}).get(name) == value

    def remembered(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives, made once: for what several sites or stages need of the same text."""
        if name not in self._memory:
            self._memory[name] = make()
        return self._memory[name]

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Every stage, in order."""
        return tuple(self._stages)

    def stage(self, name: str) -> Stage:
        """The stage of this name."""
        return self._stages[name]

    def units(self, stage: Stage) -> tuple[Unit, ...]:
        """The stage itself, or itself at every site, or each of its parts."""
        if stage.parts is not None:
            return tuple(Unit(stage.name, part) for part in stage.parts(self))
        if not stage.per_site:
            return (Unit(stage.name),)
        return tuple(Unit(stage.name, site.module) for site in self.sites)

    def path(self, stage: str, site: str | None = None) -> Path:
        """The folder of a stage, or of a stage at a site."""
        return self.root / stage if site is None else self.root / stage / site

    def folder(self, unit: Unit) -> StageFolder:
        """The same as a StageFolder."""
        stage = self._stages[unit.stage]
        return StageFolder(self.path(unit.stage, unit.site), stage.editable, stage.beside)

    def settings(self, stage: Stage, site: str | None = None) -> dict[str, Any]:
        """The settings that the stage reads (at a site), by dotted name; `site` stands for what it resolves to.

        A model, text or coder in another place is the same by its name and content: what folders it lies in does not
        count.
        """
        found = self.settings_known(stage, site)
        if not stage.after:
            found[_WEIGHTS] = self.lm.fingerprint[:16]
        if site is not None and found.get("coder.load") is not None:
            found[_LOADED] = self.remembered(f"{_LOADED} at {site}", lambda: self._content_of_coder(stage, site))
        if "site" in found:
            found["site"] = ", ".join(site.module for site in self.sites)
        return found

    def settings_known(self, stage: Stage, site: str | None = None) -> dict[str, Any]:
        """The same before any model is loaded: all but `KNOWN_LATE`, `site` standing for itself."""
        found = {
            n: v for n, v in self._settings.items() if any(n == s or n.startswith(s + ".") for s in stage.settings)
        }
        unread = () if stage.unread is None else stage.unread(self.config)
        if stage.unread_at is not None and site is not None:
            unread += stage.unread_at(self.config, site)
        found = {n: v for n, v in found.items() if not any(n == u or n.startswith(u + ".") for u in unread)}
        found |= self._contents_of_llms(found)
        found |= {n: short_name(v) for n, v in found.items() if (n in _NAMES or _is_llm_name(n)) and v is not None}
        if not stage.after:
            found |= self._texts
        return found

    def refuse_secrets(self) -> None:
        """ConfigError, which does not show it, for a key or a password among the settings: they are kept, and shown."""
        from plainspoken.llm.key import refuse_secrets

        for section in get_args(Section):
            for config in (self.config, self.kept):
                refuse_secrets(getattr(config, section).llm, f"{section}.llm")

    def save_config(self) -> None:
        """Keep the settings in the run folder, so that the folder's name is all that a later command needs.

        ConfigError for a key or a password among them.
        """
        self.refuse_secrets()
        tree = config_tree(self.kept)
        path = self.root / CONFIG
        if not path.exists() or read_json(path) != tree:
            write_json(path, tree)

    def set_aside_edits(self, unit: Unit) -> None:
        """Before a folder of explanations is made anew: copy what people wrote there to `edits/`, and say so."""
        path = self.path(unit.stage, unit.site) / explanations.CURRENT
        if path.name not in self._stages[unit.stage].editable or not explanations.is_edited(path.parent):
            return
        kept = self.root / "edits" / f"{unit.site}-{sha256_file(path)[:12]}.jsonl"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(path.read_bytes())
        self.progress.warn(f"{path} was edited and is now made anew: the edited file is kept as {kept}")

    @contextmanager
    def locked(self, *, wait: bool = False) -> Iterator[None]:
        """Hold the folder: a second run in it would overwrite the first's files. A killed run holds nothing.

        `wait`: for another that holds it, as who only looks at a run does; said once.
        A new folder gets its settings at once, so that it can be gone on with whenever it is interrupted; when an error
        of ours ends it before any stage is begun, nothing of it is left.
        Raises RunError where another holds it and nobody waits, or `root` can be no folder, StoreError where it cannot
        be written.
        """
        made = [folder for folder in (self.root, *self.root.parents) if not os.path.exists(folder)]
        with held(self.root, self.progress.warn if wait else None):
            new = not (self.root / CONFIG).exists()
            try:
                if new:
                    self.save_config()
                yield
            except PlainspokenError:
                if new and not any(self.path(name).exists() for name in self._stages):
                    self._leave_nothing(made)
                raise
            finally:
                self.llms.close()

    def _leave_nothing(self, made: Sequence[Path]) -> None:
        for name in (CONFIG, LOCK):
            (self.root / name).unlink(missing_ok=True)
        for folder in made:
            if any(folder.iterdir()):
                return
            folder.rmdir()


def _is_llm_name(setting: str) -> bool:
    return setting.endswith((".llm.model", ".llm.tokenizer")) or setting == "score.embedder"


def _content(folder: Path) -> str:
    """Hash over the names and contents of a folder's files."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return digest([[path.name, sha256_file(path)] for path in files])[:16]
