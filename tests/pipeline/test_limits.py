"""One limit and one pace for all that a run asks, whatever services its sections name; changed without another run."""

import json
import threading
import time
from pathlib import Path

import pytest

from llm.server import Server, Trouble, serve
from plainspoken.config import Config, LimitsConfig, LlmServiceConfig, config_tree, load_config
from plainspoken.errors import ConfigError
from plainspoken.llm import Completion
from plainspoken.pipeline import STAGES
from plainspoken.pipeline.llms import Section
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace


def at(url: str, folder: Path, **limits: float) -> Config:
    """Three sections with three services, each other in name and time-out."""
    config = load_config()
    tree = config_tree(config)
    for seconds, section in enumerate(("explain", "score", "simulate")):
        llm = LlmServiceConfig("openai", section, url, tokenizer=str(folder), timeout_s=20.0 + seconds)
        tree[section]["llm"] = config_tree(load_config(explain__llm__model="m"))["explain"]["llm"] | vars(llm)
    return load_config(
        **{f"{s}__llm__{n}": v for s in ("explain", "score", "simulate") for n, v in tree[s]["llm"].items()},
        **{f"limits__{n}": v for n, v in limits.items()},
    )


def ask_all(place: Workplace, count: int) -> None:
    """The three sections' models, side by side."""
    sections: tuple[Section, ...] = ("explain", "score", "simulate")
    llms = [place.llms.of(section) for section in sections]
    threads = [
        threading.Thread(target=lambda llm=llm: list(llm.asker.ask(Completion(f"{n}", 1) for n in range(count))))
        for llm in llms
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_three_services_share_one_limit(neox_folder: Path, tmp_path: Path) -> None:
    with serve(Server(trouble=lambda *_: Trouble(delay_s=0.02))) as server:
        place = Workplace(tmp_path / "run", at(server.url, neox_folder, concurrency=3), STAGES)
        ask_all(place, 15)
        place.llms.close()
    assert server.seen.total() == 45 and server.most_in_flight == 3


def test_three_services_share_one_pace(neox_folder: Path, tmp_path: Path) -> None:
    with serve(Server()) as server:
        place = Workplace(tmp_path / "run", at(server.url, neox_folder, per_minute=1200.0), STAGES)
        for section in ("explain", "score", "simulate"):
            place.llms.of(section)
        begun = time.monotonic()
        ask_all(place, 7)
        assert time.monotonic() - begun >= 20 * 0.05 * 0.9
        place.llms.close()


def test_limits_belong_to_no_stage() -> None:
    """So that a run goes on with others."""
    assert not [stage.name for stage in STAGES if any(name.startswith("limits") for name in stage.settings)]


def test_a_run_of_before_goes_on_with_the_slowest_of_its_models_paces(tmp_path: Path) -> None:
    tree = config_tree(load_config("paper"))
    del tree["limits"]
    for section, concurrency, per_minute in (("explain", 64, 300.0), ("score", 8, 0.0), ("simulate", 16, 500.0)):
        tree[section]["llm"] |= {"concurrency": concurrency, "per_minute": per_minute}
    (tmp_path / "config.json").write_text(json.dumps(tree))
    config = stored_config(tmp_path)
    assert config.limits == LimitsConfig(concurrency=8, per_minute=300.0)
    assert config.explain == load_config("paper").explain


@pytest.mark.parametrize("name", ["explain.llm.concurrency", "simulate.llm.per_minute"])
def test_who_writes_the_old_name_is_told_the_new_one(name: str, tmp_path: Path) -> None:
    section, _, last = name.rpartition(".")
    (tmp_path / "my.toml").write_text(f"[{section}]\n{last} = 4\n")
    for ask in (lambda: load_config(overrides=[f"{name}=4"]), lambda: load_config(file=tmp_path / "my.toml")):
        with pytest.raises(ConfigError, match=f"unknown setting '{name}'.*it is limits.{last} now"):
            ask()
