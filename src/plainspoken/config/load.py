"""From presets, files and `key=value` overrides to a Config: unknown keys are refused with the nearest name."""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from plainspoken.config.moved import brought_up, moved
from plainspoken.config.named import nearest
from plainspoken.config.schema import Config
from plainspoken.errors import ConfigError


@dataclass(frozen=True)
class Setting:
    """One setting as `plainspoken settings` shows it."""

    name: str
    default: Any
    help: str


def preset_names() -> tuple[str, ...]:
    """Names of the bundled presets."""
    folder = files("plainspoken").joinpath("presets")
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_config(
    preset: str | None = None, file: Path | str | None = None, overrides: Sequence[str] = (), **values: Any
) -> Config:
    """The preset, then the file's settings over it, then the overrides `dotted.name=value`, then `values`.

    preset: a bundled preset's name; None: the file's own `preset`, else `own` where another language model than the
        bundled one is named, else `pocket`.
    file: .toml, or the config.json of a run folder.
    values: whole settings by dotted name with `.` written `__`, e.g. `coder__k=64`; None leaves a setting as it is.
    Raises ConfigError: unknown preset or key (the nearest is named), a value of the wrong kind, settings that clash.
    """
    from_file = _read_tree(Path(file)) if file is not None else {}
    if file is not None and Path(file).suffix == ".json":
        from_file = brought_up(from_file)
    name = str(preset or from_file.get("preset") or _default_preset(from_file, overrides, values))
    tree = _merged(_preset_tree(name), from_file)
    tree["preset"] = name
    _refuse_unknown(tree, Config, f"in {file}" if file is not None else f"in preset {name}")
    for override in overrides:
        _override(tree, override)
    for dotted, value in values.items():
        if value is not None:
            _put(tree, dotted.replace("__", "."), value)
    return config_from_tree(tree)


def _default_preset(from_file: Mapping[str, Any], overrides: Sequence[str], values: Mapping[str, Any]) -> str:
    section = from_file.get("lm")
    named = [section.get("name") if isinstance(section, Mapping) else None, values.get("lm__name")]
    named += [value for key, _, value in (override.partition("=") for override in overrides) if key == "lm.name"]
    return "pocket" if all(lm in (None, "pocket") for lm in named) else "own"


def config_from_tree(tree: Mapping[str, Any], where: str = "in these settings") -> Config:
    """A Config from nested mappings (as TOML or JSON give them), every value checked; raises ConfigError."""
    _refuse_unknown(tree, Config, where)
    try:
        text = json.dumps(tree)
        # By way of JSON: strict there takes a list for a tuple and a whole number for a float, and nothing looser.
        config = _adapter(Config).validate_json(text)
    except ValidationError as error:
        raise ConfigError(_explained(error)) from error
    except TypeError as error:
        raise ConfigError(f"a setting is no text, number, list or switch ({error}); quote dates") from error
    if config.coder.k > config.coder.latents:
        raise ConfigError(
            f"coder.k is {config.coder.k} but coder.latents only {config.coder.latents}: no more latents can be active "
            "than there are; lower coder.k or raise coder.latents"
        )
    if config.explain.words > config.explain.words_max:
        raise ConfigError(
            f"explain.words (the mean budget, {config.explain.words}) is above explain.words_max (the longest, "
            f"{config.explain.words_max}); raise explain.words_max"
        )
    return config


def config_tree(config: Config) -> dict[str, Any]:
    """The Config as nested dicts and lists, ready for JSON; `config_from_tree` gives it back."""
    return json.loads(json.dumps(asdict(config)))


def flat_settings(config: Config, *sections: str) -> dict[str, Any]:
    """Dotted name to value of every setting, or of those in the named sections (`coder`) or settings (`coder.k`)."""
    flat = dict(_flatten(config_tree(config)))
    if not sections:
        return flat
    return {n: v for n, v in flat.items() if any(n == s or n.startswith(s + ".") for s in sections)}


def settings_help() -> tuple[Setting, ...]:
    """Every setting with its default in the preset `pocket` and its help, in the order of the classes."""
    defaults = flat_settings(load_config("pocket"))
    return tuple(Setting(name, defaults[name], help) for name, help in _help_lines(Config, ""))


def _help_lines(kind: type, prefix: str) -> Iterator[tuple[str, str]]:
    schema = _adapter(kind).json_schema()
    hints = get_type_hints(kind)
    for f in fields(kind):
        if is_dataclass(hints[f.name]):
            yield from _help_lines(hints[f.name], f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, " ".join(schema["properties"][f.name]["description"].split())


@cache
def _adapter(kind: Any) -> Any:  # a TypeAdapter, but beartype knows no pydantic generics
    return TypeAdapter(kind)


def _preset_tree(name: str) -> dict[str, Any]:
    if name not in preset_names():
        raise ConfigError(f"no preset {name!r}{nearest(name, preset_names())}; presets: {', '.join(preset_names())}")
    text = files("plainspoken").joinpath("presets").joinpath(f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


def _read_tree(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
        tree = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} does not parse: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no settings: expected a table of them")
    return tree


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(below)
    for name, value in above.items():
        old = out.get(name)
        out[name] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@cache
def _kinds() -> dict[str, Any]:
    """Dotted name of every setting to its type, sections included."""

    def walk(kind: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, hint in get_type_hints(kind, include_extras=True).items():
            if name.startswith("__"):
                continue
            yield prefix + name, hint
            if is_dataclass(hint):
                yield from walk(hint, f"{prefix}{name}.")

    return dict(walk(Config, ""))


def _refuse_unknown(tree: Mapping[str, Any], kind: Any, where: str, prefix: str = "") -> None:
    for name, value in tree.items():
        dotted = f"{prefix}{name}"
        hint = _kinds().get(dotted)
        if hint is None:
            raise ConfigError(f"unknown setting {dotted!r} {where}{_nearest_setting(dotted)}")
        if is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{dotted} {where} is a section of settings, not {value!r}; write e.g. {_example(dotted)}"
                )
            _refuse_unknown(value, hint, where, f"{dotted}.")


def _example(section: str) -> str:
    return next(name for name in _kinds() if name.startswith(section + ".")) + "=..."


def _override(tree: dict[str, Any], override: str) -> None:
    """Put `dotted.name=value` into the tree, the value read as what that setting's type asks for."""
    dotted, equals, text = override.partition("=")
    dotted, text = dotted.strip(), text.strip()
    if not equals or not dotted:
        raise ConfigError(f"--set {override!r}: expected key=value, e.g. --set coder.k=64")
    _put(tree, dotted, _read_value(dotted, text))


def _read_value(dotted: str, text: str) -> Any:
    hint = _setting_kind(dotted)
    adapter, refused = TypeAdapter(hint), list[Any]()
    for candidate in _candidates(text):
        try:
            adapter.validate_json(json.dumps(candidate), strict=True)
        except ValidationError as error:
            refused.append(error.errors()[0])
        except TypeError:  # a TOML date: no setting is one
            continue
        else:
            return candidate
    # Of a list, what is wrong inside it says more than that its brackets are left out.
    best = max(refused, key=lambda detail: len(detail["loc"]), default=None)
    reason = ("each " if best["loc"] else "") + _lower(best["msg"]) if best is not None else "not a value"
    raise ConfigError(f"{dotted}={text}: {reason}")


def _candidates(text: str) -> Iterator[Any]:
    """What the text may mean, likeliest first: a TOML value, none, a list without its brackets, itself."""
    for toml in (text, f"[{text}]"):
        try:
            yield tomllib.loads(f"value = {toml}")["value"] if "\n" not in toml else text
        except tomllib.TOMLDecodeError:
            if toml is text and text.lower() == "none":
                yield None
    yield [item.strip() for item in text.split(",") if item.strip()]
    yield text


def _setting_kind(dotted: str) -> Any:
    hint = _kinds().get(dotted)
    if hint is None:
        raise ConfigError(f"unknown setting {dotted!r}{_nearest_setting(dotted)}")
    if is_dataclass(hint):
        raise ConfigError(f"{dotted} is a section of settings; set one of them, e.g. {_example(dotted)}")
    return hint


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    _setting_kind(dotted)
    *sections, name = dotted.split(".")
    for section in sections:
        tree[section] = dict(tree.get(section, {}))
        tree = tree[section]
    tree[name] = value


def _nearest_setting(dotted: str) -> str:
    """The nearest name: by the whole dotted name, or by its last part (`latents` for `coder.latents`)."""
    if (now := moved(dotted)) is not None:
        return f"; it is {now} now, one for all language models of a run"
    names = [name for name, hint in _kinds().items() if not is_dataclass(hint)]
    last = {name.rpartition(".")[2]: name for name in reversed(names)}
    near = difflib.get_close_matches(dotted, names, 1, 0.75)
    near += [last[n] for n in difflib.get_close_matches(dotted.rpartition(".")[2], last, 1, 0.6)]
    near += difflib.get_close_matches(dotted, names, 1, 0.3)
    return f"; nearest: {near[0]}" if near else "; `plainspoken settings` lists them all"


def _explained(error: ValidationError) -> str:
    """`coder.k: should be greater than 0, not -1`, one clause for each value that does not fit."""
    clauses = []
    for detail in error.errors():
        name = ".".join(str(part) for part in detail["loc"])
        clauses.append(f"{name}: {_lower(detail['msg'])}, not {json.dumps(detail['input'])}")
    return "; ".join(dict.fromkeys(clauses))


def _lower(message: str) -> str:
    return message.removeprefix("Input ")
