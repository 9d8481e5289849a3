"""llama-server: what it really does with what can be asked of it, and our client at it, against logits in process."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from plainspoken.errors import LlmError
from plainspoken.llm import AtPositions, Fault, NextToken, Odds
from plainspoken.llm.llama_wire import LlamaWire
from plainspoken.llm.open import Llm
from servers.client import CLOSE, LEVEL, around, asked, follows, odds, opened, prefixes, probed, words
from servers.conftest import Oracle
from servers.launch import Server

pytestmark = pytest.mark.servers


def native(server: Server, prompt: list[int], told: int, **body: object) -> dict:
    """The answer of /completion for one more token with its `told` likeliest alternatives."""
    asked = {"prompt": prompt, "n_predict": 1, "n_probs": told, "temperature": 0, "cache_prompt": True, **body}
    response = server.post("/completion", asked)
    assert response.status_code == 200, response.text
    return response.json()


def top(answer: dict) -> dict[int, float]:
    """Natural log-probabilities by token id."""
    return {one["id"]: one["logprob"] for one in answer["completion_probabilities"][0]["top_logprobs"]}


def test_native_completion_tells_the_whole_vocabulary_of_token_ids_before_any_bias(
    llama_server: Server, oracle: Oracle, text_ids: list[int], digits: list[int]
) -> None:
    true = oracle(text_ids)
    for end in (3, 20, len(text_ids)):
        told = top(native(llama_server, text_ids[:end], 320, logit_bias=[[digits[0], 100]]))
        assert sorted(told) == list(range(320))
        np.testing.assert_allclose([told[token] for token in range(320)], true[end - 1], atol=CLOSE)


def test_native_completion_tells_nothing_where_it_draws_a_token_that_ends_inside_a_character(
    llama_server: Server, served_tokenizer: PreTrainedTokenizerFast, text_ids: list[int]
) -> None:
    first_of_two = served_tokenizer.encode("é", add_special_tokens=False)[0]
    assert "completion_probabilities" not in native(llama_server, text_ids, 320, logit_bias=[[first_of_two, 100]])


def test_native_completion_with_few_probs_leaves_answers_out_without_a_word(
    llama_server: Server, text_ids: list[int], digits: list[int]
) -> None:
    told = top(native(llama_server, text_ids, 20))
    assert len(told) == 20
    assert not set(digits) <= set(told)


def test_a_prefix_seen_before_is_not_computed_again_and_the_timings_say_so(
    llama_server: Server, text_ids: list[int]
) -> None:
    native(llama_server, text_ids[:30], 1, id_slot=0)
    again = native(llama_server, text_ids, 1, id_slot=0)
    assert again["timings"]["cache_n"] == 30
    assert again["timings"]["prompt_n"] == len(text_ids) - 30


def test_echo_is_ignored_without_a_word(llama_server: Server, text_ids: list[int]) -> None:
    told = llama_server.completion(prompt=text_ids, echo=True, logprobs=1, max_tokens=1)
    rows = told["choices"][0]["logprobs"]
    assert len(rows.get("content", rows.get("tokens", []))) == 1, "one row, of the new token: none of the prompt"


def test_a_list_of_prompts_is_answered_prompt_by_prompt(
    llama_server: Server, oracle: Oracle, text_ids: list[int]
) -> None:
    ends = [4, 9]
    told = llama_server.post(
        "/completion", {"prompt": [text_ids[:end] for end in ends], "n_predict": 1, "n_probs": 320, "temperature": 0}
    )
    assert told.status_code == 200, told.text
    answers = told.json()
    for end, answer in zip(ends, answers, strict=True):
        row = top(answer)
        np.testing.assert_allclose([row[t] for t in range(320)], oracle(text_ids)[end - 1], atol=CLOSE)


# Our client at it.


@pytest.fixture
def by_openai(llama_server: Server, served_folder: Path, tmp_path: Path) -> Iterator[Llm]:
    with opened(llama_server, served_folder, tmp_path) as llm:
        yield llm


@pytest.fixture
def llm(llama_server: Server, served_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Iterator[Llm]:
    with around(LlamaWire(llama_server.model, llama_server.url + "/v1"), served_tokenizer, tmp_path) as llm:
        yield llm


def test_over_openais_protocol_it_may_only_be_asked_for_words(by_openai: Llm) -> None:
    found = probed(by_openai)
    assert found.truthful == {"chat", "completion", "schema"}, found.refused
    for ability in ("next-token", "at-positions"):
        assert "missing probability mass" in found.refused[ability]


def test_by_its_own_endpoint_it_is_found_truthful_in_all_but_positions(llm: Llm) -> None:
    found = probed(llm)
    assert found.truthful == {"chat", "completion", "schema", "next-token"}, found.refused
    with pytest.raises(LlmError, match="cannot be asked for at-positions"):
        llm.require("at-positions")
    told = asked(llm, AtPositions((5, 6, 7), (1,), (8, 9)))
    assert isinstance(told, Fault) and "ask by prefixes" in told.reason


def test_next_tokens_are_the_models(llm: Llm, oracle: Oracle, text_ids: list[int], digits: list[int]) -> None:
    ends = [1, 2, 9, 33, len(text_ids), 7]
    told = odds(llm, NextToken(prefixes(text_ids, ends), tuple(digits)))
    np.testing.assert_allclose(told.logprob, oracle(text_ids)[np.array(ends) - 1][:, digits], atol=CLOSE)
    assert told.usage.prompt_tokens == sum(ends)
    again = odds(llm, NextToken(prefixes(text_ids, ends), tuple(digits)))
    assert again.usage.from_cache
    np.testing.assert_array_equal(again.logprob, told.logprob)


def test_all_answers_are_told_however_many_and_in_the_order_asked(
    llm: Llm, oracle: Oracle, text_ids: list[int]
) -> None:
    """All of the vocabulary but the tokens that end inside a character, of which nothing is told where one is drawn."""
    true = oracle(text_ids)[-1]
    whole = [token for token in range(319, -1, -1) if llm.tokens.pieces.table[token][-1:] < b"\xc0"]
    told = odds(llm, NextToken((tuple(text_ids),), tuple(whole)))
    assert len(whole) > 200
    np.testing.assert_allclose(told.logprob[0], true[whole], atol=CLOSE)
    (alone,) = odds(llm, NextToken((tuple(text_ids),), (17,))).logprob
    np.testing.assert_allclose(alone, true[[17]], atol=CLOSE)
    twice = odds(llm, NextToken((tuple(text_ids),), (17, 18, 17))).logprob
    np.testing.assert_allclose(twice[0], true[[17, 18, 17]], atol=CLOSE)


def test_the_end_of_the_text_can_be_asked_for(llm: Llm, oracle: Oracle, text_ids: list[int]) -> None:
    told = odds(llm, NextToken((tuple(text_ids[:9]),), (0, 17)))
    np.testing.assert_allclose(told.logprob[0], oracle(text_ids)[8][[0, 17]], atol=CLOSE)


def test_an_answer_that_ends_inside_a_character_is_a_fault_not_a_guess(
    llm: Llm, served_tokenizer: PreTrainedTokenizerFast, text_ids: list[int]
) -> None:
    first_of_two = served_tokenizer.encode("é", add_special_tokens=False)[0]
    told = asked(llm, NextToken((tuple(text_ids),), (first_of_two,)))
    assert isinstance(told, Fault) and told.kind == "missing probability mass"
    assert "inside a character" in told.reason


def test_prefixes_of_one_text_are_computed_once(llm: Llm, text_ids: list[int], digits: list[int]) -> None:
    text = list(reversed(text_ids)) * 5
    ends = list(range(100, len(text), 10))
    told = odds(llm, NextToken(prefixes(text, ends), tuple(digits)))
    computed = told.usage.prompt_tokens - told.usage.cached_tokens
    assert told.usage.prompt_tokens == sum(ends)
    # Four slots have a cache each; both calls together compute half of what one would without.
    assert computed < 0.75 * told.usage.prompt_tokens


def test_many_at_once_are_all_told_as_each_alone(
    llm: Llm, oracle: Oracle, text_ids: list[int], digits: list[int]
) -> None:
    requests = [NextToken(prefixes(text_ids[start:], [3, 8]), tuple(digits)) for start in range(24)]
    for start, told in enumerate(llm.asker.ask(requests)):
        assert isinstance(told, Odds), told
        true = oracle(text_ids[start : start + 8])[[2, 7]][:, digits]
        np.testing.assert_allclose(told.logprob, true, atol=CLOSE)


def test_a_schema_binds_where_the_model_would_not_keep_it(llm: Llm) -> None:
    assert not follows(words(llm).text)
    bound = words(llm, LEVEL)
    assert follows(bound.text) and bound.finish == "stop"


def test_what_is_longer_than_the_context_is_a_fault(llm: Llm, digits: list[int]) -> None:
    told = asked(llm, NextToken(((5,) * 1100,), tuple(digits)))
    assert isinstance(told, Fault) and told.kind == "beyond context", told


def test_another_server_is_not_taken_for_it(
    served_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, digits: list[int]
) -> None:
    with around(LlamaWire("tiny", "http://127.0.0.1:9/v1", retries=0), served_tokenizer, tmp_path) as llm:
        told = asked(llm, NextToken(((5, 6, 7),), tuple(digits)))
    assert isinstance(told, Fault) and "cannot be reached" in told.reason
