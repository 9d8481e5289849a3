"""From settings to a language model that can be asked: wire, tokens, cache and limits put together."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from plainspoken.config import LlmServiceConfig
from plainspoken.errors import ConfigError, ModelError
from plainspoken.llm.ask import Asker
from plainspoken.llm.cache import AnswerCache
from plainspoken.llm.dry import DryWire
from plainspoken.llm.key import Key, refuse_secrets
from plainspoken.llm.limits import Limits
from plainspoken.llm.llama_wire import LlamaWire
from plainspoken.llm.openai_wire import EVERYTHING, OpenAiWire, require_address, require_package
from plainspoken.llm.prefixes import LastPrefix, PrefixCache
from plainspoken.llm.probe import Probe, probe
from plainspoken.llm.requests import Ability, Chat, Completion
from plainspoken.llm.spent import probing
from plainspoken.llm.tokens import LlmTokens
from plainspoken.llm.wire import Wire

if TYPE_CHECKING:
    from plainspoken.lm.load import LanguageModel
else:  # a server is asked without torch
    LanguageModel = object

CACHE_FILE = "answers.sqlite"
_LOADED: WeakValueDictionary[tuple[str, str, str], LanguageModel] = WeakValueDictionary()
"""Models in process that are still in use, by name, device and number format: each is loaded once."""


@dataclass(frozen=True, eq=False)
class Llm:
    """A language model that is asked through `asker`, in its own `tokens`. `context`: its most tokens, 0: not known.

    `cache`: where its answers are kept; None: nowhere, as for a dry run. `owns_limits`, `owns_cache`: nobody else asks
    within the limits, or keeps answers there. `section`: of the settings that name it; what trying it out cost is
    counted under `probing(section)`.
    """

    asker: Asker
    tokens: LlmTokens
    context: int
    limits: Limits
    cache: AnswerCache | None
    owns_limits: bool = True
    owns_cache: bool = True
    section: str = ""

    @property
    def name(self) -> str:
        """What names its answers."""
        return self.asker.wire.model

    def require(self, *abilities: Ability, answers: Iterable[int] = ()) -> Probe:
        """Try these abilities now, as `tried` does.

        Raises LlmError for one that it lacks or is not truthful in, ConfigError for digits that are no single tokens.
        """
        found = self.tried(*abilities, answers=answers)
        found.require(*abilities)
        return found

    def tried(self, *abilities: Ability, answers: Iterable[int] = ()) -> Probe:
        """What is found of these abilities, tried now, with the token ids that will be asked for (none: the digits').

        In a dry run, where there is nobody to try, what the service claims is believed.
        Raises ConfigError for digits that are no single tokens.
        """
        wire = self.asker.wire
        if isinstance(wire, DryWire):
            return Probe(wire.model, wire.abilities, {})
        trying = self.asker.trying(probing(self.section))
        return self.limits.start(probe(trying, self.tokens, tuple(answers), abilities)).result()

    def close(self) -> None:
        """Close the connections and, where they are its own, the loop and the cache: each, whatever fails."""
        with ExitStack() as closing:  # from the last to the first
            if self.cache is not None and self.owns_cache:
                closing.callback(self.cache.close)
            if self.owns_limits:
                closing.callback(self.limits.close)
            closing.callback(self.asker.close)


def open_llm(
    config: LlmServiceConfig,
    folder: Path,
    device: str = "auto",
    dtype: str = "auto",
    limits: Limits | None = None,
    keeps: Callable[[Path], AnswerCache] | None = None,
) -> Llm:
    """The language model of these settings. `folder`: where its answers are kept unless `config.cache` says where.

    `device` and `dtype`: of a model in process, as `load_lm` has them. Equal models in process are loaded once.
    `limits`: those that other models are asked within as well, the giver's to close; None: its own, the usual ones.
    `keeps`: gives the cache of a file, the giver's to close, for models that share a bill; None: one of its own.
    Raises ConfigError for a service that cannot be reached as set (key, address, missing package), ModelError for a
    model or tokenizer that cannot be loaded, StoreError for a cache that cannot be read.
    """
    wire, tokens, context = _local(config, device, dtype) if config.service == "local" else _server(config)
    place = Path(config.cache).expanduser() if config.cache else folder
    cache, within = (keeps or AnswerCache)(place / CACHE_FILE), limits or Limits()
    asker = Asker(wire, cache, within)
    return Llm(asker, tokens, context, within, cache, owns_limits=limits is None, owns_cache=keeps is None)


def require_reachable(config: LlmServiceConfig, section: str) -> None:
    """Raises ConfigError, which names the section, for what `open_llm` would refuse by these settings and the
    environment alone: a key that is not set, an address that is none, a package that is not there. Loads nothing."""
    try:
        refuse_secrets(config, section)
        if config.service == "local":
            _has_its_own_tokenizer(config)
            _require_folder("model", config.model)
            if config.key_variable:
                raise ConfigError(
                    "key_variable is set, but service is local: a model in this process wants no key; leave it out, or "
                    "set service to openai or llama"
                )
        else:
            require_address(config.base_url)
            Key.of(config.key_variable)
            require_package()
            _require_folder("tokenizer", config.tokenizer or "")
    except ConfigError as error:
        raise ConfigError(f"{section}: {error}") from error


def open_dry(config: LlmServiceConfig, reply: Callable[[Chat | Completion], str]) -> Llm:
    """As `open_llm`, of which it needs the tokenizer alone: nothing is sent, nothing kept, and costs are estimated.

    `reply`: the words that stand for an answer. Raises ConfigError and ModelError as `open_llm` does.
    """
    limits = Limits()
    if config.service == "local":
        from plainspoken.llm.local_wire import LocalWire
        from plainspoken.lm.load import load_context

        _has_its_own_tokenizer(config)
        context, tokens = load_context(config.model, config.context), _tokens(config.model, "")
        wire = DryWire(config.model, LocalWire.ABILITIES, tokens, context, reply, LastPrefix(), drawn=0)
    else:
        context, tokens = config.context, _server_tokens(config)
        able = LlamaWire.abilities if config.service == "llama" else EVERYTHING
        wire = DryWire(config.model, able, tokens, context, reply, PrefixCache(), drawn=1)
    return Llm(Asker(wire, None, limits), tokens, context, limits, None)


def _local(config: LlmServiceConfig, device: str, dtype: str) -> tuple[Wire, LlmTokens, int]:
    from plainspoken.llm.local_wire import LocalWire
    from plainspoken.lm.load import load_lm

    _has_its_own_tokenizer(config)
    which = (config.model, device, dtype)
    lm = _LOADED.get(which) or _LOADED.setdefault(which, load_lm(*which))
    wire = LocalWire(lm, config.context)
    return wire, wire.tokens, wire.context


def _server(config: LlmServiceConfig) -> tuple[Wire, LlmTokens, int]:
    Key.of(config.key_variable)  # what is soon mended is said before a tokenizer is looked for
    tokens = _server_tokens(config)
    kind = LlamaWire if config.service == "llama" else OpenAiWire
    wire = kind(
        config.model, config.base_url, config.key_variable, config.timeout_s, config.retries,
        tokens=tokens, context=config.context,
    )  # fmt: skip
    return wire, tokens, config.context


def _server_tokens(config: LlmServiceConfig) -> LlmTokens:
    mend = f"; set `tokenizer` to a folder or name that has the tokenizer of {config.model}"
    return _tokens(config.tokenizer or config.model, mend)


def _tokens(source: str, mend: str) -> LlmTokens:
    from plainspoken.lm.load import load_tokenizer

    try:
        return LlmTokens.of(load_tokenizer(source))
    except ModelError as error:
        raise ModelError(f"{error}{mend}") from error


def _require_folder(setting: str, name: str) -> None:
    """ConfigError for a path that no folder has; a name on the hub is looked for when it is loaded."""
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise ConfigError(f"{setting}: there is no folder {name!r} here; name one that `save_pretrained` wrote")


def _has_its_own_tokenizer(config: LlmServiceConfig) -> None:
    if config.tokenizer is not None and config.tokenizer != config.model:
        raise ConfigError(
            f"tokenizer is {config.tokenizer!r}, but the local model {config.model!r} brings its own: leave it out"
        )
