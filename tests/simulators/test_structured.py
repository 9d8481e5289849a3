"""Levels as JSON: what a reply means without doubt is taken, and everything else is a fault, never a level."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.server import Server, Trouble, serve
from plainspoken.config import LlmServiceConfig, SimulateConfig
from plainspoken.errors import LlmError
from plainspoken.language.text import Text
from plainspoken.llm import Fault, Message, Odds, Reply
from plainspoken.llm.open import Llm, open_llm
from plainspoken.simulators import SimulateMeans, simulator_named
from plainspoken.simulators.json_levels import FIELD, Wanted, read_levels
from plainspoken.simulators.levels import Levels
from plainspoken.simulators.structured import told_of
from plainspoken.types import Pairs

SENTENCES = {0: "names", 2: "verbs", 3: "the word her"}
LATENTS = 4
NUMBERS = (3, 4, 5, 9)
ALONE = Wanted(NUMBERS)
MANY = Wanted((3, 3, 4, 9, 9, 9), (1, 3, 2, 1, 2, 3), most=4)
"""Of three explanations that are asked about, four being numbered; not each of them at every token."""

alone = st.dictionaries(st.tuples(st.just(1), st.sampled_from(NUMBERS)), st.integers(0, 9))
many = st.dictionaries(st.tuples(st.integers(1, 4), st.sampled_from((3, 4, 9))), st.integers(0, 9))
levels = st.tuples(st.just(ALONE), alone) | st.tuples(st.just(MANY), many)
prose = st.text(st.characters(exclude_characters="[]{}", exclude_categories=["Cs"]), max_size=40)
blank = st.sampled_from(["", " ", "\n", "  \n"])


def told(text: str, finish="stop", wanted: Wanted = ALONE) -> Levels | Fault:
    return read_levels(Reply(text, finish), wanted)


def fault(text: str, finish="stop", wanted: Wanted = ALONE) -> Fault:
    found = told(text, finish, wanted)
    assert isinstance(found, Fault), found
    return found


def written(wanted: Wanted, said: dict[tuple[int, int], int], draw, wrapped: bool) -> str:
    first = 1 if wanted.explanations is None else 0
    matches = [[*pair[first:], level] for pair, level in draw(st.permutations(list(said.items())))]
    return json.dumps({FIELD: matches} if wrapped else matches, indent=draw(st.sampled_from([None, 1])))


@settings(max_examples=120)
@given(levels, prose, prose, st.booleans(), st.data())
def test_what_is_listed_has_its_level_and_what_is_left_out_has_none(asked, before, after, wrapped, data):
    """Whatever is said of pairs that were not asked about."""
    wanted, said = asked
    found = told(before + written(wanted, said, data.draw, wrapped) + after, wanted=wanted)
    assert isinstance(found, Levels)
    assert found.level.tolist() == [said.get(pair, 0) for pair in wanted.pairs]
    assert found.enough.all() and np.isnan(found.discarded).all()


@settings(max_examples=120)
@given(levels.filter(lambda asked: bool(asked[1])), prose, st.booleans(), st.data())
def test_a_reply_that_is_cut_off_anywhere_within_its_json_is_a_fault(asked, before, wrapped, data):
    wanted, said = asked
    whole = written(wanted, said, data.draw, wrapped)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert fault(before + whole[:cut], wanted=wanted).kind == "parse"
    assert fault(whole, "length", wanted).kind == "cut answer"


@settings(max_examples=150)
@given(
    st.text(st.sampled_from('[]{}"levels:,-0123459. eE\n'), max_size=40) | st.text(max_size=40),
    st.sampled_from([ALONE, MANY]),
)
def test_any_text_is_a_fault_or_levels_that_stand_in_it(text: str, wanted: Wanted):
    found = told(text, wanted=wanted)
    if isinstance(found, Fault):
        assert found.kind == "parse" and found.reason
        return
    assert found.level.shape == (len(wanted.tokens),) and ((found.level >= 0) & (found.level <= 9)).all()
    for (explanation, number), level in zip(wanted.pairs, found.level.tolist(), strict=True):
        first = "" if wanted is ALONE else rf"{explanation}\s*,\s*"
        assert level == 0 or re.search(rf"\[\s*{first}{number}\s*,\s*{int(level)}\s*\]", text)


@settings(max_examples=60)
@given(alone, alone, blank, st.data())
def test_two_lists_are_one_too_many(one, other, between, data):
    whole = written(ALONE, one, data.draw, False) + between + written(ALONE, other, data.draw, True)
    assert fault(whole).kind == "parse"


@settings(max_examples=100)
@given(many, st.sampled_from(["explanation", "token", "twice", "level", "short", "long", "alone"]), st.data())
def test_one_match_that_can_be_doubted_spoils_the_whole_reply(said, how, data):
    place = data.draw(st.integers(0, len(said)))
    bad = {
        "explanation": [data.draw(st.sampled_from((-1, 0, 5, 33))), 3, 7],
        "token": [1, data.draw(st.sampled_from((-1, 0, 1, 2, 5, 10))), 7],
        "twice": [*data.draw(st.sampled_from(sorted(said))), 7] if said else [1, 5, 7],
        "level": [2, 4, data.draw(st.sampled_from((-1, 10, 4.0, "4", True, None)))],
        "short": [4, 7],
        "long": [2, 4, 4, 7],
        "alone": 7,
    }[how]
    matches = [[*pair, level] for pair, level in said.items() if how != "level" or pair != (2, 4)]
    spoilt = json.dumps([*matches[:place], bad, *matches[place:]])
    assert fault(spoilt, wanted=MANY).kind == "parse"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON"),
        ("   \n", "no JSON"),
        ("There are none.", "no JSON"),
        ("null", "no JSON"),
        ("7", "no JSON"),
        ("I cannot help with that.", "no JSON"),
        ("[[3, 7], [4, 2]", "is no JSON"),
        ("[[3, 7]] and [4", "is no JSON"),
        ("[[3, 7]]]", "is no JSON"),
        ("Token [3] fires: [[3, 7]]", "2 JSON lists"),
        ("[[3, 7], [3, 7]]", "token 3 stands twice"),
        ("[[3, 7], [3, 1]]", "token 3 stands twice"),
        ("[[6, 7]]", "token 6 was not asked about"),
        ("[[0, 7]]", "token 0 was not asked about"),
        ("[[-3, 7]]", "token -3 was not asked about"),
        ("[[3, 10]]", "10 is no level"),
        ("[[3, -1]]", "-1 is no level"),
        (f"[[3, {'9' * 5000}]]", "is no JSON"),
        ("[[3, 7.0]]", "no pair of integers"),
        ("[[3, 1e0]]", "no pair of integers"),
        ('[[3, "7"]]', "no pair of integers"),
        ("[[3, true]]", "no pair of integers"),
        ("[[3, null]]", "no pair of integers"),
        ("[[3, NaN]]", "is no JSON"),
        ("[[3]]", "no pair of integers"),
        ("[[3, 4, 5]]", "no pair of integers"),
        ("[3, 7]", "no pair of integers"),
        ('[{"token": 3, "level": 7}]', "no pair of integers"),
        ('{"3": 7}', "no list of pairs"),
        ('{"levels": [[3, 7]], "why": "it fires"}', "no list of pairs"),
        ('{"levels": [[3, 7]], "levels": []}', "is no JSON"),
        ('{"levels": 7}', "no list of pairs"),
        ("{}", "no list of pairs"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_what_can_be_doubted_is_a_fault_that_says_why(text: str, why: str):
    found = fault(text)
    assert found.kind == "parse" and why in found.reason and len(found.reason) < 200


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[0, 3, 7]]", "no explanation 0"),
        ("[[5, 3, 7]]", "no explanation 5"),
        ("[[1, 5, 7]]", "token 5 was not asked about"),
        ("[[1, 3, 7], [1, 3, 7]]", "token 3 stands twice for explanation 1"),
        ("[[1, 3, 10]]", "10 is no level"),
        ("[[3, 7]]", "no three integers"),
        ('{"1": [[3, 7]]}', "no list of matches"),
    ],
)
def test_what_can_be_doubted_of_many_says_why_too(text: str, why: str):
    assert why in fault(text, wanted=MANY).reason


def test_a_refusal_and_a_fault_stay_what_they_are():
    assert fault("[[3, 7]]", "refused").kind == "refused"
    gone = Fault("server", "gone")
    assert read_levels(gone, ALONE) is gone
    odds = read_levels(Odds(np.zeros((4, 10))), ALONE)
    assert isinstance(odds, Fault) and odds.kind == "server"


def test_numbers_are_listed_in_runs():
    assert told_of((1, 2, 3), 3) == "all tokens"
    assert told_of((3, 4, 5, 9), 9) == "no other tokens than 3-5, 9"
    assert told_of((7,), 9) == "no other tokens than 7"


def level_of(token: str, explanation: str) -> int:
    """What the test's language model holds of a token: nobody else could know it."""
    return sum(map(ord, token + explanation)) % 10


def knows(text: str) -> str:
    """The reply of a model that lists what it holds, in the form that it is asked for."""
    if "Name a cat." in text:
        return '{"answer": "kept"}' if "Put the list" not in text else ""
    if "Tell of" not in text:
        return "there"
    lines = re.findall(r"^(\d+)\t(.*)$", text, re.M)
    which = re.findall(r"\n\nTell of (.*)\.", text)[0]
    several = re.findall(r"^(\d+)\. (.*)$", text, re.M)
    explanations = several or [("", explanation) for explanation in re.findall(r"\n\nExplanation: (.*)\n\n", text)]
    numbers = {int(number) for number, _ in lines}
    if which != "all tokens":
        runs = [run.split("-") for run in which.removeprefix("no other tokens than ").split(", ")]
        numbers = {n for run in runs for n in range(int(run[0]), int(run[-1]) + 1)}
    said = [
        [*([int(e)] if e else []), int(n), level]
        for n, token in lines
        for e, explanation in explanations
        if int(n) in numbers and (level := level_of(token, explanation))
    ]
    return json.dumps({FIELD: said}) if "Put the list into an object" in text else f"Here it is: {json.dumps(said)}"


@contextmanager
def asking(server: Server, tokenizer: Path, folder: Path, context: int = 0) -> Iterator[Llm]:
    with serve(server):
        config = LlmServiceConfig(
            "openai", "test", server.url, tokenizer=str(tokenizer), context=context, retries=0, timeout_s=10
        )
        llm = open_llm(config, folder / "answers")
        yield llm
        llm.close()


def simulate(llm: Llm, text: Text, asked=None, only=None, batch=1, say=lambda message: None, **settings):
    opened = simulator_named("structured").opens(SimulateMeans(SimulateConfig(batch=batch, **settings), 7, llm, say))
    return opened(SENTENCES, LATENTS, text, asked, only)


def held(text: Text) -> np.ndarray:
    """What the model holds of every pair, [row, t, latents]."""
    found = np.zeros((*text.rows.tokens.shape, LATENTS))
    for row, column in np.argwhere(text.rows.mask):
        token = text.pieces[text.rows.tokens[row, column]].decode().replace("\\", "\\\\").replace("\n", "\\n")
        for latent, sentence in SENTENCES.items():
            found[row, column, latent] = level_of(token, sentence)
    return found


def dense(simulation) -> np.ndarray:
    found = np.zeros((simulation.rows * simulation.t, LATENTS))
    found[simulation.position, simulation.latent] = simulation.level
    return found.reshape(simulation.rows, simulation.t, LATENTS)


@pytest.mark.parametrize(("batch", "prompts"), [(1, 3), (2, 2), (32, 1)])
@pytest.mark.parametrize("schemas", [True, False])
def test_what_the_model_holds_of_every_token_is_told(schemas, batch, prompts, passages, llama_folder, tmp_path: Path):
    server = Server(reply=lambda text: "a cat" if not schemas and "Name a cat." in text else knows(text))
    heard = []
    with asking(server, llama_folder, tmp_path) as llm:
        simulation, failures = simulate(llm, passages, batch=batch, say=heard.append)
    assert not failures and simulation.complete
    np.testing.assert_array_equal(dense(simulation), held(passages))
    asked = [body for body in server.bodies if "Tell of" in str(body)]
    assert len(asked) == prompts * len(passages.rows.tokens)
    assert all(("response_format" in body) == schemas and body["seed"] == 7 for body in asked)
    assert ["the schema is ignored" in message for message in heard] == [True] * (not schemas)


def test_the_rows_of_a_batch_share_its_explanations_in_the_prefix_cache(passages, llama_folder, tmp_path: Path):
    server = Server(reply=knows)
    with asking(server, llama_folder, tmp_path) as llm:
        simulate(llm, passages, batch=3)
        bodies = [body["messages"][-1]["content"] for body in server.bodies if "Tell of" in str(body)]
    heads = {body.partition("\n\nText:\n")[0] for body in bodies}
    assert heads == {"Explanations:\n1. names\n2. verbs\n3. the word her"} and len(bodies) == 3


@pytest.mark.parametrize(
    ("trouble", "answered"),
    [
        (Trouble(400, b'{"error": "response_format is not supported"}'), True),
        (Trouble(422, b"{}"), True),
        (Trouble(500, b"out of memory"), False),
        (Trouble(429, b"{}"), False),
        (Trouble(drop=True), False),
        (Trouble(body=b"<html>"), False),
    ],
)
def test_a_server_that_fails_does_not_change_the_prompt(trouble, answered, passages, llama_folder, tmp_path: Path):
    """Only one that does not do schemas is asked in words, and that is said."""

    class Schemaless(Server):
        async def handle(self, request):
            self.trouble = (lambda *_: trouble) if b"response_format" in await request.body() else (lambda *_: None)
            return await super().handle(request)

    server, heard = Schemaless(reply=knows), []
    with asking(server, llama_folder, tmp_path) as llm:
        if not answered:
            with pytest.raises(LlmError, match=r"cannot be told: server: .*simulate\.schema to never"):
                simulate(llm, passages, say=heard.append)
            assert not heard
            simulation, failures = simulate(llm, passages, say=heard.append, schema="never")
            assert not failures and simulation.complete and not heard
            assert not any("Put the list" in str(body) for body in server.bodies)
            return
        simulation, failures = simulate(llm, passages, say=heard.append)
    assert not failures and simulation.complete and "in words, without a schema: refused" in heard[0]


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_only_what_is_asked_about_is_told(batch, passages, llama_folder: Path, tmp_path: Path):
    marks = np.random.default_rng(0).random(passages.rows.mask.shape) < 0.5
    pairs = Pairs(np.array([1, 1, 14, 14, 17, 22]), np.array([0, 2, 2, 3, 2, 0]))
    listed = np.zeros((passages.rows.tokens.size, LATENTS), bool)
    listed[pairs.position, pairs.latent] = True
    with asking(Server(reply=knows), llama_folder, tmp_path) as llm:
        some, _ = simulate(llm, passages, marks, batch=batch)
        few, _ = simulate(llm, passages, None, pairs, batch=batch)
    np.testing.assert_array_equal(dense(some), held(passages) * marks[..., None])
    np.testing.assert_array_equal(dense(few), held(passages) * listed.reshape(*marks.shape, LATENTS))


@pytest.mark.parametrize("batch", [1, 3])
def test_there_is_room_for_what_fires_and_never_more_than_the_context(batch, passages, llama_folder, tmp_path: Path):
    """Many latents are silent at most tokens: there is room for one match a token, and an eighth of all pairs more."""
    tokens = int(passages.rows.mask[0].sum())
    room = 24 + 8 * tokens if batch == 1 else 24 + 12 * (tokens + tokens * batch // 8)
    assert sent(passages, batch, 0, llama_folder, tmp_path)["max_tokens"] == room
    with asking(Server(), llama_folder, tmp_path) as llm:
        said = sent(passages, batch, 5000, llama_folder, tmp_path / "large")["messages"]
        prompt = len(llm.tokens.chat_prefix([Message(each["role"], each["content"]) for each in said]))
    assert sent(passages, batch, prompt + 40, llama_folder, tmp_path / "little")["max_tokens"] == 40
    assert sent(passages, batch, prompt + 10, llama_folder, tmp_path / "none") is None


def sent(text: Text, batch: int, context: int, tokenizer: Path, folder: Path) -> dict | None:
    """What is asked first, of the first row."""
    server, marks = Server(reply=knows), np.zeros_like(text.rows.mask)
    marks[0] = True
    with asking(server, tokenizer, folder, context) as llm:
        simulate(llm, text, marks, batch=batch)
    return next((body for body in server.bodies if "Tell of" in str(body)), None)


def test_every_reply_that_says_nothing_is_counted_and_its_pairs_are_missing(passages, llama_folder, tmp_path: Path):
    server = Server(reply=lambda text: "I would rather not [sorry" if "Explanation: verbs" in text else knows(text))
    with asking(server, llama_folder, tmp_path) as llm:
        simulation, failures = simulate(llm, passages)
        spent = llm.asker.spent()["simulate"]
    tokens = int(passages.rows.mask.sum())
    assert [(failure.latent, failure.kind) for failure in failures] == [(2, "parse")]
    assert f"{tokens} (token, latent) pairs" in failures[0].reason and "rather not" in failures[0].reason
    assert set(simulation.missing_latent) == {2} and len(simulation.missing_position) == tokens
    expected = held(passages)
    expected[..., 2] = 0
    np.testing.assert_array_equal(dense(simulation), expected)
    assert spent.asked == len(SENTENCES) * len(passages.rows.tokens)


def test_a_model_that_does_not_chat_is_refused_before_anything_is_asked(llama_folder: Path, tmp_path: Path):
    server = Server(reply=lambda text: text * 50)
    with asking(server, llama_folder, tmp_path) as llm, pytest.raises(LlmError, match="cannot be asked for chat"):
        simulator_named("structured").opens(SimulateMeans(SimulateConfig(), 0, llm))


def test_a_prompt_that_leaves_no_room_is_too_long_and_not_sent(llm: Llm, passages: Text):
    simulation, failures = simulate(llm, passages)
    assert {failure.kind for failure in failures} == {"beyond context"} and "leaves no room" in failures[0].reason
    assert len(simulation.missing_position) == len(SENTENCES) * int(passages.rows.mask.sum())
    assert "simulate" not in llm.asker.spent()
