"""vLLM: what it really does with what can be asked of it, and our client at it, against the model's logits in process.

One file, because it takes a minute or two to start.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from plainspoken.errors import LlmError
from plainspoken.llm import AtPositions, Completion, Fault, NextToken, Reply
from plainspoken.llm.open import Llm
from plainspoken.llm.openai_wire import OpenAiWire
from plainspoken.llm.tokens import LlmTokens
from servers.client import CLOSE, LEVEL, around, asked, follows, odds, opened, prefixes, probed, words
from servers.conftest import Oracle
from servers.echo_wire import EchoWire
from servers.launch import Server

pytestmark = pytest.mark.servers


def by_id(told: dict[str, float]) -> dict[int, float]:
    """A row of top_logprobs under return_tokens_as_token_ids, keyed by token id."""
    return {int(name.removeprefix("token_id:")): value for name, value in told.items()}


def fan_out(server: Server, prompts: list[list[int]], answers: list[int]) -> tuple[np.ndarray, dict]:
    """Log-probabilities [prompt, answer] of the next token from one call with a list of prompts, and its usage."""
    told = server.completion(
        prompt=prompts, max_tokens=1, logprobs=1, logprob_token_ids=answers, return_tokens_as_token_ids=True
    )
    rows = sorted(told["choices"], key=lambda choice: choice["index"])
    top = [by_id(row["logprobs"]["top_logprobs"][0]) for row in rows]
    return np.array([[row[answer] for answer in answers] for row in top]), told["usage"]


def test_a_list_of_token_id_prompts_is_answered_for_exactly_the_tokens_named(
    vllm: Server, oracle: Oracle, text_ids: list[int], digits: list[int]
) -> None:
    ends = [1, 7, 8, 20, len(text_ids)]
    told, usage = fan_out(vllm, [text_ids[:end] for end in ends], digits)
    np.testing.assert_allclose(told, oracle(text_ids)[np.array(ends) - 1][:, digits], atol=CLOSE)
    assert usage["prompt_tokens"] == sum(ends)


def test_a_prompt_seen_before_comes_from_the_prefix_cache_and_the_usage_says_so(
    vllm: Server, text_ids: list[int], digits: list[int]
) -> None:
    prompt = list(reversed(text_ids))
    first, _ = fan_out(vllm, [prompt], digits)
    again, usage = fan_out(vllm, [prompt], digits)
    # Whole blocks of 32 only.
    assert usage["prompt_tokens_details"]["cached_tokens"] == 32
    np.testing.assert_allclose(again, first, atol=CLOSE)


def test_echo_tells_each_token_of_the_prompt_after_the_tokens_before_it(
    vllm: Server, oracle: Oracle, text_ids: list[int]
) -> None:
    told = vllm.completion(prompt=text_ids, echo=True, logprobs=1, max_tokens=1, return_tokens_as_token_ids=True)
    rows = told["choices"][0]["logprobs"]
    assert [int(name.removeprefix("token_id:")) for name in rows["tokens"][: len(text_ids)]] == text_ids
    assert rows["token_logprobs"][0] is None
    true = oracle(text_ids)[np.arange(len(text_ids) - 1), text_ids[1:]]
    np.testing.assert_allclose(rows["token_logprobs"][1 : len(text_ids)], true, atol=CLOSE)


def test_echo_of_several_tokens_keyed_by_their_text_loses_some_of_them(
    vllm: Server, oracle: Oracle, text_ids: list[int]
) -> None:
    """Single bytes of a character decode to the same replacement character: keys by token id are the mend."""
    asked = {"prompt": text_ids[:8], "echo": True, "logprobs": 320, "max_tokens": 1}
    by_text = vllm.completion(**asked)["choices"][0]["logprobs"]["top_logprobs"]
    assert all(len(row) < 320 for row in by_text[1:8])
    told = vllm.completion(**asked, return_tokens_as_token_ids=True)["choices"][0]["logprobs"]["top_logprobs"]
    rows = [by_id(row) for row in told[1:8]]
    assert all(len(row) == 320 for row in rows)
    dense = np.array([[row[token] for token in range(320)] for row in rows])
    np.testing.assert_allclose(dense, oracle(text_ids[:8])[:7], atol=CLOSE)


def test_prompt_logprobs_are_true_but_tell_only_the_likeliest_tokens_and_the_prompts_own(
    vllm: Server, oracle: Oracle, text_ids: list[int], digits: list[int]
) -> None:
    told = vllm.completion(prompt=text_ids, prompt_logprobs=20, max_tokens=1)
    rows = told["choices"][0]["prompt_logprobs"]
    assert rows[0] is None
    true = oracle(text_ids)
    for position, row in enumerate(rows[1:]):
        assert len(row) in (20, 21)
        for token, entry in row.items():
            assert entry["logprob"] == pytest.approx(true[position, int(token)], abs=CLOSE)
    missing = sum(str(digit) not in row for row in rows[1:] for digit in digits)
    assert missing > len(digits) * len(rows) / 2, "most digits are among the 20 likeliest: no lesson here"


def test_prompt_logprobs_never_come_from_the_prefix_cache(vllm: Server, text_ids: list[int]) -> None:
    for _ in range(2):
        told = vllm.completion(prompt=text_ids, prompt_logprobs=1, max_tokens=1)
    assert not (told["usage"].get("prompt_tokens_details") or {}).get("cached_tokens")


def test_structured_outputs_bind_and_guided_choice_is_ignored_without_a_word(vllm: Server, text_ids: list[int]) -> None:
    bound = vllm.completion(prompt=text_ids, max_tokens=4, structured_outputs={"choice": ["yes", "no"]})
    assert bound["choices"][0]["text"] in ("yes", "no")
    ignored = vllm.completion(prompt=text_ids, max_tokens=4, guided_choice=["yes", "no"])
    assert ignored["choices"][0]["text"] not in ("yes", "no")


def test_what_is_longer_than_the_context_is_400(vllm: Server) -> None:
    response = vllm.post("/v1/completions", {"model": vllm.model, "prompt": [5] * 1100, "max_tokens": 1})
    assert response.status_code == 400
    assert "1024" in response.text


# Our client at it.


@pytest.fixture
def llm(vllm: Server, served_folder: Path, tmp_path: Path) -> Iterator[Llm]:
    with opened(vllm, served_folder, tmp_path) as llm:
        yield llm


def test_it_is_found_truthful_in_all_but_positions(llm: Llm) -> None:
    found = probed(llm)
    assert found.truthful == {"chat", "completion", "next-token", "schema"}, found.refused


def test_next_tokens_are_the_models_and_are_not_asked_twice(
    vllm: Server, served_folder: Path, tmp_path: Path, oracle: Oracle, text_ids: list[int], digits: list[int]
) -> None:
    ends = [1, 2, 9, 33, len(text_ids)]
    request = NextToken(prefixes(text_ids, ends), tuple(digits))
    told = []
    for _ in range(2):
        with opened(vllm, served_folder, tmp_path) as llm:
            llm.require("next-token", answers=digits)
            told.append(odds(llm, request))
    true = oracle(text_ids)[np.array(ends) - 1][:, digits]
    np.testing.assert_allclose(told[0].logprob, true, atol=CLOSE)
    np.testing.assert_array_equal(told[1].logprob, told[0].logprob)
    assert (told[0].usage.from_cache, told[1].usage.from_cache) == (False, True)
    assert told[0].usage.prompt_tokens == sum(ends)


def test_answers_that_read_alike_are_told_apart(llm: Llm, oracle: Oracle, text_ids: list[int]) -> None:
    """The most tokens that vLLM tells by id, 128; single bytes among them all read U+FFFD."""
    request = NextToken((tuple(text_ids),), tuple(range(128)))
    np.testing.assert_allclose(odds(llm, request).logprob, oracle(text_ids)[-1:, :128], atol=CLOSE)


def test_prefixes_of_one_text_come_from_the_servers_cache_which_tells_it_of_the_last_only(
    llm: Llm, text_ids: list[int], digits: list[int]
) -> None:
    text = [7, *reversed(text_ids)] * 5
    whole = odds(llm, NextToken((tuple(text),), tuple(digits)))
    ends = list(range(100, len(text), 10))
    told = odds(llm, NextToken(prefixes(text, ends), tuple(digits)))
    assert whole.usage.cached_tokens == 0
    # Whole blocks of 32, and never a prompt's last token.
    assert told.usage.cached_tokens == 32 * ((ends[-1] - 1) // 32), "the sum now: our counts of cached tokens are true"


def test_positions_are_refused_where_the_server_tells_the_likeliest_tokens_only(llm: Llm) -> None:
    with pytest.raises(LlmError, match=r"cannot be asked for at-positions: .* answers were not told"):
        llm.require("at-positions")


def test_positions_are_the_models_where_the_server_may_tell_every_token(
    vllm: Server, served_tokenizer: PreTrainedTokenizerFast, tmp_path: Path,
    oracle: Oracle, text_ids: list[int], digits: list[int],
) -> None:  # fmt: skip
    wire = OpenAiWire(vllm.model, vllm.url + "/v1", top=320)
    everywhere = tuple(range(len(text_ids)))
    with around(wire, served_tokenizer, tmp_path) as llm:
        llm.require("at-positions")
        told = odds(llm, AtPositions(tuple(text_ids), everywhere, tuple(digits)))
    np.testing.assert_allclose(told.logprob, oracle(text_ids)[:, digits], atol=CLOSE)


def test_the_probe_finds_echo_truthful(vllm: Server, served_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """The same wire that is refused at llama-cpp-python's server, whose echo is shifted."""
    with around(EchoWire(vllm, LlmTokens.of(served_tokenizer)), served_tokenizer, tmp_path) as llm:
        llm.require("at-positions")


def test_a_schema_binds_where_the_model_would_not_keep_it(llm: Llm) -> None:
    llm.require("chat", "schema")
    assert not follows(words(llm).text)
    bound = words(llm, LEVEL)
    assert follows(bound.text) and bound.finish == "stop"


def test_a_schema_binds_numbers_lists_and_texts(llm: Llm) -> None:
    levels = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 5, "maxItems": 5}
    told = json.loads(words(llm, json.dumps(levels)).text)
    assert len(told) == 5 and all(isinstance(level, int) and 0 <= level <= 9 for level in told)


def test_a_completion_stops_where_it_is_told_to(llm: Llm) -> None:
    free = asked(llm, Completion("One day", 20))
    assert isinstance(free, Reply) and free.usage.completion_tokens == 20 and free.finish == "length"
    stop = free.text[3:6]
    stopped = asked(llm, Completion("One day", 20, stop=(stop,)))
    assert isinstance(stopped, Reply)
    assert (stopped.text, stopped.finish) == (free.text[: free.text.index(stop)], "stop")


def test_what_is_longer_than_the_context_is_a_fault(llm: Llm, digits: list[int]) -> None:
    told = asked(llm, NextToken(((5,) * 1100,), tuple(digits)))
    assert isinstance(told, Fault) and told.kind == "beyond context"
