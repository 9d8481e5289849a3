"""What a run's language models have in common: their answers, by file, with each other and with no other run."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from llm.server import Server, serve
from plainspoken.config import Config, LlmServiceConfig, load_config
from plainspoken.errors import StoreError
from plainspoken.llm import Asker, Completion, Limits, Llm, Reply, Usage, open_llm
from plainspoken.llm.requests import Ability, Answer, Request
from plainspoken.pipeline import STAGES
from plainspoken.pipeline.llms import Llms
from plainspoken.pipeline.progress import SILENT
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace

WORD = [Completion("word", 1)]
MET = Reply("d", "stop", Usage(prompt_tokens=4, completion_tokens=1, from_cache=True))


def asked_twice(url: str, folder: Path, kept: Path) -> Config:
    """Two sections that reach one model in different ways and keep its answers in one folder."""
    config, service = load_config(), LlmServiceConfig("openai", "one", url, tokenizer=str(folder), cache=str(kept))
    other = replace(service, timeout_s=20.0, cache=str(kept / "."))
    return replace(config, explain=replace(config.explain, llm=service), simulate=replace(config.simulate, llm=other))


@contextmanager
def llms_of(config: Config, folder: Path) -> Iterator[Llms]:
    llms = Llms(config, folder, SILENT, None)
    try:
        yield llms
    finally:
        llms.close()


def asked(llm: Llm) -> Reply:
    """What it says, the seconds of the tests' server aside."""
    [answer] = llm.asker.ask(WORD)
    assert isinstance(answer, Reply)
    return replace(answer, usage=replace(answer.usage, seconds=0.0))


def test_what_one_section_has_asked_another_that_reaches_the_model_in_another_way_is_given(
    neox_folder: Path, tmp_path: Path
) -> None:
    """It is not asked again, and not billed as paid earlier."""
    with serve(Server()) as server:
        config = asked_twice(server.url, neox_folder, tmp_path / "kept")
        with llms_of(config, tmp_path / "run") as llms:
            explain, simulate = llms.of("explain"), llms.of("simulate")
            assert explain.asker is not simulate.asker
            assert not asked(explain).usage.from_cache
            assert asked(simulate) == MET
    assert server.seen.total() == 1


def test_of_two_runs_in_one_process_that_keep_their_answers_in_one_file_each_tells_what_the_other_paid(
    neox_folder: Path, tmp_path: Path
) -> None:
    with serve(Server()) as server:
        config = asked_twice(server.url, neox_folder, tmp_path / "kept")
        with llms_of(config, tmp_path / "one") as one, llms_of(config, tmp_path / "two") as two:
            llms = one.of("explain"), two.of("explain")
            assert not asked(llms[0]).usage.from_cache
            assert asked(llms[1]).usage.earlier
    assert server.seen.total() == 1


class Stuck:
    """A wire whose connections cannot be closed."""

    model, abilities = "stuck", frozenset[Ability]()

    async def send(self, request: Request) -> Answer:
        return Reply("", "stop")

    async def close(self) -> None:
        raise OSError(self.model)


def test_where_one_model_cannot_be_closed_the_rest_is(neox_folder: Path, tmp_path: Path) -> None:
    config = asked_twice("http://127.0.0.1:9/v1", neox_folder, tmp_path)
    opened, limits_seen = list[Llm](), list[Limits]()

    def opens(service: LlmServiceConfig, folder: Path, device: str, dtype: str, limits: Limits) -> Llm:
        real = open_llm(service, folder / str(len(opened)), device, dtype, limits)
        opened.append(replace(real, asker=Asker(Stuck(), real.cache, limits)))
        limits_seen.append(limits)
        return opened[-1]

    llms = Llms(config, tmp_path, SILENT, opens)
    llms.of("explain")
    llms.of("simulate")
    with pytest.raises(OSError, match="stuck"):
        llms.close()
    assert len(opened) == 2
    for llm in opened:
        assert llm.cache is not None
        with pytest.raises(StoreError, match="closed"):
            len(llm.cache)
    for limits in limits_seen:
        work = nothing()
        with pytest.raises(RuntimeError, match="closed"):
            limits.start(work)
        work.close()
    llms.close()


async def nothing() -> None:
    """No work."""


def of_folder(config: Config, model: Path | str) -> Config:
    service = LlmServiceConfig("local", str(model), cache="kept")
    return replace(config, explain=replace(config.explain, llm=service))


def test_a_model_that_was_moved_is_the_same_and_so_is_its_bill(neox_folder: Path, tmp_path: Path) -> None:
    """Nothing is asked twice, and what an attempt that was killed has paid is in the bill."""
    here, there = tmp_path / "here" / "model", tmp_path / "there" / "model"
    shutil.copytree(neox_folder, here)
    spent = []
    for place in (here, there):
        if place == there:
            there.parent.mkdir()
            here.rename(there)
        config = of_folder(load_config(), place)
        with llms_of(
            replace(config, explain=replace(config.explain, llm=replace(config.explain.llm, cache=None))),
            tmp_path / "llm",
        ) as llms:
            llms.take_up(lambda unit: False)
            list(llms.of("explain").asker.ask(WORD, "explain"))
            spent.append(llms.spent("explain")["llm"])
    assert spent[0]["requests"] == spent[1]["from_cache"] == spent[1]["earlier_requests"] == 1
    assert spent[0]["from_cache"] == spent[1]["requests"] == 0


def test_models_that_are_opened_again_are_billed_from_nothing(neox_folder: Path, tmp_path: Path) -> None:
    config, words = of_folder(load_config(), neox_folder), [Completion(f"word {i}", 1) for i in range(3)]
    config = replace(config, explain=replace(config.explain, llm=replace(config.explain.llm, cache=None)))
    llms, asked_for = Llms(config, tmp_path / "llm", SILENT, None), []
    for some in (words, WORD):
        llms.take_up(lambda unit: False)
        list(llms.of("explain").asker.ask(some, "explain"))
        asked_for.append(llms.spent("explain")["llm"]["asked"])
        llms.close()
    assert asked_for == [3, 1]


def test_a_run_is_gone_on_with_from_another_folder(
    tiny: Config, neox_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model and kept answers are named from where the run was begun: they are the same from anywhere."""
    shutil.copytree(neox_folder, tmp_path / "one" / "model")
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    found = []
    for config in (of_folder(tiny, "./model"), None):
        work = Workplace(tmp_path / "run", config or stored_config(tmp_path / "run"), STAGES)
        with work.locked():
            work.save_config()
            list(work.llms.of("explain").asker.ask(WORD, "explain"))
            found.append((work.llms.spent("explain")["llm"]["requests"], work.settings(work.stage("explain"))))
        monkeypatch.chdir(tmp_path / "two")
    assert [requests for requests, _ in found] == [1, 0] and found[0][1] == found[1][1]
    assert [path.parent.parent.name for path in tmp_path.rglob("answers.sqlite")] == ["one"]
