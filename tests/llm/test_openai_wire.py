"""The client against a real server on loopback: what it knows is what comes back, and every fault is a value."""

import asyncio
import copy
import json
import time
from email.utils import formatdate

import numpy as np
import pytest

from llm.server import Server, Trouble, level_brain, serve
from plainspoken.errors import ConfigError
from plainspoken.llm import AtPositions, Chat, Completion, Fault, Message, NextToken, Odds, Reply
from plainspoken.llm.ask import Asker
from plainspoken.llm.cache import AnswerCache
from plainspoken.llm.openai_wire import OpenAiWire
from plainspoken.llm.tokens import LlmTokens

HELLO = Chat((Message("user", "say 7"),), max_tokens=4)
DIGITS = tuple(range(48, 58))
NEXT = NextToken(((1, 2), (1, 2, 3)), DIGITS)


def send(server, request, **settings):
    async def once():
        wire = OpenAiWire("test", server.url, **{"retries": 0, "timeout_s": 5.0, **settings})
        try:
            return await wire.send(request)
        finally:
            await wire.close()

    return asyncio.run(once())


def test_words_and_what_they_cost():
    with serve(Server()) as server:
        first = send(server, HELLO)
        again = send(server, HELLO)
        completed = send(server, Completion("abc", max_tokens=1))
    assert isinstance(first, Reply) and first.text == "7" and first.finish == "stop"
    assert (first.usage.prompt_tokens, first.usage.cached_tokens) == (5, 0)
    assert again.usage.cached_tokens == 4
    assert completed.text == "c"


def test_next_token_and_at_positions_are_the_model_s_own():
    prompt = (5, 9, 48, 200)
    with serve(Server()) as server:
        next_token = send(server, NextToken(tuple(prompt[: p + 1] for p in range(4)), DIGITS))
        positions = send(server, AtPositions(prompt, (0, 1, 2, 3), DIGITS), top=256)
    oracle = np.array([level_brain(prompt[: p + 1])[list(DIGITS)] for p in range(4)])
    assert isinstance(next_token, Odds) and isinstance(positions, Odds)
    assert np.array_equal(next_token.logprob, oracle)
    assert np.array_equal(positions.logprob, oracle)


def test_what_top_logprobs_leave_out_is_missing_not_unlikely():
    with serve(Server(top=3)) as server:
        answer = send(server, AtPositions((5, 9, 48), (0, 1), DIGITS))
    assert isinstance(answer, Fault) and answer.kind == "missing probability mass"


def always(trouble):
    return lambda path, before, headers: trouble


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        (
            Trouble(400, b'{"error": {"message": "maximum context length is 8", "code": 400}}'),
            "beyond context",
            "context",
        ),
        (Trouble(400, b'{"error": {"message": "bad"}}'), "refused", "not one it takes"),
        (Trouble(422, b'{"error": {"message": "bad"}}'), "refused", "422"),
        (Trouble(400, b'{"error": {"code": "content_filter"}}'), "refused", "filter"),
        (Trouble(401, b"{}"), "server", "key_variable"),
        (Trouble(403, b"{}"), "server", "key"),
        (Trouble(404, b"{}"), "server", "base_url"),
        (Trouble(429, b"{}"), "server", "concurrency"),
        (Trouble(500, b"oh"), "server", "log"),
        (Trouble(delay_s=3.0), "server", "timeout_s"),
        (Trouble(drop=True), "server", "running"),
        (Trouble(body=b'{"choices": [{'), "server", "JSON"),
        (Trouble(body=b"[]"), "server", "JSON object"),
        (Trouble(body=b'{"choices": []}'), "server", "choices"),
        (Trouble(body=b'{"choices": [{"message": "text"}]}'), "server", "message"),
        (Trouble(body=b'{"choices": [{"message": {"content": ""}}]}'), "parse", "empty"),
        (Trouble(body=b'{"choices": [{"message": {"content": null, "refusal": "no"}}]}'), "refused", "no"),
        (
            Trouble(body=b'{"choices": [{"message": {"content": "x"}, "finish_reason": "content_filter"}]}'),
            "refused",
            "",
        ),
        (Trouble(body=b'{"choices": [{"message": {"content": "x"}, "finish_reason": "abort"}]}'), "server", "abort"),
        (Trouble(body=b'{"choices": [{"message": {"content": "x"}, "finish_reason": null}]}'), "server", "None"),
        (Trouble(body=b"[" * 100_000), "server", "JSON"),
        (Trouble(body=b'{"choices": [{"index": "b", "message": {"content": "\xff"}}]}'), "server", "JSON"),
    ],
)
def test_every_trouble_is_a_fault_with_its_mend(trouble, kind, words):
    with serve(Server(trouble=always(trouble))) as server:
        answer = send(server, HELLO, timeout_s=0.5 if trouble.delay_s else 20.0)
    assert isinstance(answer, Fault)
    assert answer.kind == kind and words in answer.reason and "127.0.0.1" in answer.reason


def without_logprobs(body):
    return {**body, "choices": [{k: v for k, v in choice.items() if k != "logprobs"} for choice in body["choices"]]}


def test_a_server_without_logprobs_or_choices_is_not_believed():
    with serve(Server(change=without_logprobs)) as server:
        assert send(server, NEXT).kind == "missing probability mass"
    with serve(Server(change=lambda body: {**body, "choices": body["choices"][:1]})) as server:
        assert send(server, NEXT).kind == "server"
    with serve(Server(change=lambda body: {**body, "choices": body["choices"][::-1]})) as server:
        assert np.array_equal(send(server, NEXT).logprob[0], level_brain((1, 2))[list(DIGITS)])


@pytest.mark.parametrize("told", [0.0, -0.5, False])
def test_what_sums_to_more_than_one_is_no_probability(told):
    """Ten answers of exp(-0.5) each; or of 1, or of what JSON calls false."""
    top = {f"token_id:{digit}": told for digit in DIGITS}
    change = lambda body: {  # noqa: E731
        **body, "choices": [{**choice, "logprobs": {"top_logprobs": [top]}} for choice in body["choices"]]
    }  # fmt: skip
    with serve(Server(change=change)) as server:
        answer = send(server, NEXT)
        alone = send(server, NextToken(((1, 2),), (DIGITS[0],) * 3))
    assert isinstance(answer, Fault) and answer.kind == ("missing probability mass" if told is False else "server")
    assert isinstance(alone, Fault if told is False else Odds), "one answer asked for thrice is one"


def test_log_probabilities_of_another_shape_are_not_of_the_protocol():
    with serve(Server(trouble=always(Trouble(body=b'{"choices": [{"logprobs": "a"}]}')))) as server:
        answer = send(server, NextToken(((1, 2),), DIGITS))
    assert isinstance(answer, Fault) and answer.kind == "server" and "protocol" in answer.reason


def test_a_reply_stands_where_its_cost_is_not_told():
    body = b'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": "none"}'
    with serve(Server(trouble=always(Trouble(body=body)))) as server:
        answer = send(server, HELLO)
    assert isinstance(answer, Reply) and (answer.text, answer.usage.prompt_tokens, answer.usage.requests) == ("x", 0, 1)


def test_nobody_listens():
    with serve(Server()) as server:
        pass
    assert send(server, HELLO).kind == "server"


def test_retry_after_is_obeyed_and_a_later_answer_taken():
    busy = Trouble(429, b"{}", {"retry-after": "1"})
    with serve(Server(trouble=lambda path, before, headers: busy if before == 0 else None)) as server:
        answer = send(server, HELLO, retries=1)
    assert isinstance(answer, Reply) and answer.usage.seconds >= 1.0
    assert server.seen.total() == answer.usage.requests == 2


@pytest.mark.slow
def test_retry_after_may_be_a_date_and_a_longer_one_than_two_minutes_ends_the_retries():
    tries = []

    def busy(path: str, before: int, headers: dict[str, str]) -> Trouble | None:
        """A date of whole seconds: from now in more than one and at most two, however long the server took to start."""
        tries.append(time.time())
        date = formatdate(tries[0] + 2, usegmt=True)
        return Trouble(503, b"{}", {"retry-after": date}) if before == 0 else None

    with serve(Server(trouble=busy)) as server:
        answer = send(server, HELLO, retries=1)
    assert isinstance(answer, Reply) and len(tries) == 2
    assert int(tries[0] + 2) <= tries[1] + 0.05 and 0.9 <= answer.usage.seconds < 4
    with serve(Server(trouble=always(Trouble(429, b"{}", {"retry-after": "121"})))) as server:
        answer = send(server, HELLO, retries=3)
        assert isinstance(answer, Fault) and server.seen.total() == 1 and answer.usage.seconds < 2
    for nonsense in ("-5", "soon", "nan", "inf"):  # as if it were not there
        with serve(Server(trouble=always(Trouble(429, b"{}", {"retry-after": nonsense})))) as server:
            answer = send(server, HELLO, retries=1)
        assert isinstance(answer, Fault) and answer.usage.requests == 2 and answer.usage.seconds < 3


def test_tries_are_spread_at_random():
    """Half a second before the second try, less up to a quarter, which is never twice the same."""
    pauses = set()
    for _ in range(4):
        begun = []
        mark = lambda path, before, headers, begun=begun: begun.append(time.monotonic()) or Trouble(500)  # noqa: E731
        with serve(Server(trouble=mark)) as server:
            send(server, HELLO, retries=1)
        pauses.add(round(begun[1] - begun[0], 4))
        assert begun[1] - begun[0] >= 0.375
    assert len(pauses) > 1


def test_a_body_that_is_no_gzip_is_a_fault_of_a_server_that_is_there():
    with serve(Server(trouble=always(Trouble(200, b"{}{}", {"content-encoding": "gzip"})))) as server:
        answer = send(server, HELLO)
    assert isinstance(answer, Fault) and answer.kind == "server" and not answer.unreached


def test_every_try_counts_and_so_do_the_tokens_of_an_answer_that_is_none():
    soon = {"retry-after-ms": "1"}
    with serve(Server(trouble=always(Trouble(500, b"{}", soon)))) as server:
        failed = send(server, HELLO, retries=3)
        assert server.seen.total() == failed.usage.requests == 4 and "asked 4 times" in failed.reason
    with serve(Server(change=without_logprobs)) as server:
        empty = send(server, NEXT)
    assert (empty.usage.requests, empty.usage.prompt_tokens, empty.usage.completion_tokens) == (1, 5, 2)
    with serve(Server()) as server:
        pass
    gone = send(server, HELLO, retries=1)
    assert gone.usage.requests == 2 and gone.usage.seconds > 0


def test_what_does_not_fit_or_cannot_be_spelt_is_not_sent(byte_tokenizer):
    tokens = LlmTokens.of(byte_tokenizer)
    long = "Lily " * 80
    asked = [
        (NextToken(((1,) * 60,), DIGITS), "beyond context"),
        (AtPositions((1,) * 60, (0,), DIGITS), "beyond context"),
        (Completion(long, 4), "beyond context"),
        (Chat((Message("user", long),), 4), "beyond context"),
        (NextToken(((1, 2), ()), DIGITS), "refused"),
        (Completion("\ud83d", 4), "refused"),
        (Chat((Message("user", "\ud83d"),), 4), "refused"),
    ]
    with serve(Server()) as server:
        for request, kind in asked:
            answer = send(server, request, tokens=tokens, context=60)
            assert isinstance(answer, Fault) and answer.kind == kind and answer.usage.requests == 0, request
        assert server.seen.total() == 0
        assert isinstance(send(server, NextToken(((1,) * 59,), DIGITS), tokens=tokens, context=60), Odds)
        assert send(server, Completion("Zoë 🙂\x00名", 4)).text == "名"


def test_what_cannot_work_is_refused_before_anything_is_sent(monkeypatch):
    monkeypatch.delenv("TEST_LLM_KEY", raising=False)
    with pytest.raises(ConfigError, match="TEST_LLM_KEY"):
        OpenAiWire("test", "http://127.0.0.1:1/v1", key_variable="TEST_LLM_KEY")
    for query in ("?key=sk-secret", "#sk-secret"):
        with pytest.raises(ConfigError, match="key_variable") as told:
            OpenAiWire("m", f"http://127.0.0.1:8000/v1{query}")
        assert "sk-secret" not in str(told.value)
    with pytest.raises(ConfigError, match="password") as refusal:
        OpenAiWire("test", "http://me:secret@127.0.0.1:1/v1")
    assert "secret" not in str(refusal.value)
    with pytest.raises(ConfigError, match="address"):
        OpenAiWire("test", "127.0.0.1:8000")


def test_prompts_that_are_sent_otherwise_have_answers_of_their_own(byte_tokenizer, tmp_path):
    """A template that knows no system role has the system message within the first user's: another prompt."""
    refuses = copy.deepcopy(byte_tokenizer)
    refuses.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}"
        "{% endfor %}"
    )
    chat = Chat((Message("system", "Be short."), Message("user", "say 7")), max_tokens=4)
    with serve(Server()) as server:
        names = set[str]()
        cache = AnswerCache(tmp_path / "answers.sqlite")
        for tokens in (None, LlmTokens.of(byte_tokenizer), LlmTokens.of(refuses)):
            asker = Asker(OpenAiWire("test", server.url, retries=0, tokens=tokens), cache)
            assert all(isinstance(answer, Reply) for answer in asker.ask([chat]))
            names.add(asker.wire.model)
            asker.close()
        cache.close()
    sent = [json.dumps(body["messages"]) for body in server.bodies]
    assert len(sent) == len(set(sent)) == len(names) == 2
