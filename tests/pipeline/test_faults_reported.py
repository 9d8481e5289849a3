"""Every fault that there is, in a whole run: a counted failure of its kind, never a level; coverage in the report."""

import dataclasses
import itertools
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from explain_scene import TEMPLATE, says
from llm.server import Server, Trouble, drawn, serve
from plainspoken.config import Config, LimitsConfig
from plainspoken.errors import LlmError
from plainspoken.llm.tokens import LlmTokens
from plainspoken.pipeline import Progress, failure_counts, llm_costs, run
from plainspoken.pipeline.results import Results
from plainspoken.pipeline.shelves import SHARES
from plainspoken.store import Manifest

SITE = "gpt_neox.layers.0.mlp"
PROBES = 40
"""More requests than it takes to try a model."""


def answer(**fields: Any) -> Trouble:
    return Trouble(body=json.dumps({"choices": [{"index": 0, "finish_reason": "stop", **fields}]}).encode())


TROUBLES: dict[str, Trouble] = {
    "HTTP 400": Trouble(400, b"{}"),
    "HTTP 401": Trouble(401, b"{}"),
    "HTTP 429": Trouble(429, b"{}"),
    "HTTP 500": Trouble(500, b"oh"),
    "a hung socket": Trouble(delay_s=3.0),
    "a cut line": Trouble(drop=True),
    "malformed JSON": Trouble(body=b'{"choices": [{'),
    "prose for JSON": Trouble(body=b"Sure! Here is the answer: 7"),
    "a wrong count": Trouble(body=b'{"choices": []}'),
    "beyond context": Trouble(400, b"maximum context length is 8"),
    "filtered": Trouble(400, b"content_filter"),
}
ODDS = {
    "no log-probabilities": answer(text=""),
    "a cut prompt": Trouble(body=b'{"choices": [{"index": 0, "text": ""}], "usage": {"prompt_tokens": 1}}'),
    "positive log-probabilities": answer(
        logprobs={"top_logprobs": [{f"token_id:{token}": 2.0 for token in range(320)}]}
    ),
}
WORDS = {
    "empty": answer(message={"content": " "}),
    "refused": answer(message={"content": None, "refusal": "I would rather not"}),
    "prose": answer(message={"content": "It fires on some of them, I think."}),
    "half a list": answer(message={"content": "[[0, 3], [1, 2"}),
    "outside 0-9": answer(message={"content": "[[0, 11]]"}),
    "a token that is not there": answer(message={"content": "[[4000, 3]]"}),
    "cut off": Trouble(body=b'{"choices": [{"index": 0, "message": {"content": "[[0"}, "finish_reason": "length"}]}'),
}


@pytest.fixture(scope="module")
def tokenizer(neox_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the tests' tokenizer, with a chat template."""
    loaded = AutoTokenizer.from_pretrained(neox_folder)
    loaded.chat_template = TEMPLATE
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    loaded.save_pretrained(folder)
    return folder


def asking(tiny: Config, url: str, tokenizer: Path, simulator: str, batch: int = 1) -> Config:
    llm = dataclasses.replace(
        tiny.simulate.llm, service="openai", model="test", base_url=url, tokenizer=str(tokenizer), retries=0,
        timeout_s=1.0,
    )  # fmt: skip
    simulate = dataclasses.replace(tiny.simulate, simulator=simulator, batch=batch, calibrate_positions="last", llm=llm)
    evaluate = dataclasses.replace(tiny.evaluate, positions="last")
    return dataclasses.replace(tiny, simulate=simulate, evaluate=evaluate, limits=LimitsConfig(concurrency=8))


def without(folder: Path, *stages: str) -> Path:
    for stage in stages:
        shutil.rmtree(folder / stage, ignore_errors=True)
    return folder


def brain_of(tokenizer: Path) -> Callable[[tuple[int, ...]], np.ndarray]:
    """Levels with nearly all probability, except after one prompt in nine: there they get next to nothing."""
    tokens = LlmTokens.of(AutoTokenizer.from_pretrained(tokenizer))
    digits = list(tokens.digits(tokens.encode("a")))

    def brain(ids: tuple[int, ...]) -> np.ndarray:
        odds = drawn(ids).normal(size=320)
        odds[digits] += -40 if sum(ids) % 9 == 0 and len(ids) > 60 else 20
        return odds - np.log(np.exp(odds).sum())

    return brain


def troubled(troubles: dict[str, Trouble], of: Callable[[dict[str, Any]], bool]) -> tuple[Server, list[str]]:
    """A server of whose answers to such requests every third is one of the troubles, in turn; which there were."""
    quick = [name for name in troubles if name != "a hung socket"]  # which costs a time-out each: one in four rounds
    met, names, count = list[str](), itertools.cycle([*troubles, *3 * quick]), itertools.count()

    class Spoilt(Server):
        async def handle(self, request: Any) -> Any:
            spoils = of(json.loads(await request.body())) and next(count) % 3 == 0
            name = next(names) if spoils else None
            met.extend([name] if name else [])
            self.trouble = lambda path, before, headers: None if name is None else troubles[name]
            return await super().handle(request)

    return Spoilt(keep_bodies=False), met


@pytest.mark.slow
@pytest.mark.parametrize(("simulator", "batch"), [("last-token", 1), ("structured", 1), ("structured", 4)])
def test_whatever_goes_wrong_with_levels_is_counted_and_covers_less(
    simulator: str, batch: int, tiny: Config, copy: Path, tokenizer: Path
) -> None:
    """`batch`: pairs that a request is about: those of so many latents at the last token of a row."""
    folder = without(copy, "simulate", "calibrate", "evaluate", "report")
    words = simulator == "structured"
    troubles = TROUBLES | (WORDS if words else ODDS)
    before = itertools.count()
    # What tries the model comes first, and is left in peace.
    of = (lambda body: "Explanation" in str(body)) if words else (lambda body: next(before) > PROBES)
    server, met = troubled(troubles, of)
    server.reply = lambda text: "Here it is: [] and that is all." if "Explanation" in text else "there"
    server.brain = brain_of(tokenizer)
    with serve(server):
        run(asking(tiny, server.url, tokenizer, simulator, batch), folder)
    assert set(met) == set(troubles), "each was met"

    manifest = Manifest.load(folder / "simulate" / SITE / "manifest.json")
    lacking = {part: manifest.counts[f"{part}_pairs_unanswered"] for part in SHARES}
    unheard = sum(lacking.values()) / batch
    spent = manifest.counts["llm"]
    assert sum(spent["faults"].values()) <= unheard
    expected = {"server", "beyond context", "refused"}
    expected |= {"parse", "cut answer"} if words else {"missing probability mass", "cut prompt"}
    assert {failure.kind for failure in failure_counts(folder) if failure.stage == "simulate"} == expected
    if words:
        # Two that ask the same at once share an answer, also one that is none.
        assert len(met) <= unheard <= 1.1 * len(met), "what was answered was heard, and nothing else"

    coverage = Results.read(folder).record("rewritten")["coverage"]
    assert coverage == pytest.approx(1 - lacking["evaluate"] / manifest.counts["evaluate_pairs_asked"]) and coverage < 1
    page = (folder / "report.html").read_text()
    headline = re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)
    assert headline is not None and re.search(r"Incomplete, verdict withheld: \d\d\.\d % ", headline[1])
    assert all(f"{kind}: " in page or f"{kind} " in page for kind in expected)


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_ends_the_run_which_then_asks_only_for_the_rest(
    tiny: Config, copy: Path, tokenizer: Path
) -> None:
    folder = without(copy, "simulate", "calibrate", "evaluate", "report")
    server = Server(brain=brain_of(tokenizer), keep_bodies=False)
    server.trouble = lambda path, before, headers: Trouble(drop=True) if before > 2 * PROBES else None
    with serve(server):
        config = asking(tiny, server.url, tokenizer, "last-token")
        with pytest.raises(LlmError, match=r"the server is gone.*what was answered is kept"):
            run(config, folder)
        assert not (folder / "simulate" / SITE / "manifest.json").exists()
        died = server.seen.total()
        server.trouble = lambda path, before, headers: None
        run(config, folder, target="simulate")
    cost, probe = llm_costs(folder)
    answered = 2 * PROBES + 1 - probe.spent.requests
    assert cost.spent.from_cache == answered > 0
    # What was lost is in the bill as well.
    assert cost.spent.earlier_requests + probe.spent.earlier_requests == died
    assert cost.spent.requests == server.seen.total() - died - probe.spent.requests == cost.spent.asked - answered


EXPLAINING = {
    **{name: trouble for name, trouble in TROUBLES.items() if name != "a hung socket"},
    "refused": WORDS["refused"],
    "empty": WORDS["empty"],
    "no explanation": answer(message={"content": "I do not know."}),
}


@pytest.mark.slow
def test_whatever_goes_wrong_with_sentences_is_told_latent_by_latent(tiny: Config, copy: Path, tokenizer: Path) -> None:
    """Every third of what is asked meets a trouble."""
    folder = without(copy, "explain", "simulate", "calibrate", "evaluate", "report")
    llm = asking(tiny, "http://127.0.0.1:9/v1", tokenizer, "rules").simulate.llm
    server, met = troubled(EXPLAINING, lambda body: "[EXPLANATION]:" in str(body))
    server.reply = says("[EXPLANATION]: Fires at 9 on “the”.")
    with serve(server):
        explain = dataclasses.replace(
            tiny.explain, explainer="default", least_examples=2, window=8, examples=10, quantiles=5,
            llm=dataclasses.replace(llm, base_url=server.url),
        )  # fmt: skip
        config = dataclasses.replace(tiny, explain=explain)
        run(config, folder)
        told = Manifest.load(folder / "explain" / SITE / "manifest.json")
    kinds = Counter(failure["kind"] for failure in told.failures)
    explained = told.counts["explained"]
    assert explained + kinds.total() == tiny.coder.latents and explained > 0
    assert kinds["server"] + kinds["beyond context"] + kinds["refused"] + kinds["parse"] >= len(met) > 2
    assert Results.read(folder).record("rewritten")["explained"] == explained
    page = (folder / "report.html").read_text()
    assert all(f"{kind} {count}" in page for kind, count in kinds.items())


def test_that_no_latent_got_a_sentence_is_said_with_the_reason(tiny: Config, copy: Path, tokenizer: Path) -> None:
    """A stage in which every answer is a refusal must not end like one that did something."""
    folder = without(copy, "explain", "simulate", "calibrate", "evaluate", "report")
    llm = asking(tiny, "http://127.0.0.1:9/v1", tokenizer, "rules").simulate.llm
    said: list[str] = []
    with serve(Server(reply=says("I do not know."))) as server:
        explain = dataclasses.replace(
            tiny.explain, explainer="default", least_examples=2, window=8, examples=10, quantiles=5,
            llm=dataclasses.replace(llm, base_url=server.url),
        )  # fmt: skip
        run(dataclasses.replace(tiny, explain=explain), folder, target="explain", progress=Progress(warn=said.append))
    (told,) = [line for line in said if "no latent has a sentence" in line]
    assert told.startswith(SITE) and "refused: " in told and "--force explain" in told
