"""Latents that stand in one prompt: what is asked again is asked as in a whole run, and nothing else is."""

import dataclasses
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from llm.server import Server, Trouble, serve
from plainspoken.config import Config
from plainspoken.errors import RunError
from plainspoken.pipeline import explanations, run
from plainspoken.pipeline.results import Results
from plainspoken.pipeline.shelves import SHARES, load_simulation
from plainspoken.store import Manifest
from plainspoken.types import Simulation
from told_run import odds

SITE = "gpt_neox.layers.0.mlp"
BATCH = 4
SEVERAL = pytest.mark.parametrize("simulator", ["batched", "structured"])


def listed(text: str) -> str:
    """A reply that rests on all of the prompt: whatever stands in it changes every level."""
    if "Tell of" not in text:
        return "there"
    _, _, which = text.rpartition("no other tokens than ")
    numbers = [int(number) for number in re.findall(r"\d+", which)] or [1]
    known = len(re.findall(r"^\d+\. ", text, re.M))
    return json.dumps([[e, n, crc32(f"{e} {n} {text}".encode()) % 10] for e in range(1, known + 1) for n in numbers])


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server(reply=listed, brain=odds)
    with serve(found):
        yield found


def asking(tiny: Config, server: Server, tokenizer: Path, simulator: str, **simulate) -> Config:
    llm = dataclasses.replace(
        tiny.simulate.llm, service="openai", model="test", base_url=server.url, tokenizer=str(tokenizer), retries=0
    )
    simulated = dataclasses.replace(
        tiny.simulate,
        simulator=simulator,
        calibrate_positions="last",
        batch=BATCH,
        least_mass=1e-9,
        llm=llm,
        **simulate,
    )
    return dataclasses.replace(
        tiny, simulate=simulated, evaluate=dataclasses.replace(tiny.evaluate, positions="last", draws=1)
    )


def simulations(run: Path) -> dict[str, Simulation]:
    return {share: load_simulation(run / "simulate" / SITE / f"{share}.safetensors")[0] for share in SHARES}


def same(one: dict[str, Simulation], other: dict[str, Simulation]) -> bool:
    names = ("position", "latent", "level", "missing_position", "missing_latent")
    return all(np.array_equal(getattr(one[s], n), getattr(other[s], n)) for s in SHARES for n in names)


def anew(config: Config, folder: Path) -> dict[str, Simulation]:
    """What a run with these sentences says that was never asked before."""
    fresh = Path(shutil.copytree(folder, folder.parent / "fresh"))
    shutil.rmtree(fresh / "llm")
    run(config, fresh, target="simulate", force=["simulate"])
    return simulations(fresh)


def counts(folder: Path, stage: str = "simulate") -> dict:
    [path] = (folder / stage).rglob("manifest.json")
    return dict(Manifest.load(path).counts)


def sentences(folder: Path) -> list[int]:
    return sorted(explanations.read_explanations(folder / "explain" / SITE))


def edit(folder: Path, **texts: str) -> None:
    path = folder / "explain" / SITE / explanations.CURRENT
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    changed = [record | {"text": texts.get(f"_{record['latent']}", record["text"])} for record in records]
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in changed), "utf-8")


@pytest.mark.slow
@SEVERAL
@pytest.mark.parametrize("gate", ["none", "rules"])
def test_after_an_edit_its_batch_alone_is_asked_anew_and_levels_are_those_of_a_whole_run(
    simulator: str, gate: str, tiny: Config, copy: Path, assistant: Path, server: Server
) -> None:
    config = asking(tiny, server, assistant, simulator, gate=gate, gate_recall=0.6)
    run(config, copy, target="simulate", force=["simulate"])
    before, known = simulations(copy), sentences(copy)
    assert len(known) > 2 * BATCH
    edited, batch = known[BATCH + 1], known[BATCH : 2 * BATCH]
    edit(copy, **{f"_{edited}": "Fires at 9 on “the”."})
    run(config, copy, target="simulate")
    after = simulations(copy)
    assert not same(before, after) and same(after, anew(config, copy))
    if gate == "none":  # which thresholds a gate has rests on all sentences
        assert counts(copy)["evaluate_latents_simulated"] == len(batch)
        rest = [latent for latent in known if latent not in batch]
        kept = {s: after[s].with_latents_of(before[s], np.array(batch)) for s in SHARES}
        assert same(kept, before) and len(rest) > 0


@pytest.mark.slow
@SEVERAL
def test_what_got_no_answer_is_asked_again_beside_an_edit_and_what_did_is_not(
    simulator: str, tiny: Config, copy: Path, assistant: Path, server: Server
) -> None:
    config, count = asking(tiny, server, assistant, simulator), itertools.count()
    spoilt = Trouble(400, b"{}")
    server.trouble = lambda path, before, headers: spoilt if before > 60 and next(count) % 7 == 0 else None
    run(config, copy, target="simulate", force=["simulate"])
    first, known = counts(copy)["llm"], sentences(copy)
    failed = sum(first["faults"].values())
    assert failed > 3
    server.trouble = lambda path, before, headers: None
    edit(copy, **{f"_{known[0]}": "Fires at 9 on “the”."})
    run(config, copy, target="simulate")
    of_a_batch = first["asked"] / np.ceil(len(known) / BATCH)
    assert of_a_batch <= counts(copy)["llm"]["requests"] <= of_a_batch + failed
    assert same(simulations(copy), anew(config, copy))


@pytest.mark.slow
@SEVERAL
def test_the_effect_of_edits_is_that_between_the_two_runs_and_costs_nothing(
    simulator: str, tiny: Config, copy: Path, assistant: Path, server: Server
) -> None:
    config = asking(tiny, server, assistant, simulator)
    run(config, copy, target="evaluate", force=["simulate"])
    before = Results.read(copy).record("rewritten")["ce"]
    edited = sentences(copy)[1]
    edit(copy, **{f"_{edited}": "Fires at 9 on “the”."})
    run(config, copy, target="evaluate")
    results = Results.read(copy)
    effects = {effect["latent"]: effect["effect"] for effect in results.edits}
    assert set(effects) == {None, edited} and results.in_prompt == BATCH
    assert effects[None] == pytest.approx(results.record("rewritten")["ce"] - before, abs=1e-9)
    assert effects[edited] != effects[None], "the sentence alone: its company stays as it is now"
    assert counts(copy, "evaluate")["llm_simulate"]["requests"] == 0


@pytest.mark.slow
def test_another_form_of_prompt_is_another_simulation(
    tiny: Config, copy: Path, assistant: Path, server: Server
) -> None:
    """Whether answers are held to a schema is found of the server at each start."""
    config = asking(tiny, server, assistant, "structured")
    server.reply = lambda text: '{"answer": "kept"}' if "Name a cat." in text else listed(text)
    run(config, copy, target="simulate", force=["simulate"])
    edit(copy, **{f"_{sentences(copy)[0]}": "Fires at 9 on “the”."})
    server.reply = listed
    run(config, copy, target="simulate")
    assert counts(copy)["evaluate_latents_simulated"] == 12, "all, not the batch of the edit alone"
    assert same(simulations(copy), anew(config, copy))
    server.reply = lambda text: '{"answer": "kept"}' if "Name a cat." in text else listed(text)
    with pytest.raises(RunError, match=r"asked in another way.*--force simulate"):
        run(config, copy, target="evaluate")
