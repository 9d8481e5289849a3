"""What our client costs: python benchmarks/llm_client.py [rate [N] | memory [N]].

`rate`: requests a second of a local server that answers at once (tests/llm/server.py, in a process of its own), 16 in
flight: of its HTTP library alone, of the openai package alone, and of the whole client with its response cache, in turn
so that whatever else the machine does falls on all alike; then of the cache alone. Every request is another. Then, each
round, of `last-token` simulating this page's own text: its prompts are built, sent as token ids, answered with
log-probabilities, kept and read, all in the one process; with the pocket model's tokenizer.
`memory`: peak memory over N requests (a million) to a wire that answers at once, with a ledger as a run has it.
"""

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from plainspoken.config import LlmServiceConfig, SimulateConfig
from plainspoken.corpus.pieces import Pieces
from plainspoken.language.text import Text
from plainspoken.llm import Answer, AnswerCache, Asker, Completion, Limits, Reply, Request, Usage
from plainspoken.llm.ledger import LEDGER, Ledger
from plainspoken.llm.open import open_llm
from plainspoken.llm.openai_wire import OpenAiWire
from plainspoken.lm.load import load_tokenizer
from plainspoken.simulators import SimulateMeans, simulator_named
from plainspoken.types import Rows

AT_ONCE = 16
ROUNDS = 3
SERVER = """
import sys; sys.path.insert(0, sys.argv[1])
from llm.server import Server, serve
import numpy as np
table = np.log(np.random.default_rng(0).dirichlet(np.ones(2**12)))
# Alike for no two prompts, so that the client believes it; of ids as the tokenizer has them.
brain = lambda ids: np.roll(table, hash(ids) % len(table))
with serve(Server(brain, keep_bodies=False, cached=False)) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def server() -> Iterator[str]:
    tests = Path(__file__).resolve().parents[1] / "tests"
    command = [sys.executable, "-c", SERVER, str(tests)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None and running.stdout is not None
        yield running.stdout.readline().strip()
        running.stdin.close()


def body(at: int) -> dict[str, object]:
    return {"model": "test", "max_tokens": 1, "temperature": 0.0, "seed": 0, "prompt": f"prompt {at}"}


async def side_by_side(ask: Callable[[int], Awaitable[object]], count: int) -> None:
    numbers = iter(range(count))

    async def worker() -> None:
        for at in numbers:
            await ask(at)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


def http_alone(url: str, count: int) -> None:
    import httpx2

    async def asked() -> None:
        async with httpx2.AsyncClient() as client:

            async def ask(at: int) -> object:
                return (await client.post(f"{url}/completions", json=body(at))).json()

            await side_by_side(ask, count)

    asyncio.run(asked())


def package_alone(url: str, count: int) -> None:
    import httpx2
    from openai import AsyncOpenAI

    async def asked() -> None:
        async with AsyncOpenAI(api_key="none", base_url=url) as client:

            async def ask(at: int) -> object:
                return (await client.post("/completions", cast_to=httpx2.Response, body=body(at))).json()

            await side_by_side(ask, count)

    asyncio.run(asked())


def whole_client(url: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = AnswerCache(Path(folder) / "answers.sqlite")
        asker = Asker(OpenAiWire("test", url), cache, Limits(AT_ONCE))
        for again in (False, True):
            with measured("out of its cache" if again else "whole client", count):
                answers = asker.ask(Completion(f"prompt {at}", 1) for at in range(count))
                assert all(isinstance(answer, Reply) for answer in answers)
        asker.close()
        cache.close()


def simulating(url: str, count: int) -> None:
    tokenizer = load_tokenizer("pocket")
    page = (Path(__file__).parent / "README.md").read_text()
    ids = np.array(tokenizer(page, verbose=False)["input_ids"], np.int32)
    tokens = ids[: len(ids) // 128 * 128].reshape(-1, 128)[: -(-count // 2 // 128)]
    rows = Rows(
        tokens, np.ones(tokens.shape, bool), np.arange(len(tokens)), tuple(map(str, range(len(tokens)))), "evaluate"
    )
    text = Text(rows, Pieces.from_tokenizer(tokenizer).table)
    sentences = {0: "Numbers in a table, and the bars beside them.", 1: "Names of programs and of their settings."}
    with tempfile.TemporaryDirectory() as folder:
        service = LlmServiceConfig("openai", "test", url, tokenizer="pocket")
        llm = open_llm(service, Path(folder), limits=Limits(AT_ONCE))
        simulate = simulator_named("last-token").opens(
            SimulateMeans(SimulateConfig(least_mass=0.0, llm=service), 0, llm)
        )
        with measured("last-token", 2 * tokens.size):
            found, failures = simulate(sentences, 2, text)
        assert found.complete and not failures, failures
        spent = llm.asker.spent()["simulate"]
        print(f"{'':>16}  {spent.prompt_tokens / spent.requests:.0f} tokens a prompt")
        llm.close()


@contextmanager
def measured(label: str, count: int) -> Iterator[None]:
    start, busy = time.perf_counter(), time.process_time()
    yield
    rate, cost = count / (time.perf_counter() - start), (time.process_time() - busy) / count
    print(f"{label:>16}: {rate:6.0f} a second, {cost * 1e3:5.2f} ms of processor each, load {os.getloadavg()[0]:.1f}")


def rate(count: int) -> None:
    with server() as url:
        http_alone(url, 50)  # imports, and the server warm
        package_alone(url, 50)
        for _ in range(ROUNDS):
            with measured("HTTP alone", count):
                http_alone(url, count)
            with measured("openai alone", count):
                package_alone(url, count)
            whole_client(url, count)
            simulating(url, count)


class AtOnce:
    """A wire that answers at once."""

    model, abilities = "at once", frozenset[str]()

    async def send(self, request: Request) -> Answer:
        return Reply("7", "stop", Usage(prompt_tokens=1))

    async def close(self) -> None:
        pass


def memory(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asker, ledger = Asker(AtOnce()), Ledger(Path(folder) / LEDGER, {"asked": AtOnce.model})
        asker.keep_in(ledger, AtOnce.model)
        with measured("asker and ledger", count):
            for at, _ in enumerate(asker.ask((Completion(str(at), 1) for at in range(count)), "asked"), 1):
                if at % (count // 10) == 0:
                    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                    print(f"{at:>16}: {peak:.1f} MiB at most")
        asker.close()
        ledger.close()


if __name__ == "__main__":
    what, *rest = sys.argv[1:] or ["rate"]
    {"rate": rate, "memory": memory}[what](int(rest[0]) if rest else {"rate": 2000, "memory": 1_000_000}[what])
