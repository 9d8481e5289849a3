"""Servers that hang, die and drip, runs that are killed: each ends as a counted Fault or goes on where it was."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import zygote
from llm.server import Server, Trouble, serve
from plainspoken.errors import LlmError
from plainspoken.llm import AnswerCache, Asker, Chat, Completion, Fault, Limits, Message, NextToken, Reply
from plainspoken.llm.openai_wire import OpenAiWire

TESTS = Path(__file__).parents[1]
SOON = {"retry-after-ms": "1"}
CHAT = json.dumps({"choices": [{"message": {"content": "", "refusal": "no"}}]}).encode()


def prompts(count):
    return [Completion(str(at), 1) for at in range(count)]


def asked(url, requests, cache=None, **settings):
    asker = Asker(OpenAiWire("test", url, **{"retries": 0, "timeout_s": 5.0, **settings}), cache, Limits(4))
    try:
        return list(asker.ask(requests, "stage")), asker.spent()["stage"]
    finally:
        asker.close()


@pytest.mark.slow
def test_every_kind_of_fault_is_counted_beside_what_was_answered():
    """One request of each trouble among good ones: the good are answered, the others counted, with all their tries."""
    troubles = {
        "bad": Trouble(400, b"{}"),
        "key": Trouble(401, b"{}"),
        "busy": Trouble(429, b"{}", SOON),
        "down": Trouble(500, b"{}", SOON),
        "long": Trouble(400, b"maximum context length"),
        "filter": Trouble(400, b"content_filter"),
        "empty": Trouble(body=b""),
        "half": Trouble(body=b'{"choices": [{'),
        "cut": Trouble(drop=True),
        "hung": Trouble(delay_s=30.0),
    }

    class Chosen(Server):
        async def handle(self, request):
            name = json.loads(await request.body()).get("prompt")
            self.trouble = lambda path, before, headers: troubles.get(name)
            return await super().handle(request)

    requests = [Completion(name, 1) for name in ("a", *troubles, "b")]
    with serve(Chosen()) as server:
        answers, spent = asked(server.url, requests, retries=1, timeout_s=3.0)
    kinds = [answer.kind if isinstance(answer, Fault) else answer.text for answer in answers]
    assert kinds == ["a", "refused", *["server"] * 3, "beyond context", "refused", *["server"] * 4, "b"]
    assert spent.faults == {"server": 7, "beyond context": 1, "refused": 2}
    tries = dict(zip(troubles, (answer.usage.requests for answer in answers[1:-1]), strict=True))
    assert {name for name, count in tries.items() if count == 2} == {"busy", "down", "cut", "hung"}
    assert spent.requests == server.seen.total() == 12 + 4
    assert spent.asked == 12


def test_refused_and_empty_replies_and_missing_mass_are_told_apart():
    told = iter([CHAT, b'{"choices": [{"message": {"content": " "}}]}'])
    with serve(Server(trouble=lambda path, before, headers: Trouble(body=next(told)))) as server:
        chats = [Chat((Message("user", "a"),), 4), Chat((Message("user", "b"),), 4)]
        answers = [asked(server.url, [chat])[0][0].kind for chat in chats]
    drop = lambda body: {**body, "choices": [{"index": 0, "logprobs": {"top_logprobs": [{"token_id:5": -1.0}]}}]}  # noqa: E731
    with serve(Server(change=drop)) as server:
        answers.append(asked(server.url, [NextToken(((1, 2),), (5, 6))])[0][0].kind)
    assert answers == ["refused", "parse", "missing probability mass"]


@contextmanager
def silent(drip: bytes = b""):
    """A socket that takes what is sent and never ends an answer: says nothing, or `drip` again and again."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_, over = [], threading.Event()

    def talk():
        listener.settimeout(0.05)
        while not over.is_set():
            with suppress(TimeoutError):
                open_.append(listener.accept()[0])
                if drip:
                    open_[-1].sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            for each in open_ if drip else ():
                with suppress(OSError):
                    each.sendall(drip)

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        over.set()
        thread.join()
        for each in (*open_, listener):
            each.close()


@pytest.mark.parametrize("drip", [b"", b" "], ids=["says nothing", "trickles"])
def test_a_hung_socket_is_given_up(drip):
    with silent(drip) as url:
        start = time.monotonic()
        answers, _ = asked(url, prompts(8), timeout_s=0.4)
        assert time.monotonic() - start < 8
    assert [answer.kind for answer in answers] == ["server"] * 8
    assert all("raise timeout_s" in answer.reason for answer in answers)


SERVER = """
import os, signal, sys, threading; sys.path.insert(0, sys.argv[1])
from llm.server import Server, Trouble, serve
def slow(path, before, headers):
    if before == 10:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return Trouble(delay_s=60.0) if before >= 10 else None
with serve(Server(trouble=slow)) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def killed_after_ten():
    """The address of a server that answers ten requests, takes more, and is killed half a second later."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(TESTS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def test_a_server_killed_in_the_middle_of_a_request_is_a_fault():
    with killed_after_ten() as url:
        answers, spent = asked(url, prompts(20), timeout_s=30.0)
    assert sum(isinstance(answer, Reply) for answer in answers) == 10
    assert spent.faults == {"server": 10}
    assert all("is the server running" in answer.reason for answer in answers if isinstance(answer, Fault))


def test_a_server_that_is_gone_is_asked_no_more_and_the_run_goes_on_when_it_is_back(tmp_path):
    """After three times as many lost connections in a row as there are at once; then nothing is asked twice."""
    cache, requests = AnswerCache(tmp_path / "answers.sqlite"), prompts(500)
    with killed_after_ten() as url:
        asker = Asker(OpenAiWire("test", url, retries=0, timeout_s=30.0), cache, Limits(4))
        answers = []
        with pytest.raises(
            LlmError, match=r"1[2-5] requests in a row.*start it and run again: what was answered is kept"
        ):
            answers.extend(asker.ask(requests, "stage"))
        assert asker.spent()["stage"].requests <= 10 + 12 + 3
        with pytest.raises(LlmError, match="start it"):  # asked again it tries again, and gives up again
            list(asker.ask(requests, "stage"))
        asker.close()
    assert len(cache) == 10
    with serve(Server(), urlsplit(url).port) as server:
        answers, spent = asked(url, requests, cache)
    cache.close()
    assert [answer.text for answer in answers] == [request.prompt[-1:] for request in requests]
    assert spent.from_cache == 10 and server.seen.total() == 490


def test_a_server_that_is_only_sometimes_away_is_asked_on():
    """Three in four connections are cut: no twelve in a row, and each is a Fault of its own."""
    cut = lambda path, before, headers: Trouble(drop=True) if before % 4 else None  # noqa: E731
    with serve(Server(trouble=cut)) as server:
        asker = Asker(OpenAiWire("test", server.url, retries=0), None, Limits(4))
        answers = list(asker.ask(prompts(48)))
        asker.close()
    assert sum(isinstance(answer, Fault) for answer in answers) == 36


RUN = """
import sys
from pathlib import Path
from plainspoken.llm import AnswerCache, Asker, Completion, Limits
from plainspoken.llm.openai_wire import OpenAiWire
asker = Asker(OpenAiWire("test", sys.argv[1]), AnswerCache(Path(sys.argv[2])), Limits(4))
for answer in asker.ask(Completion(str(at), 1) for at in range(200)):
    print(answer.text, flush=True)
"""


def test_a_run_that_is_killed_goes_on_and_asks_nothing_twice(tmp_path):
    path = tmp_path / "answers.sqlite"
    with serve(Server(reply=lambda prompt: prompt, trouble=lambda *_: Trouble(delay_s=0.01))) as server:
        run = zygote.start(RUN, server.url, str(path), stdout=subprocess.PIPE)
        told = [run.stdout.readline().strip() for _ in range(60)]
        os.kill(run.pid, signal.SIGKILL)
        told += [line.strip() for line in run.stdout.readlines() if line.endswith("\n")]
        run.wait()
        deadline = time.monotonic() + 10
        while server.in_flight and time.monotonic() < deadline:
            time.sleep(0.01)
        first = [body["prompt"] for body in server.bodies]
        server.bodies.clear()
        cache = AnswerCache(path)
        answers, spent = asked(server.url, prompts(200), cache)
        cache.close()
        again = [body["prompt"] for body in server.bodies]
    assert 60 <= len(told) < 200 and [answer.text for answer in answers] == [str(at) for at in range(200)]
    assert not set(told) & set(again)
    assert len(set(first) & set(again)) <= 4  # in flight when it was killed: nobody heard what they were told
    assert spent.from_cache == 200 - len(again) and len(again) == len(set(again))
    sent = {*first, *again}
    assert spent.requests == len(again) and spent.requests + spent.earlier_requests == len(sent) == 200
    assert spent.prompt_tokens + spent.earlier_prompt_tokens == sum(map(len, sent)), "what both attempts paid, once"
    assert spent.completion_tokens + spent.earlier_completion_tokens == 200


def test_what_is_left_early_over_a_socket_leaves_nothing_behind():
    """Closed early, the requests in flight are given up at the server too, and the client can be asked again."""
    with serve(Server()) as server:
        # Not the first three that arrive: of four that are sent side by side any may be the last.
        server.trouble = lambda path, before, headers: (
            Trouble(delay_s=20.0) if int(server.bodies[-1]["prompt"]) >= 3 else None
        )
        asker = Asker(OpenAiWire("test", server.url), None, Limits(4))
        answers = asker.ask(prompts(100))
        assert [next(answers).text for _ in range(3)] == ["0", "1", "2"]
        start = time.monotonic()
        answers.close()
        server.trouble = lambda path, before, headers: None
        assert [answer.text for answer in asker.ask([Completion("again", 1)])] == ["n"]
        asker.close()
        assert time.monotonic() - start < 5


def test_a_wire_can_be_closed_at_any_time():
    async def closed():
        wire = OpenAiWire("test", "http://127.0.0.1:1/v1")
        await wire.close()
        await wire.close()

    asyncio.run(closed())
