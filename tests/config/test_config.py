"""Settings: what is written is read back, what is misspelt is named, what does not fit is refused."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.config import Config, config_from_tree, config_tree, flat_settings, load_config, preset_names
from plainspoken.config import settings_help as all_settings
from plainspoken.errors import ConfigError

NAMES = [setting.name for setting in all_settings()]


def as_override(value: object) -> str:
    return "none" if value is None else json.dumps(value)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_reads_back(name: str) -> None:
    config = load_config(name)
    assert config.preset == name
    assert config_from_tree(config_tree(config)) == config


@pytest.mark.parametrize("preset", preset_names())
def test_overriding_every_setting_by_its_own_value_changes_nothing(preset: str) -> None:
    config = load_config(preset)
    overrides = [f"{name}={as_override(value)}" for name, value in flat_settings(config).items()]
    assert load_config(preset, overrides=overrides) == config


@given(st.sampled_from(NAMES), st.data())
def test_a_misspelt_setting_names_the_right_one(name: str, data: st.DataObject) -> None:
    section, _, last = name.rpartition(".")
    at = data.draw(st.integers(0, len(last) - 1))
    wrong = f"{section}.".lstrip(".") + last[:at] + last[at + 1 :] + ("" if len(last) > 3 else last[at] * 2)
    if wrong in NAMES or len(last) < 3:
        return
    with pytest.raises(ConfigError, match="unknown setting") as raised:
        load_config(overrides=[f"{wrong}=1"])
    assert f"nearest: {name}" in str(raised.value)


def test_an_unknown_key_in_a_file_is_refused_with_file_and_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[coder]\nlatent = 64\n")
    with pytest.raises(ConfigError, match=r"coder\.latent'.*mine\.toml.*nearest: coder\.latents"):
        load_config(file=path)


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("coder.k=8", "coder.k", 8),
        ("coder.skip=true", "coder.skip", True),
        ("train.lr=1e-3", "train.lr", 1e-3),
        ("train.lr=none", "train.lr", None),
        ("train.lr_scale=2", "train.lr_scale", 2.0),
        ("lm.name=123", "lm.name", "123"),
        ("lm.name='a b'", "lm.name", "a b"),
        ("site=model.layers.*.mlp,x", "site", "model.layers.*.mlp,x"),
        ("evaluate.fractions=0.5,1", "evaluate.fractions", [0.5, 1.0]),
        ("evaluate.fractions=1", "evaluate.fractions", [1.0]),
        ("evaluate.orders=best, random", "evaluate.orders", ["best", "random"]),
        ("report.frontier=[15, 30]", "report.frontier", [15, 30]),
        ("corpus.source=a=b", "corpus.source", "a=b"),
    ],
)
def test_overrides_are_read_as_the_settings_type(override: str, name: str, value: object) -> None:
    assert flat_settings(load_config(overrides=[override]))[name] == value


@pytest.mark.parametrize(
    "override",
    [
        "coder.k=2.5",
        "coder.k=x",
        "coder.k=0",
        "coder.skip=1",
        "coder=3",
        "coder.k",
        "=3",
        "evaluate.orders=worst",
        "evaluate.fractions=1.5",
        "train.lr=nan",
        "train.lr=-1",
        "seed=-1",
        "lm.dtype=int8",
        "corpus.context=1",
    ],
)
def test_what_does_not_fit_is_refused_by_name(override: str) -> None:
    with pytest.raises(ConfigError, match=override.split("=")[0] or "key=value"):
        load_config(overrides=[override])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("compare.k=0", "each should be greater than 0"),
        ("compare.k=8,0", "each should be greater than 0"),
        ("compare.k=many", "each should be a valid integer"),
        ("compare.kinds=saes", "each should be 'transcoder', 'skip-transcoder' or 'sae'"),
        ("coder.k=0", "should be greater than 0"),
        ("coder.k=x", "should be a valid integer"),
    ],
)
def test_what_does_not_fit_is_told_of_the_value_not_of_its_brackets(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{override}: {told}"):
        load_config(overrides=[override])


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_k_above_latents_is_refused_and_nothing_else_is(latents: int, k: int) -> None:
    if k <= latents:
        assert load_config(coder__latents=latents, coder__k=k).coder.k == k
    else:
        with pytest.raises(ConfigError, match=r"coder\.k.*coder\.latents"):
            load_config(coder__latents=latents, coder__k=k)


def test_flags_win_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('preset = "paper"\nseed = 5\n[coder]\nlatents = 64\nk = 4\n')
    config = load_config(file=path, overrides=["coder.k=8"], site="model.layers.1.mlp")
    assert (config.preset, config.seed, config.coder.latents, config.coder.k) == ("paper", 5, 64, 8)
    assert config.coder.skip
    assert config.site == "model.layers.1.mlp"


def test_broken_files_and_unknown_presets_are_usage_errors(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("site = ")
    for arguments in ({"file": path}, {"file": tmp_path / "absent.toml"}, {"preset": "poket"}):
        with pytest.raises(ConfigError) as raised:
            load_config(**arguments)
        assert raised.value.exit_code == 2
    with pytest.raises(ConfigError, match="nearest: pocket"):
        load_config("poket")


def test_every_setting_has_a_help_text() -> None:
    assert len(NAMES) == len(set(NAMES)) == len(flat_settings(Config()))
    assert all(len(setting.help) > 10 for setting in all_settings())


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_config().coder.k = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_another_model_than_the_bundled_one_brings_its_own_preset(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('[lm]\nname = "folder"\n')
    assert load_config().preset == load_config(lm__name="pocket").preset == load_config(seed=3).preset == "pocket"
    named = (load_config(lm__name="folder"), load_config(overrides=["lm.name=folder"]), load_config(file=path))
    assert [(config.preset, config.lm.name) for config in named] == [("own", "folder")] * 3
    assert load_config("pocket", lm__name="folder").preset == "pocket"
