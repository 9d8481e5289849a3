"""A model in process: what it answers is its own softmax, however the prompts are shared, batched or cached."""

import asyncio
import time

import numpy as np
import pytest
import torch

from plainspoken.llm import AtPositions, Chat, Completion, Fault, Message, NextToken, Odds, Reply
from plainspoken.llm.local_wire import LocalWire

ANSWERS = (3, 40, 41, 300)


def ask(wire, request):
    return asyncio.run(wire.send(request))


def odds(wire, request) -> Odds:
    answer = ask(wire, request)
    assert isinstance(answer, Odds), answer
    return answer


@torch.inference_mode()
def oracle(lm, prompts, answers=ANSWERS):
    """One plain forward for each prompt, without cache, batch or mask."""
    rows = [lm.model(torch.tensor([prompt])).logits[0, -1].double().log_softmax(-1) for prompt in prompts]
    return torch.stack(rows)[:, list(answers)].numpy()


def some(lengths, seed=0, shared=0):
    random = np.random.default_rng(seed)
    start = tuple(random.integers(1, 320, shared).tolist())
    return tuple(start + tuple(random.integers(1, 320, n).tolist()) for n in lengths)


@pytest.mark.parametrize("family", ["neox", "llama"])
@pytest.mark.parametrize("shared", [0, 20])
def test_prompts_in_one_request_are_answered_as_each_alone(family, shared, request) -> None:
    lm = request.getfixturevalue(family)
    prompts = some([1, 7, 3, 3, 30], shared=shared)
    for wire in [LocalWire(lm)] * 2:  # the second time with everything that the first has left in the cache
        told = odds(wire, NextToken(prompts, ANSWERS))
        np.testing.assert_allclose(told.logprob, oracle(lm, prompts), atol=1e-4)


@pytest.mark.parametrize("family", ["neox", "llama"])
def test_positions_of_one_pass_are_the_prefixes_asked_singly(family, request) -> None:
    lm = request.getfixturevalue(family)
    (prompt,) = some([40])
    positions = (5, 0, 39, 17)
    told = odds(LocalWire(lm), AtPositions(prompt, positions, ANSWERS))
    np.testing.assert_allclose(told.logprob, oracle(lm, [prompt[: p + 1] for p in positions]), atol=1e-4)


def test_cached_tokens_are_those_not_computed(neox) -> None:
    wire = LocalWire(neox)
    prompts = some([2, 2, 4], shared=20)
    first = odds(wire, NextToken(prompts, ANSWERS)).usage
    assert (first.prompt_tokens, first.cached_tokens) == (68, 40)
    again = odds(wire, NextToken(prompts, ANSWERS)).usage
    assert again.cached_tokens == 60
    branch = (*prompts[0][:10], 7, 8, 9)
    other = odds(wire, NextToken((branch,), ANSWERS))
    assert other.usage.cached_tokens == 10
    np.testing.assert_allclose(other.logprob, oracle(neox, [branch]), atol=1e-4)


def test_batches_are_bounded_and_change_nothing(neox, monkeypatch) -> None:
    prompts = some(range(1, 30), shared=9)
    monkeypatch.setattr("plainspoken.llm.local_wire._BATCH_LOGITS", 320 * 6)
    told = odds(LocalWire(neox), NextToken(prompts, ANSWERS))
    np.testing.assert_allclose(told.logprob, oracle(neox, prompts), atol=1e-4)


def test_what_does_not_fit_is_a_fault(neox) -> None:
    wire = LocalWire(neox)
    long = (1,) * (neox.context + 1)
    for request, kind in [
        (NextToken((long,), ANSWERS), "beyond context"),
        (AtPositions(long, (0,), ANSWERS), "beyond context"),
        (Completion("a" * 60, 30), "beyond context"),
        (NextToken(((),), ANSWERS), "refused"),
        (NextToken(((1,),), (320,)), "refused"),
        (AtPositions((), (), ANSWERS), "refused"),
        (Completion("", 4), "refused"),
        (Completion("\ud83d", 4), "refused"),
        (Chat((Message("user", "\ud83d"),), 4), "refused"),
        (Chat((Message("user", "x"),), 4, schema="{}"), "refused"),
    ]:
        answer = ask(wire, request)
        assert isinstance(answer, Fault) and answer.kind == kind, (request, answer)


def test_greedy_words_are_the_likeliest_tokens(neox) -> None:
    wire = LocalWire(neox)
    answer = ask(wire, Completion("Once upon", 5))
    assert isinstance(answer, Reply)
    ids = list(wire.tokens.encode_prompt("Once upon"))
    before = len(ids)
    for _ in range(answer.usage.completion_tokens):
        ids.append(int(neox.model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert answer.text == wire.tokens.text(ids[before:])


def test_a_seed_gives_one_text_and_seeds_differ(neox) -> None:
    wire = LocalWire(neox)
    chat = [Chat((Message("user", "Hi"),), 12, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    a, b, c = (ask(wire, each) for each in chat)
    assert isinstance(a, Reply) and a.text == b.text != c.text


def test_a_stop_text_ends_the_answer_and_is_left_out(neox) -> None:
    wire = LocalWire(neox)
    whole = ask(wire, Completion("Once upon", 12)).text
    stop = whole[3:5]
    cut = ask(wire, Completion("Once upon", 12, stop=(stop,)))
    assert (cut.text, cut.finish) == (whole[: whole.find(stop)], "stop")


def test_a_position_outside_its_prompt_is_an_error_of_ours() -> None:
    with pytest.raises(AssertionError, match=r"positions \[2\] lie outside a prompt of 2 tokens"):
        AtPositions((1, 2), (1, 2), ANSWERS)


@pytest.mark.parametrize("family", ["neox", "llama"])
def test_prefixes_of_one_text_cost_one_pass_and_answer_as_each_alone(family, request) -> None:
    lm = request.getfixturevalue(family)
    (text,) = some([40])
    prompts = tuple(text[: p + 1] for p in (39, 5, 17, 5, 20))
    wire = LocalWire(lm)
    told = odds(wire, NextToken(prompts, ANSWERS))
    np.testing.assert_allclose(told.logprob, oracle(lm, prompts), atol=1e-5)
    assert told.usage.prompt_tokens - told.usage.cached_tokens == 40
    # Another text behind the same instruction: what they share is not computed again, and each text once.
    branches = tuple(text[:5] + (tail,) * n for tail in (7, 8) for n in (3, 1, 6))
    told = odds(wire, NextToken(branches, ANSWERS))
    np.testing.assert_allclose(told.logprob, oracle(lm, branches), atol=1e-5)
    assert told.usage.prompt_tokens - told.usage.cached_tokens == 6 + 6


def test_unicode_goes_in_and_out(neox) -> None:
    wire = LocalWire(neox)
    for text in ("Zoë 🙂\u200d\n\x00", "名前", "e\u0301"):
        assert wire.tokens.text(wire.tokens.encode(text)) == text
        assert isinstance(ask(wire, Completion(text, 2)), Reply)


def test_what_is_cancelled_stops_and_what_waits_is_not_run(neox) -> None:
    wire = LocalWire(neox)
    steps = []

    def slow(*_) -> None:
        steps.append(0)
        time.sleep(0.05)

    hook = neox.model.register_forward_hook(slow)

    async def left_early() -> None:
        waiting = [asyncio.create_task(wire.send(Completion("a", 50, seed=seed))) for seed in range(5)]
        await asyncio.sleep(0.3)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    try:
        asyncio.run(left_early())
        asyncio.run(wire.send(NextToken(((1,),), (2,))))  # behind whatever may still have run
        assert len(steps) < 15
    finally:
        hook.remove()
