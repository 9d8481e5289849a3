"""The language models that a run asks: opened when they are first asked, within one limit, and what they have cost."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from plainspoken.config import Config, LlmServiceConfig
from plainspoken.config.named import short_name
from plainspoken.pipeline.progress import Progress

if TYPE_CHECKING:
    from plainspoken.llm.cache import AnswerCache
    from plainspoken.llm.ledger import Ledger
    from plainspoken.llm.limits import Limits
    from plainspoken.llm.open import Llm
    from plainspoken.llm.spent import Spent
else:  # a workplace is made before anything is loaded
    AnswerCache = Ledger = Limits = Llm = Spent = Any

LLM = "llm"
PROBE = "_probe"
Section = Literal["explain", "score", "simulate"]
"""Sections of the settings that name a language model."""
Opens = Callable[[LlmServiceConfig, Path, str, str, Limits], Llm]
"""(service, folder of kept answers, device, number format, limits) to a language model."""


class Llms:
    """The models that the sections name; two that name the same share it, and all the limits.

    Those that keep their answers in one file share the cache as well: what one section has paid for is not paid, or
    billed, by another that reaches the model in another way. Other runs in this process share nothing with it.
    """

    def __init__(self, config: Config, folder: Path, progress: Progress, opens: Opens | None) -> None:
        """`folder`: where answers are kept. `opens`: how a model is opened (None: to be asked, as `open_llm` does)."""
        self._config, self._folder, self._progress, self._opens = config, folder, progress, opens
        self._open: dict[LlmServiceConfig, Llm] = {}
        self._of: dict[Section, Llm] = {}
        self._limits: Limits | None = None
        self._caches: dict[Path, AnswerCache] = {}
        self._spent: dict[str, Spent | None] = {}
        self._ledger: Ledger | None = None
        self._told = set[str]()

    def take_up(self, is_done: Callable[[str], bool]) -> None:
        """Go on with the bill of attempts that were killed, and write down what is paid from here on.

        `is_done`: whether a unit of this name has its manifest. Where nobody is going to be asked, nothing is paid.
        """
        from plainspoken.llm.ledger import LEDGER, Ledger
        from plainspoken.llm.spent import probing

        if self._opens is None and self._ledger is None:
            models: dict[str, str] = {}
            for section in get_args(Section):
                models[section] = models[probing(section)] = short_name(self._service(section).model)
            self._ledger = Ledger(self._folder / LEDGER, models, is_done)

    def begun(self, unit: str) -> None:
        """This unit is made anew: what it had told of is told no longer."""
        if self._ledger is not None:
            self._ledger.void(unit)

    def billed(self, unit: str) -> None:
        """What `spent` has told since the last unit was billed goes into this one's manifest, now to be written."""
        if self._ledger is not None and self._told:
            self._ledger.taken(unit, self._told)
        self._told = set()

    def require_reachable(self, section: Section) -> None:
        """ConfigError where the settings and the environment alone tell that this section's model cannot be reached.

        Where nobody is going to be asked (a dry run), nothing is missing.
        """
        from plainspoken.llm.open import require_reachable

        if self._opens is None:
            require_reachable(self._service(section), f"{section}.llm")

    def of(self, section: Section) -> Llm:
        """The model that a section names. Raises ConfigError, ModelError or StoreError where it cannot be opened."""
        from plainspoken.llm.limits import Limits
        from plainspoken.llm.open import open_llm

        opens, service = self._opens or partial(open_llm, keeps=self._cache), self._service(section)
        if section not in self._of:
            if self._limits is None:
                self._limits = Limits(self._config.limits.concurrency, self._config.limits.per_minute)
            if service not in self._open:
                lm = self._config.lm
                with self._progress.track(f"opening the language model that is to {section}", None):
                    self._open[service] = opens(service, self._folder, lm.device, lm.dtype, self._limits)
                if self._ledger is not None:
                    self._open[service].asker.keep_in(self._ledger, short_name(service.model))
            self._of[section] = replace(self._open[service], section=section)
        return self._of[section]

    def spent(self, stage: Section, key: str = LLM) -> dict[str, Any]:
        """`{key: what asking has cost}` under this label since it was last asked for; {} where nothing was asked.

        With it stands what attempts that were killed had paid for the same.

        `KEY_probe` beside it: what trying the model out has cost.
        """
        from plainspoken.llm.spent import probing

        return self._since(stage, key) | self._since(probing(stage), f"{key}{PROBE}")

    def close(self) -> None:
        """Let go of connections and files: of each, whatever fails."""
        with ExitStack() as closing:  # from the last to the first: what may still be written to comes behind who writes
            if self._ledger is not None:
                closing.callback(self._ledger.close)
            for cache in self._caches.values():
                closing.callback(cache.close)
            if self._limits is not None:
                closing.callback(self._limits.close)
            for llm in self._open.values():
                closing.callback(llm.close)
            self._open, self._of, self._caches, self._limits, self._ledger = {}, {}, {}, None, None
            self._spent, self._told = {}, set()  # models that are opened again count from nothing

    def _cache(self, path: Path) -> AnswerCache:
        from plainspoken.llm.cache import AnswerCache

        place = path.resolve()
        if place not in self._caches:
            self._caches[place] = AnswerCache(path)
        return self._caches[place]

    def _since(self, label: str, key: str) -> dict[str, Any]:
        from plainspoken.llm.spent import Spent

        total = [spent for llm in self._open.values() if (spent := llm.asker.spent().get(label)) is not None]
        now = sum(total[1:], total[0]) if total else None
        before, self._spent[label] = self._spent.get(label), now
        since = Spent() if now is None else now if before is None else now - before
        if self._ledger is not None:
            since += self._ledger.earlier(label)
            self._told.add(label)
        return {key: asdict(since)} if since != Spent() else {}

    def _service(self, section: Section) -> LlmServiceConfig:
        return getattr(self._config, section).llm
