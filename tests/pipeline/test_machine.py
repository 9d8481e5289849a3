"""The machine on a small chain of its own: the done is skipped, the stale redone, what differs refused."""

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from plainspoken.config import Config, load_config
from plainspoken.errors import ConfigError, RunError, StoreError, UsageError
from plainspoken.pipeline import STAGES
from plainspoken.pipeline.machine import bring_up
from plainspoken.pipeline.stage import Outcome, Stage, Unit
from plainspoken.pipeline.workplace import Workplace


@dataclass
class Chain:
    """Four stages over numbers in files; `done` records the order of work."""

    done: list[str] = field(default_factory=list)

    def stage(self, name: str, settings: tuple[str, ...], after: tuple[str, ...], **more: bool) -> Stage:
        def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
            for unit in units:
                self.done.append(unit.name)
                sources = [p for s in after for p in sorted(workplace.path(s).rglob("number.txt"))]
                sources = [p for p in sources if unit.site is None or p.parent.name in (unit.site, *after)]
                told = [workplace.settings(workplace.stage(name)).get(s) for s in settings]
                text = " ".join([p.read_text() for p in sources] + [str(t) for t in told])
                (workplace.path(unit.stage, unit.site) / "number.txt").write_text(f"({text})")
                yield Outcome(unit, {"sources": len(sources)})

        return Stage(name, f"does {name}", 1, settings, after, work, **more)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (
            self.stage("first", ("seed",), ()),
            self.stage("middle", ("coder.k",), ("first",), per_site=True),
            self.stage("last", ("evaluate.draws",), ("first", "middle")),
            self.stage("show", ("report.cards",), ("last",), presentation=True),
        )


@pytest.fixture
def config(neox_folder: Path, tmp_path: Path) -> Config:
    text = tmp_path / "text.txt"
    text.write_text("some words")
    return load_config(lm__name=str(neox_folder), corpus__source=str(text), site="gpt_neox.layers.*.mlp")


def go(root: Path, config: Config, target: str = "show", force: Sequence[str] = (), **settings: object) -> list[str]:
    chain = Chain()
    changed = load_config(
        overrides=[],
        **{"lm__name": config.lm.name, "corpus__source": config.corpus.source, "site": config.site, **settings},
    )
    bring_up(Workplace(root, changed, chain.stages), chain.stages, target, force)
    return chain.done


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


MIDDLE = ["middle/gpt_neox.layers.0.mlp", "middle/gpt_neox.layers.1.mlp"]
ALL = ["first", *MIDDLE, "last", "show"]


def test_everything_is_done_once_and_then_skipped_without_changing_a_byte(tmp_path: Path, config: Config) -> None:
    assert go(tmp_path / "run", config) == ALL
    before = contents(tmp_path / "run")
    assert go(tmp_path / "run", config) == []
    assert contents(tmp_path / "run") == before


def test_a_target_brings_up_what_it_rests_on_and_no_more(tmp_path: Path, config: Config) -> None:
    assert go(tmp_path / "run", config, "middle") == ["first", *MIDDLE]
    assert go(tmp_path / "run", config) == ["last", "show"]


def test_another_setting_is_refused_with_old_new_and_the_mend_and_nothing_is_touched(
    tmp_path: Path, config: Config
) -> None:
    go(tmp_path / "run", config)
    before = contents(tmp_path / "run")
    with pytest.raises(RunError, match=r"coder\.k: 16 → 8(.|\n)*--out(.|\n)*--force middle$") as raised:
        go(tmp_path / "run", config, coder__k=8)
    assert raised.value.exit_code == 2
    assert contents(tmp_path / "run") == before


def test_two_settings_name_the_stages_that_have_to_be_forced_and_no_dependents(tmp_path: Path, config: Config) -> None:
    go(tmp_path / "run", config)
    with pytest.raises(RunError, match=r"(?s)seed: 0 → 1.*coder\.k: 16 → 8|coder\.k: 16 → 8.*seed") as raised:
        go(tmp_path / "run", config, coder__k=8, seed=1)
    assert str(raised.value).endswith("--force first")


def test_force_redoes_the_stage_and_its_dependents_only(tmp_path: Path, config: Config) -> None:
    go(tmp_path / "run", config)
    assert go(tmp_path / "run", config, force=["middle"], coder__k=8) == [*MIDDLE, "last", "show"]
    assert "8" in (tmp_path / "run" / "last" / "number.txt").read_text()
    assert go(tmp_path / "run", config, coder__k=8) == []


def test_force_with_a_setting_of_an_earlier_stage_is_still_refused(tmp_path: Path, config: Config) -> None:
    go(tmp_path / "run", config)
    with pytest.raises(RunError, match="--force first"):
        go(tmp_path / "run", config, force=["last"], seed=1)
    assert go(tmp_path / "run", config) == []


def test_settings_of_a_stage_not_yet_done_are_free(tmp_path: Path, config: Config) -> None:
    go(tmp_path / "run", config, "middle")
    assert go(tmp_path / "run", config, evaluate__draws=2) == ["last", "show"]


def test_how_results_are_shown_may_change_unasked(tmp_path: Path, config: Config) -> None:
    go(tmp_path / "run", config)
    assert go(tmp_path / "run", config, report__cards=3) == ["show"]


def test_another_site_adds_its_own_units(tmp_path: Path, config: Config) -> None:
    assert go(tmp_path / "run", config, "middle", site="gpt_neox.layers.1.mlp") == ["first", MIDDLE[1]]
    assert go(tmp_path / "run", config, "middle") == [MIDDLE[0]]


def test_a_text_that_changed_is_another_run(tmp_path: Path, config: Config) -> None:
    go(tmp_path / "run", config)
    Path(config.corpus.source).write_text("other words")
    with pytest.raises(RunError, match=r"text of corpus\.source.*\(first\)"):
        go(tmp_path / "run", config)


@pytest.mark.parametrize("harm", ["truncate", "alter", "remove"])
def test_a_harmed_output_is_refused_by_name_with_its_mend(tmp_path: Path, config: Config, harm: str) -> None:
    go(tmp_path / "run", config)
    path = tmp_path / "run" / MIDDLE[1] / "number.txt"
    if harm == "truncate":
        os.truncate(path, 3)
    elif harm == "alter":
        path.write_bytes(path.read_bytes().replace(b"16", b"17"))
    else:
        path.unlink()
    with pytest.raises(StoreError, match=r"layers\.1\.mlp/number\.txt.*--force middle"):
        go(tmp_path / "run", config)
    assert go(tmp_path / "run", config, force=["middle"]) == [*MIDDLE, "last", "show"]


def test_a_stage_that_was_begun_under_other_settings_is_refused_too(tmp_path: Path, config: Config) -> None:
    chain = Chain()

    def killed(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
        raise KeyboardInterrupt
        yield

    stages = list(chain.stages)
    middle = stages[1]
    stages[1] = Stage(middle.name, middle.does, 1, middle.settings, middle.after, killed, per_site=True)
    with pytest.raises(KeyboardInterrupt):
        bring_up(Workplace(tmp_path / "run", config, stages), stages, "last")
    with pytest.raises(RunError, match=r"coder\.k: 16 → 8"):
        go(tmp_path / "run", config, coder__k=8)
    assert go(tmp_path / "run", config) == [*MIDDLE, "last", "show"]


def test_what_a_later_stage_must_refuse_is_refused_before_anything_is_begun(tmp_path: Path, config: Config) -> None:
    def refuse(workplace: Workplace) -> None:
        raise ConfigError("no such thing")

    stages = list(Chain().stages)
    stages[2] = replace(stages[2], check=refuse)
    with pytest.raises(ConfigError, match="no such thing"):
        bring_up(Workplace(tmp_path / "run", config, stages), stages, "first")
    assert not (tmp_path / "run").exists()
    assert go(tmp_path / "run", config) == ALL


@pytest.mark.parametrize(
    "settings",
    [
        {"explain__explainer": "nobody"},
        {"simulate__simulator": "nobody"},
        {"calibrate__calibrator": "nobody"},
        {"coder__activation": "nobody"},
        {"coder__kind": "transcoder", "site": "gpt_neox.layers.0"},
    ],
)
def test_the_chain_refuses_a_name_that_does_not_fit_before_its_first_stage(
    tmp_path: Path, config: Config, settings: dict[str, str]
) -> None:
    values = {"lm__name": config.lm.name, "corpus__source": config.corpus.source, "site": config.site, **settings}
    changed = load_config(**values)
    with pytest.raises(ConfigError, match=next(iter(settings.values()))) as raised:
        bring_up(Workplace(tmp_path / "run", changed, STAGES), STAGES, "corpus")
    assert raised.value.exit_code == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("below", [".", "deeper/still"])
def test_a_file_where_the_run_folder_should_be_is_named(tmp_path: Path, config: Config, below: str) -> None:
    (tmp_path / "run").write_text("mine")
    workplace = Workplace(tmp_path / "run" / below, config, Chain().stages)
    with pytest.raises(RunError, match=r"/run.* a file stands.*another --out"), workplace.locked():
        pass
    assert (tmp_path / "run").read_text() == "mine"


def test_a_file_where_a_stage_folder_should_be_is_named(tmp_path: Path, config: Config) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "middle").write_text("mine")
    with pytest.raises(StoreError, match=r"/run/middle.* a file stands.*--out"):
        go(tmp_path / "run", config)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, config: Config) -> None:
    tmp_path.chmod(0o500)
    with (
        pytest.raises(StoreError, match=r"/run: no permission.*--out"),
        Workplace(tmp_path / "run", config, Chain().stages).locked(),
    ):
        pass


@pytest.mark.parametrize("ours", [True, False])
def test_a_refusal_inside_the_run_folder_is_a_store_error_and_elsewhere_is_not(
    tmp_path: Path, config: Config, ours: bool
) -> None:
    path = tmp_path / ("run/first/number.txt" if ours else "text.txt")

    def refused(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
        yield

    stages = list(Chain().stages)
    stages[0] = replace(stages[0], work=refused)
    with pytest.raises(StoreError if ours else PermissionError, match=str(path)):
        bring_up(Workplace(tmp_path / "run", config, stages), stages, "first")


def test_an_unknown_stage_to_force_lists_the_stages(tmp_path: Path, config: Config) -> None:
    with pytest.raises(UsageError, match="first, middle, last, show"):
        go(tmp_path / "run", config, force=["nope"])


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path, config: Config) -> None:
    stages = Chain().stages
    with (
        Workplace(tmp_path / "run", config, stages).locked(),
        pytest.raises(RunError, match="at work"),
        Workplace(tmp_path / "run", config, stages).locked(),
    ):
        pass
