"""Asking many things: in order, side by side but not too many, nothing twice, in flat memory, and promptly stopped."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError

import pytest

import zygote
from llm.server import Server, Trouble, serve
from plainspoken.llm import Completion, Fault, Reply, Usage
from plainspoken.llm.ask import Asker
from plainspoken.llm.cache import AnswerCache
from plainspoken.llm.limits import Limits
from plainspoken.llm.openai_wire import OpenAiWire


class Echo:
    """A wire in memory: answers with the prompt, later requests sooner, and counts."""

    model = "echo"
    abilities = frozenset({"completion"})

    def __init__(self, wait=lambda prompt: 0.0):
        self.wait, self.sent, self.now, self.most, self.begun, self.cancelled = wait, 0, 0, 0, [], 0

    async def send(self, request):
        self.sent += 1
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.append(time.monotonic()) if len(self.begun) < 1000 else None
        try:
            if pause := self.wait(request.prompt):
                await asyncio.sleep(pause)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1
        if request.prompt == "bad":
            return Fault("server", "bad")
        return Reply(request.prompt, "stop", Usage(prompt_tokens=2))

    async def close(self):
        pass


@pytest.fixture
def opened():
    askers = []

    def make(wire, cache=None, limits=None):
        askers.append(Asker(wire, cache, limits))
        return askers[-1]

    yield make
    for asker in askers:
        asker.close()


def prompts(count):
    return (Completion(str(at), 1) for at in range(count))


def test_answers_come_in_order_however_long_each_takes(opened):
    wire = Echo(wait=lambda prompt: 0.02 if int(prompt) % 7 == 0 else 0.001)
    asker = opened(wire, limits=Limits(concurrency=5))
    assert [answer.text for answer in asker.ask(prompts(60))] == [str(at) for at in range(60)]
    assert 1 < wire.most <= 5


def test_the_same_request_in_flight_is_sent_once_and_a_fault_is_asked_again(opened, tmp_path):
    wire = Echo(wait=lambda prompt: 0.05)
    asker = opened(wire, AnswerCache(tmp_path / "c.sqlite"))
    same = [Completion("a", 1)] * 8
    assert {answer.text for answer in asker.ask(same, stage="one")} == {"a"}
    assert wire.sent == 1
    list(asker.ask([*same, Completion("bad", 1)], stage="two"))
    list(asker.ask([Completion("bad", 1)], stage="two"))
    assert wire.sent == 3
    one, two = asker.spent()["one"], asker.spent()["two"]
    assert (one.asked, one.requests, one.from_cache, one.prompt_tokens) == (8, 1, 7, 2)
    assert (two.asked, two.from_cache, two.faults) == (10, 8, {"server": 2})


def test_askers_that_share_limits_share_them():
    limits, wire = Limits(concurrency=3), Echo(wait=lambda prompt: 0.005)
    askers = [Asker(wire, None, limits) for _ in range(3)]
    threads = [
        threading.Thread(target=lambda at=at: list(askers[at].ask(Completion(f"{at} {n}", 1) for n in range(20))))
        for at in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limits.close()
    assert wire.sent == 60 and wire.most == 3


def test_the_rate_is_kept():
    limits, wire = Limits(concurrency=8, per_minute=3000), Echo()
    list(Asker(wire, None, limits).ask(prompts(20)))
    limits.close()
    assert wire.begun[-1] - wire.begun[0] >= 19 * 0.02 * 0.9


def test_what_is_left_early_is_cancelled_and_requests_are_drawn_as_needed(opened):
    drawn = []
    wire = Echo(wait=lambda prompt: 0.0 if prompt == "0" else 30.0)
    asker = opened(wire)
    answers = asker.ask(drawn.append(request) or request for request in prompts(10_000))
    assert next(answers).text == "0"
    deadline = time.monotonic() + 20
    while not wire.now and time.monotonic() < deadline:
        time.sleep(0.01)
    answers.close()
    deadline = time.monotonic() + 5
    while wire.now and time.monotonic() < deadline:
        time.sleep(0.01)
    assert wire.now == 0 and wire.cancelled > 0 and len(drawn) < 100


def test_closed_limits_leave_nothing_under_way(caplog):
    wire, limits = Echo(wait=lambda prompt: 30.0), Limits(4)
    future = limits.start(wire.send(Completion("a", 1)))
    answers = Asker(wire, None, limits).ask(prompts(1))

    def wait() -> None:
        with pytest.raises(CancelledError):
            next(answers)

    asked = threading.Thread(target=wait)
    asked.start()
    deadline = time.monotonic() + 20
    while wire.now < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    limits.close()
    limits.close()
    asked.join(timeout=5)
    assert wire.cancelled == 2 and future.cancelled() and not asked.is_alive()
    gc.collect()
    assert not caplog.records


MANY = """
import resource, sys
from pathlib import Path
from plainspoken.llm import Completion, Reply, Usage
from plainspoken.llm.ask import Asker
from plainspoken.llm.ledger import Ledger

class Echo:
    model, abilities = "echo", frozenset({"completion"})
    async def send(self, request):
        return Reply(request.prompt, "stop", Usage(prompt_tokens=2))
    async def close(self):
        pass

asker, ledger = Asker(Echo()), Ledger(Path(sys.argv[1]), {"s": "echo"}, lambda unit: True)
asker.keep_in(ledger, "echo")
early = 0
for at, answer in enumerate(asker.ask((Completion(str(at), 1) for at in range(40_000)), "s")):
    assert answer.text == str(at)
    if at == 10_000:
        early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ledger.taken("unit", ["s"])
ledger.close()
Ledger(Path(sys.argv[1]), {"s": "echo"}, lambda unit: True).void("unit")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early)
"""


@pytest.mark.slow
def test_memory_is_flat_over_40_000_requests_and_their_bill(tmp_path):
    """In a process of its own, for here every signature is checked, which takes ten times as long."""
    command = [sys.executable, "-c", MANY, str(tmp_path / "ledger.sqlite")]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240).stdout
    # 52 bytes a request, SQLite's own pages among them; 30,000 answers that were kept would be half a KiB each.
    assert int(told) * 1024 < 52 * 30_000


def test_a_run_that_is_asked_again_asks_the_server_only_what_failed(tmp_path):
    broken = lambda path, before, headers: Trouble(500) if before % 5 == 0 else None  # noqa: E731
    with serve(Server(trouble=broken)) as server:
        for trouble in (broken, lambda path, before, headers: None):
            server.trouble = trouble
            asker = Asker(OpenAiWire("test", server.url, retries=0), AnswerCache(tmp_path / "c.sqlite"))
            answers = list(asker.ask(prompts(50), stage="s"))
            asker.close()
        assert all(isinstance(answer, Reply) for answer in answers)
        assert server.seen.total() == 50 + 10


INTERRUPTED = """
import sys
from plainspoken.llm import Completion
from plainspoken.llm.ask import Asker
from plainspoken.llm.openai_wire import OpenAiWire
asker = Asker(OpenAiWire("test", sys.argv[1]))
print("asking", flush=True)
list(asker.ask(Completion(str(at), 1) for at in range(100)))
"""


def test_ctrl_c_stops_at_once():
    with serve(Server(trouble=lambda path, before, headers: Trouble(delay_s=20.0))) as server:
        asking = zygote.start(INTERRUPTED, server.url, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        asking.stdout.readline()
        deadline = time.monotonic() + 20
        while not server.in_flight and time.monotonic() < deadline:
            time.sleep(0.01)
        start = time.monotonic()
        os.kill(asking.pid, signal.SIGINT)
        errors = asking.communicate(timeout=20)[1]
        assert time.monotonic() - start < 5
    assert "KeyboardInterrupt" in errors
