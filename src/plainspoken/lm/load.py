"""A causal language model with its tokenizer, ready to be read and spliced: loaded once, never changed."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from plainspoken.corpus.pieces import Pieces
from plainspoken.errors import ModelError, UsageError
from plainspoken.hub import quietly, reason, require_readable, tell_cached, why_away

if TYPE_CHECKING:
    from transformers.configuration_utils import PreTrainedConfig
    from transformers.modeling_utils import PreTrainedModel
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase
else:  # transformers' model classes take two seconds to import: they are imported by what loads a model
    PreTrainedConfig = PreTrainedTokenizerBase = object
    PreTrainedModel = torch.nn.Module

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A model in evaluation mode whose parameters need no gradient, its tokenizer, and what they are called.

    `d_model`: width of the residual stream. `context`: the most tokens it was made for. `vocabulary`: rows of its
    embedding, which may be more than the tokenizer's tokens. `bos_id`: the token that starts a text, if there is one.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pieces: Pieces
    name: str
    d_model: int
    context: int
    vocabulary: int
    bos_id: int | None

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the model's parameters."""
        return next(self.model.parameters()).dtype

    def ids(self, text: str) -> list[int]:
        """A text's tokens, none added. Raises UsageError for what is no text: stray bytes of a command line."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"character {error.start} of {text!r} is a byte or half a character that is no UTF-8: give the text "
                "whole and in UTF-8"
            ) from error
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the configuration, every parameter in the type it runs in, and the tokenizer's pieces."""
        config = {k: v for k, v in self.model.config.to_dict().items() if k not in _NOT_THE_MODEL}
        digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
        for name, parameter in sorted(self.model.named_parameters()):
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        digest.update(self.pieces.fingerprint.encode())
        return digest.hexdigest()


# Where a model was loaded from, and by which release, does not make it another model.
_NOT_THE_MODEL = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}


def load_lm(name: str = "pocket", device: str = "auto", dtype: str = "auto") -> LanguageModel:
    """The model called `name`: "pocket" (bundled), a folder as `save_pretrained` writes it, or a name on the hub.

    `device`: "auto" is the GPU where there is one. `dtype`: "auto" is float32 on the CPU and bfloat16 on a GPU (float16
    where it knows no bfloat16); "float32", "bfloat16", "float16" are taken at their word.
    Raises ModelError for what is missing or does not fit: a folder without configuration, weights or tokenizer, weights
    that lack a tensor or are truncated, an architecture that is no causal language model, a device that is not there.
    """
    place = _device(device)
    kind = _dtype(dtype, place)
    folder = pocket_folder() if name == "pocket" else Path(name).expanduser()
    if folder.is_dir():
        _check_folder(folder)
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"no folder '{name}' here: name a folder that `save_pretrained` wrote, or a model on the hub")
    source = str(folder) if folder.is_dir() else name
    model = _load_model(source, kind)
    torch.nn.Module.to(model, place)
    return wrap_lm(model, load_tokenizer(source), name)


def wrap_lm(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> LanguageModel:
    """A LanguageModel of a model and a tokenizer that are already in memory; the model is put in evaluation mode.

    Raises ModelError where the model's configuration does not say how many tokens its context has.
    """
    model.eval().requires_grad_(False)
    config, context = model.config.get_text_config(), _context(model.config, name)
    vocabulary = len(cast(torch.Tensor, model.get_input_embeddings().weight))
    bos = tokenizer.bos_token_id
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        pieces=Pieces.from_tokenizer(tokenizer, vocabulary),
        name=name,
        d_model=config.hidden_size,
        context=context,
        vocabulary=vocabulary,
        bos_id=bos if isinstance(bos, int) else None,
    )


def pocket_folder() -> Path:
    """The folder of the bundled pocket model. Raises ModelError where the installation lacks it."""
    folder = Path(str(resources.files("plainspoken"))) / "data" / "pocket"
    if not (folder / "config.json").is_file():
        raise ModelError("this installation lacks the bundled pocket model: reinstall plainspoken, or name a model")
    return folder


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"no device is called '{name}': use auto, cpu, cuda, or cuda:0") from error
    if device.type == "mps":
        raise ModelError(f"the device '{name}' has no float64, in which plainspoken keeps its sums: use cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"no device '{name}' here ({torch.cuda.device_count()} GPUs): set lm.device to auto or cpu")
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if device.type != "cuda" or torch.cuda.is_bf16_supported() else torch.float16
    if name not in _DTYPES:
        raise ModelError(f"lm.dtype '{name}' is not known: use auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _check_folder(folder: Path) -> None:
    """Raises ModelError for a folder that is no whole model, before transformers takes its name for a hub's."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"'{folder}' has no config.json: name a folder that `save_pretrained` wrote")
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise ModelError(
            f"'{folder}' has no tokenizer (none of {', '.join(_TOKENIZER_FILES)}): save the model's tokenizer there "
            "with `tokenizer.save_pretrained(folder)`"
        )


def _load_model(source: str, dtype: torch.dtype) -> PreTrainedModel:
    from safetensors import SafetensorError

    with _loading("model", source, RuntimeError, SafetensorError) as here_only:
        from transformers.models.auto.modeling_auto import AutoModelForCausalLM

        loaded = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, output_loading_info=True, local_files_only=here_only
        )
    model, info = cast(tuple[PreTrainedModel, dict[str, set]], loaded)
    lacking = sorted(info["missing_keys"]) + [str(key) for key in info["mismatched_keys"]]
    if lacking:
        raise ModelError(
            f"the weights of '{source}' lack or misshape {len(lacking)} tensors that its config.json asks for, "
            f"such as {lacking[0]}: they belong to another configuration"
        )
    return model


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or of a name on the hub; "pocket" is the bundled one. Raises ModelError without it."""
    place = str(pocket_folder()) if source == "pocket" else source
    with _loading("tokenizer", place, TypeError, ImportError) as here_only:
        from transformers.models.auto.tokenization_auto import AutoTokenizer

        return AutoTokenizer.from_pretrained(place, local_files_only=here_only)


def load_context(name: str, wanted: int = 0) -> int:
    """As `context_of`, of the model called `name`, as `load_lm` takes it; only its configuration is read.

    Raises ModelError where there is none, and as `context_of` does.
    """
    place = str(pocket_folder()) if name == "pocket" else name
    with _loading("configuration", place) as here_only:
        from transformers.models.auto.configuration_auto import AutoConfig

        config = AutoConfig.from_pretrained(place, local_files_only=here_only)
    return context_of(config, name, wanted)


def context_of(config: PreTrainedConfig, name: str, wanted: int = 0) -> int:
    """The most tokens that a model is to be given: what it was made for, or `wanted` (0: that).

    A model with rotary positions runs on more than it was made for, though it has not learned to; one that learned a
    vector for each position has none beyond. Raises ModelError where such a model is wanted for more, or where the
    configuration does not say what it was made for.
    """
    own = _context(config, name)
    if wanted > own and getattr(config.get_text_config(), "rope_parameters", None) is None:
        raise ModelError(
            f"'{name}' has a position for each of {own} tokens and none beyond, but context is {wanted}; set it to "
            f"{own} or less, or name a model with a longer context"
        )
    return wanted or own


def _context(config: PreTrainedConfig, name: str) -> int:
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(context, int):
        raise ModelError(f"the configuration of '{name}' does not say its context (max_position_embeddings)")
    return context


@contextmanager
def _loading(what: str, source: str, *more: type[Exception]) -> Iterator[bool]:
    """Quietly; gives whether only what is on this machine can be had. ModelError for whatever transformers raises.

    `more`: what this loader raises beside the usual. transformers is to be imported within.
    """
    require_readable()
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage] (httpx's or httpx2's)

    away = None if Path(source).is_dir() else why_away()
    with _quiet(), quietly():
        try:
            yield away is not None
        except (OSError, ValueError, KeyError, HTTPError, *more) as error:
            raise ModelError(_could_not_load(what, source, error, away)) from error
    if away is not None:
        tell_cached(source, away)


def _could_not_load(what: str, source: str, error: Exception, away: str | None) -> str:
    said = reason(error)
    if away is not None and isinstance(error, OSError):  # other errors are of what the cache does hold
        said = f"{away}, and its cache here lacks what is needed"
    mend = "check the folder" if Path(source).is_dir() else "check the name, the connection, or name a local folder"
    return f"cannot load the {what} of '{source}': {said} ({mend})"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars and reports: what matters in them is raised."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
