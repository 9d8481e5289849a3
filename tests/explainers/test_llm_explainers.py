"""The explainers that ask a language model, against one on loopback: prompts word for word, replies, failures.

`golden/` holds the prompts; with PLAINSPOKEN_GOLDEN=write they are written anew.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explain_scene import CAT, CONTEXT, DOG, LATENTS, NEVER, RARE, SAW, SINGLE, prompts, says
from llm.server import Server, Trouble
from plainspoken.circuits.named_tokens import LatentTokens
from plainspoken.config import ExplainConfig, LlmServiceConfig
from plainspoken.errors import ConfigError, LeakError, LlmError
from plainspoken.explainers import ExplainMeans, explainer_named
from plainspoken.language.quote import count_words
from plainspoken.language.text import Text
from plainspoken.latents import FiringTable
from plainspoken.llm import Chat, Message, request_key
from plainspoken.llm.open import open_llm
from plainspoken.types import Explanation, Failure, Rows

GOLDEN = Path(__file__).parent / "golden"
ASKING = ("default", "contrastive", "token_list", "weights", "evidence")
ANSWER = "[EXPLANATION]: On cats & dogs, <b>“x”</b>\nand more."
SAID = "On cats & dogs, <b>“x”</b> and more."


def made(means: ExplainMeans) -> ExplainMeans:
    """With weights: the latents read cats and dogs, and have neighbours."""
    tokens = np.tile(np.array([[CAT, DOG, SAW]]), (LATENTS, 1))
    named = LatentTokens(tokens, np.ones_like(tokens, float), tokens[:, ::-1], np.ones_like(tokens, float))
    rows = np.random.default_rng(0).normal(size=(LATENTS, 4))
    return replace(means, tokens=lambda: named, rows=lambda side: rows)


def explained(
    name: str, means: ExplainMeans, table: FiringTable, text: Text, words: int = 20, words_max: int = 40
) -> list[Explanation | Failure]:
    explainer = explainer_named(name)
    explain, done = explainer.opens(made(means)), []
    found = explain(table, explainer.prepare(text), np.ones(LATENTS), words, words_max, done.append)
    assert [each.latent for each in found] == list(range(LATENTS))
    assert sum(done) == LATENTS
    return found


def asked_of(body: dict[str, Any]) -> str:
    """A prompt as a person reads it."""
    if "prompt" in body:
        return body["prompt"]
    return "\n\n".join(f"=== {message['role']}\n{message['content']}" for message in body["messages"])


@pytest.mark.parametrize("name", [*ASKING, "default by completion", "default with thought"])
def test_prompts_are_word_for_word_these(name: str, ask, table: FiringTable, text: Text) -> None:
    server = Server(reply=says(ANSWER))
    kind, _, how = name.partition(" ")
    settings = {"chain_of_thought": True} if "thought" in how else {}
    with ask(server, "plain" if "completion" in how else "chat", **settings) as means:
        found = explained(kind, means, table, text)
    assert isinstance(found[SINGLE], Explanation), found[SINGLE]
    # Requests go side by side: which comes first is chance, so that of each set the first in order is taken.
    told = sorted(asked_of(body) for body in prompts(server))
    path = GOLDEN / f"{name.replace(' ', '_')}.txt"
    if os.environ.get("PLAINSPOKEN_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(told[0] + "\n")
    assert told[0] + "\n" == path.read_text()


@pytest.mark.parametrize("name", ASKING)
def test_every_latent_is_explained_or_says_why_not(name: str, ask, table: FiringTable, text: Text) -> None:
    server = Server(reply=says(ANSWER))
    with ask(server) as means:
        found = explained(name, means, table, text)
        single = found[SINGLE]
        assert single == Explanation(SINGLE, SAID, count_words(SAID), name, single.prompt_hash)
        bodies = [Chat(tuple(Message(**m) for m in b["messages"]), b["max_tokens"]) for b in prompts(server)]
        assert single.prompt_hash in {request_key(chat, means.llm.name).hex() for chat in bodies}
        spent = means.llm.asker.spent()["explain"]
    assert spent.requests == len(prompts(server)) == spent.asked - spent.from_cache
    for latent in (NEVER, RARE):
        assert isinstance(found[latent], Failure)
        assert (found[latent].stage, found[latent].kind) == ("explain", "not explained")
    assert "never fires" in found[NEVER].reason
    assert "fires in 1 text, fewer than explain.least_examples = 2" in found[RARE].reason
    if name == "token_list":
        assert found[CONTEXT].kind == "not explained"
        assert "no single token's latent" in found[CONTEXT].reason
    else:
        assert found[CONTEXT].text == SAID


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("part", ["fit", "calibrate", "evaluate"])
def test_other_documents_than_explain_ones_are_refused(
    name: str, part: Any, ask, table: FiringTable, text: Text
) -> None:
    rows = text.rows
    other = Rows(rows.tokens, rows.mask, rows.document, rows.keys, part)
    with ask(Server(reply=says(ANSWER))) as means, pytest.raises(LeakError, match=part):
        explained(name, means, FiringTable(table.pointer, table.position, table.value, other), Text(other, text.pieces))


def test_the_same_seed_asks_the_same_and_each_latent_for_itself(ask, table: FiringTable, text: Text) -> None:
    """A latent's prompt does not depend on the others': with one of them left out it is the same."""
    told = []
    for seed, alone in ((0, False), (0, True), (1, False)):
        server = Server(reply=says(ANSWER))
        values = table
        if alone:
            silent = table.pointer.copy()
            silent[: CONTEXT + 1] = silent[CONTEXT]
            values = FiringTable(silent, table.position, table.value, table.rows)
        with ask(server) as means:
            explained("default", replace(means, seed=seed), values, text)
        told.append({asked_of(body) for body in prompts(server)})
    assert [len(each) for each in told] == [2, 1, 2]
    assert told[1] < told[0]
    assert told[2].isdisjoint(told[0])


@pytest.mark.parametrize("name", ["default", "contrastive", "token_list", "weights"])
def test_a_latent_more_or_less_changes_nothing_of_what_another_is_shown(
    name: str, ask, table: FiringTable, text: Text
) -> None:
    """Near misses by neighbours are the exception: they are another latent's firings by what they are."""
    told = []
    for kept in (range(LATENTS), [SINGLE]):
        server = Server(reply=says(ANSWER))
        with ask(server, negatives_from=("tokens", "random")) as means:
            explained(name, means, table.only(np.array(kept)), text)
        told.append({asked_of(body) for body in prompts(server)})
    everybody, alone = told
    assert len(alone) == 1 and alone <= everybody


def test_too_long_is_asked_again_once_with_the_reason(ask, table: FiringTable, text: Text) -> None:
    long = "[EXPLANATION]: " + "many " * 19

    def mend(prompt: str) -> str:
        return ANSWER if "Answer again, in 8 words" in prompt else long

    server = Server(reply=says(mend))
    with ask(server) as means:
        found = explained("default", means, table, text, 8, 10)
    assert (found[SINGLE].text, found[CONTEXT].text) == (SAID, SAID)
    again = [body["messages"] for body in prompts(server) if "Answer again" in body["messages"][-1]["content"]]
    assert (len(again), len(prompts(server))) == (2, 4)
    assert {messages[-2]["content"] for messages in again} == {long}
    assert "has 19 words, more than 10" in again[0][-1]["content"]


def test_a_reply_that_stays_too_long_is_a_failure(ask, table: FiringTable, text: Text) -> None:
    server = Server(reply=says("[EXPLANATION]: " + "many " * 9))
    with ask(server) as means:
        found = explained("default", means, table, text, 5, 7)
    assert (found[SINGLE].kind, len(prompts(server))) == ("too many words", 4)
    assert "9 words, more than 7 (explain.words_max)" in found[SINGLE].reason


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("[EXPLANATION]:", "parse"),
        ("It is this. It is that.", "parse"),
        ("I'm sorry, but I can't help with that.", "refused"),
        ("", "parse"),
    ],
)
def test_a_reply_that_is_no_explanation_is_a_failure_and_not_asked_again(
    reply: str, kind: str, ask, table: FiringTable, text: Text
) -> None:
    server = Server(reply=says(reply))
    with ask(server) as means:
        found = explained("default", means, table, text)
    assert (found[SINGLE].kind, found[CONTEXT].kind) == (kind, kind)
    assert len(prompts(server)) == 2


def test_a_reply_that_is_cut_off_is_asked_again_and_then_a_failure(ask, table: FiringTable, text: Text) -> None:
    def cut(body: dict[str, Any]) -> dict[str, Any]:
        for choice in body["choices"]:
            choice["finish_reason"] = "length"
        return body

    server = Server(reply=says(ANSWER), change=cut)
    with ask(server) as means:
        found = explained("default", means, table, text)
    assert (found[SINGLE].kind, len(prompts(server))) == ("cut answer", 4)


def test_a_server_that_fails_is_a_failure_of_each_latent(ask, table: FiringTable, text: Text) -> None:
    def trouble(path: str, before: int, headers: dict[str, str]) -> Trouble | None:
        return None if before == 0 else Trouble(status=500)

    with ask(Server(reply=says(ANSWER), trouble=trouble)) as means:
        found = explained("default", means, table, text)
    assert (found[SINGLE].kind, found[CONTEXT].kind) == ("server", "server")


def test_a_prompt_beyond_the_context_is_a_failure_that_says_what_to_lower(
    neox_folder: Path, tmp_path: Path, table: FiringTable, text: Text
) -> None:
    """A model in process whose context is 64 tokens."""
    llm = open_llm(LlmServiceConfig(model=str(neox_folder)), tmp_path, device="cpu")
    settings = ExplainConfig(least_examples=2, window=8, max_tokens=8)
    with pytest.raises(ConfigError, match=r"a reply may take 640 tokens.*is 64, prompt and reply together"):
        explainer_named("default").opens(ExplainMeans(ExplainConfig(), 0, llm))
    found = explained("default", ExplainMeans(settings, 0, llm), table, text)
    llm.close()
    assert found[SINGLE].kind == "beyond context"
    assert "the context of" in found[SINGLE].reason and "lower explain.examples" in found[SINGLE].reason


def test_a_model_that_cannot_be_asked_is_refused_before_it_is(ask, table: FiringTable, text: Text) -> None:
    server = Server(trouble=lambda path, before, headers: Trouble(status=404))
    with ask(server) as means, pytest.raises(LlmError, match="cannot be asked for chat"):
        explainer_named("default").opens(means)
    with ask(Server(), "plain", chain_of_thought=True) as means, pytest.raises(ConfigError, match=r"explain\.ask=chat"):
        explainer_named("default").opens(means)
    with ask(Server(), examples=7) as means, pytest.raises(ConfigError, match="multiple of 5"):
        explainer_named("contrastive").opens(means)


def test_without_a_system_message_the_task_stands_before_the_first_case(ask, table: FiringTable, text: Text) -> None:
    server = Server(reply=says(ANSWER))
    with ask(server, "no system") as means:
        assert isinstance(explained("default", means, table, text)[SINGLE], Explanation)
    for body in prompts(server):
        assert [message["role"] for message in body["messages"]] == ["user", "assistant"] * 2 + ["user"]
        assert body["messages"][0]["content"].startswith("You study a language model.")


def test_a_model_without_a_chat_template_goes_on_with_a_text(ask, table: FiringTable, text: Text) -> None:
    server = Server(reply=says(" on cats and dogs"))
    with ask(server, "plain", max_tokens=9) as means:
        found = explained("default", means, table, text)
    assert found[SINGLE].text == "on cats and dogs"
    for body in prompts(server):
        assert body["prompt"].endswith("\n\n[EXPLANATION]:")
        assert (body["stop"], body["max_tokens"]) == (["\n"], 9)
    # And where it is to be asked as an assistant all the same, it is.
    with ask(server, "plain", ask="chat") as means:
        explained("default", means, table, text)
    assert "messages" in prompts(server)[-1]
