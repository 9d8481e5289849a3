"""What simulating costs, way by way, on the same texts, latents and tokenizer: python benchmarks/simulate.py RUN.

RUN: a finished run folder; its sentences, its coder's firings and the beginnings of its evaluate rows are used. Asked
is a server on loopback that speaks the protocol and tells its usage as vLLM counts it (`knowing_server.py`): it knows
the true activations, so that its answers in words are real ones, and of real ones' length; it computes nothing, so that
milliseconds are those of building, sending, counting and reading. With --base-url (--service, --model, --tokenizer) a
server of your own is asked, by the ways that read probabilities: --write-reader FOLDER writes a model for it, a random
Llama with the run's tokenizer. Writes a markdown table, to --out or the terminal; asserts nothing.

Tokens are the server's own usage figures, over all pairs: one that the gate drops counts as answered, by level 0. A
pair of the paper's way costs the same however many latents there are, and one of `batched` however many rows: they are
put to --paper-latents of the latents and four rows, and to one row. The ways that read probabilities go through a list
of prefixes, of which a server computes again what ends within a block of its cache (--block); so they are told of a
model in process as well, a random Llama with the run's tokenizer, whose cache has no blocks. There it is tried how
exact they are.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from knowing_server import Blocks, KnowingServer, Truth, serve
from rounds import cpu

from plainspoken.coders import load_coder
from plainspoken.config import LlmServiceConfig, SimulateConfig
from plainspoken.language.text import Text
from plainspoken.llm.open import open_llm
from plainspoken.llm.requests import Ability, Answer, AtPositions, NextToken, Odds, Request
from plainspoken.llm.tokens import LlmTokens
from plainspoken.llm.wire import Wire
from plainspoken.lm import capture
from plainspoken.pipeline.explanations import read_explanations
from plainspoken.pipeline.gating import gate_counts, site_gate
from plainspoken.pipeline.run import STAGES
from plainspoken.pipeline.shelves import latents_of, load_rows
from plainspoken.pipeline.stages.calibrate import maximum
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace
from plainspoken.simulators import SimulateMeans, simulator_named
from plainspoken.types import Pairs, Rows

FREE = (
    "Names of people at the beginning of a line.", "The closing bracket of a function call.",
    "Words for time, such as days and months.", "A comma within a list of numbers.",
    "The word self where a method is called.", "Numbers that are written out in words.",
    "Names of errors and exceptions.", "The second half of a compound word.",
)  # fmt: skip
"""Free English, as short as an LLM explainer's."""


@dataclass(frozen=True)
class Cost:
    """What one way cost, for so many pairs."""

    way: str
    pairs: int
    requests: int
    sent: int
    computed: int
    drawn: int
    seconds: float
    missing: int

    @property
    def tokens(self) -> float:
        """Tokens a pair that the model went through: of prompts, those computed, and of answers."""
        return (self.computed + self.drawn) / self.pairs

    def line(self, paper: float) -> str:
        """A line of the table; `paper`: tokens a pair of the paper's way, its cache on."""
        sent, computed, drawn = self.sent / self.pairs, self.computed / self.pairs, self.drawn / self.pairs
        return (
            f"| {self.way} | {self.requests} | {sent:.1f} | {computed:.2f} | {drawn:.2f} "
            f"| {1000 * self.seconds / self.pairs:.2f} | {paper / self.tokens:.1f} | {self.missing} |"
        )


SERVED = (
    ("last-token", 1), ("all-at-once", 1), ("batched", 32), ("token-level", 1), ("structured", 1), ("structured", 32),
)  # fmt: skip
"""(simulator, latents in a prompt), of those that a server is asked by."""
IN_PROCESS = (("last-token", 1), ("all-at-once", 1), ("token-level", 1))
"""Of those that a model in process is asked by, whose prefix cache has no blocks."""


@dataclass(frozen=True, eq=False)
class Listening:
    """A wire that keeps what it was asked."""

    wire: Wire
    heard: list[tuple[Request, Answer]]

    @property
    def model(self) -> str:
        """The wire's."""
        return self.wire.model

    @property
    def abilities(self) -> frozenset[Ability]:
        """The wire's."""
        return self.wire.abilities

    async def send(self, request: Request) -> Answer:
        """The wire's answer."""
        answer = await self.wire.send(request)
        self.heard.append((request, answer))
        return answer

    async def close(self) -> None:
        """Close the wire."""
        await self.wire.close()


@dataclass(frozen=True, eq=False)
class Ground:
    """What is asked about: the same for every way."""

    sentences: dict[int, str]
    latents: int
    text: Text
    only: Pairs | None
    paper_latents: int
    service: LlmServiceConfig
    reader: LlmServiceConfig
    server: KnowingServer | None
    block: int

    @property
    def pairs(self) -> int:
        """All (latent, token) pairs, dropped or not."""
        return len(self.sentences) * int(self.text.rows.mask.sum())

    def of(self, latents: int) -> "Ground":
        """So many of the latents, from the first to the last."""
        held = list(self.sentences.items())
        some = np.unique(np.linspace(0, len(held) - 1, latents).astype(int)).tolist()
        return replace(self, sentences=dict(held[i] for i in some))

    def rows(self, count: int) -> "Ground":
        """So many of the rows, from the first."""
        rows, only = self.text.rows, self.only
        few = Rows(rows.tokens[:count], rows.mask[:count], rows.document[:count], rows.keys, rows.part)
        if only is not None:
            kept = only.position < few.tokens.size
            only = Pairs(only.position[kept], only.latent[kept])
        return replace(self, text=Text(few, self.text.pieces), only=only)

    def tokens(self, most: int) -> "Ground":
        """So many tokens of the first row, and no gate."""
        rows = self.text.rows
        few = Rows(rows.tokens[:1, :most], rows.mask[:1, :most], rows.document[:1], rows.keys, rows.part)
        return replace(self, text=Text(few, self.text.pieces), only=None)


def main() -> None:
    asked = _arguments()
    if asked.write_reader:
        _reader(Workplace(asked.run, stored_config(asked.run), STAGES), asked.write_reader)
        return
    began, busy = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder, _ground(asked, Path(folder)) as (ground, about):
        lines = [about]
        for kind, sentences in (("free", _free(ground.sentences)), ("the run's", ground.sentences)):
            here = replace(ground, sentences=sentences)
            words = np.mean([len(text.split()) for text in sentences.values()])
            lines += ["", f"Sentences: {kind}, {words:.0f} words in the mean.", "", *_table(here, Path(folder) / kind)]
    lines += ["", _machine(time.perf_counter() - began, time.process_time() - busy)]
    out = "\n".join(lines) + "\n"
    if asked.out:
        Path(asked.out).write_text(out)
    print(out)


def _table(ground: Ground, folder: Path) -> list[str]:
    lines = [
        "| way | requests | prompt / pair | computed / pair | drawn / pair | ms / pair | times fewer | missing |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    inside = replace(ground, service=ground.reader, server=None)
    for where, here, ways, strategy in (
        ("", ground, SERVED if ground.server else [way for way in SERVED if way[0] != "structured"], "fan-out"),
        (", in process", inside, IN_PROCESS, "in-process"),
    ):
        settings = SimulateConfig(least_mass=1e-12, strategy=strategy, llm=here.service)
        costs = list[Cost]()
        for name, batch in ways:
            for gated in (False, True) if ground.only is not None else (False,):
                way = f"{name}{where}{f', {batch} a prompt' if batch > 1 else ''}{', gated' if gated else ''}"
                some = {"last-token": here.of(here.paper_latents).rows(4), "batched": here.rows(1)}.get(name, here)
                asked = replace(settings, simulator=name, batch=batch)
                costs.append(_cost(way, some, asked, folder / way, gated))
                print(costs[-1].line(costs[0].tokens), flush=True)
        without = replace(costs[0], way=f"the paper's way{where}, no prefix cache", computed=costs[0].sent)
        named = replace(costs[0], way=f"the paper's way (last-token){where}")
        lines += [cost.line(named.tokens) for cost in (without, named, *costs[1:])]
    few = replace(ground.of(4).tokens(12), service=ground.reader)
    exact = SimulateConfig(least_mass=1e-12, strategy="in-process", batch=4, llm=ground.reader)
    apart = {
        name: _apart(few, replace(exact, simulator=name), folder / f"{name} agree")
        for name in ("all-at-once", "batched", "token-level")
    }
    told = "; ".join(f"{name} {gap:.1e}" for name, gap in apart.items())
    return [
        *lines,
        "",
        f"Largest distance of a log-probability read at once from that of its own prefix, asked for alone: {told}.",
    ]


def _cost(way: str, ground: Ground, settings: SimulateConfig, folder: Path, gated: bool) -> Cost:
    """A response cache of its own, and a prefix cache: nothing is answered by what another way has asked."""
    llm = open_llm(ground.service, folder, device="cpu", dtype="float32")
    simulate = simulator_named(settings.simulator).opens(SimulateMeans(settings, 0, llm, print))
    if ground.server is not None:
        ground.server.blocks = Blocks(ground.block)
        ground.server.sentences = {text: latent for latent, text in ground.sentences.items()}
    began = time.perf_counter()
    said, failures = simulate(ground.sentences, ground.latents, ground.text, None, ground.only if gated else None)
    seconds = time.perf_counter() - began
    spent = llm.asker.spent()["simulate"]
    llm.close()
    for failure in failures[:1]:
        print(f"{way}: {failure.kind}: {failure.reason}")
    # One token is drawn where a log-probability is asked for, because a server need not allow none; it is no answer.
    drawn = spent.completion_tokens if settings.simulator == "structured" else 0
    computed, missing = spent.prompt_tokens - spent.cached_tokens, len(said.missing_position)
    return Cost(way, ground.pairs, spent.requests, spent.prompt_tokens, computed, drawn, seconds, missing)


def _apart(ground: Ground, settings: SimulateConfig, folder: Path) -> float:
    """The largest difference of a log-probability from that of its own prefix, asked for alone."""
    llm = open_llm(ground.service, folder, device="cpu", dtype="float32")
    simulate = simulator_named(settings.simulator).opens(SimulateMeans(settings, 0, llm))
    llm.asker.wire = listening = Listening(llm.asker.wire, [])
    simulate(ground.sentences, ground.latents, ground.text)
    gaps = list[float]()
    for request, answer in tuple(listening.heard):
        assert isinstance(request, AtPositions | NextToken) and isinstance(answer, Odds), answer
        many = isinstance(request, NextToken)
        prefixes = request.prompts if many else [request.prompt[: place + 1] for place in request.positions]
        singly = llm.asker.ask(NextToken((prefix,), request.answers) for prefix in prefixes)
        for row, alone in zip(answer.logprob, singly, strict=True):
            assert isinstance(alone, Odds), alone
            gaps.append(float(np.abs(row - alone.logprob[0]).max()))
    llm.close()
    return max(gaps)


@contextmanager
def _ground(asked: argparse.Namespace, folder: Path) -> Iterator[tuple[Ground, str]]:
    config = stored_config(asked.run, [f"simulate.gate={asked.gate}"])
    workplace = Workplace(asked.run, config, STAGES)
    site = workplace.sites[0].module
    latents = latents_of(workplace, site)
    texts = {latent: said.text for latent, said in read_explanations(workplace.path("explain", site), latents).items()}
    text = _text(asked, workplace)
    some = np.linspace(0, len(texts) - 1, asked.latents).astype(int)
    sentences = {latent: texts[latent] for latent in np.array(sorted(texts))[some].tolist()}
    only, told = None, "no gate"
    if asked.gate != "none":
        print("choosing what passes the gate", flush=True)
        only, told = _gate(workplace, site, sentences, text)
    reader = _reader(workplace, folder / "reader")
    server = KnowingServer(keep_bodies=False, truth=_truth(workplace, site, text))
    server.tokens = LlmTokens.of(workplace.lm.tokenizer)
    with serve(server):
        service = LlmServiceConfig("openai", "knowing", server.url, tokenizer=reader.model, timeout_s=600)
        if asked.base_url:
            service = LlmServiceConfig(
                asked.service, asked.model, asked.base_url, tokenizer=asked.tokenizer, timeout_s=600
            )
        ours = None if asked.base_url else server
        ground = Ground(sentences, latents, text, only, asked.paper_latents, service, reader, ours, asked.block)
        yield (
            ground,
            (
                f"Run `{asked.run.name}`, `{site}`: {len(sentences)} latents x {int(text.rows.mask.sum())} tokens of "
                f"{asked.rows} rows = {ground.pairs} pairs, of which {_share(server, sentences)} fire above level 0; "
                f"{told}; asked: `{service.model}`"
                f"{'' if asked.base_url else f', a prefix cache of blocks of {asked.block}'}."
            ),
        )


def _share(server: KnowingServer, sentences: dict[int, str]) -> str:
    assert server.truth is not None
    level = server.truth.level[server.truth.text.rows.mask][:, list(sentences)]
    return f"{float((np.rint(level) > 0).mean()):.2%}"


def _text(asked: argparse.Namespace, workplace: Workplace) -> Text:
    """The beginnings of some evaluate rows."""
    rows = load_rows(workplace, "evaluate")
    chosen = np.linspace(0, len(rows.tokens) - 1, asked.rows).astype(int)
    part = Rows(
        rows.tokens[chosen, : asked.tokens + 1],
        rows.mask[chosen, : asked.tokens + 1],
        rows.document[chosen],
        rows.keys,
        rows.part,
    )
    return Text(part, workplace.lm.pieces.table)


def _truth(workplace: Workplace, site: str, text: Text) -> Truth:
    """9 times activation by maximum."""
    coder, rows = load_coder(workplace.path("train", site)), text.rows
    with torch.no_grad(), capture(workplace.lm, [workplace.sites[0]]) as seen:
        workplace.lm.model(torch.from_numpy(rows.tokens).long().to(workplace.lm.device))
        x = seen[site][0].flatten(0, 1).cpu()
        code = coder.dense(coder.encode(x)).numpy().reshape(*rows.tokens.shape, -1)
    return Truth(text, (9 * code / np.maximum(maximum(workplace, site), 1e-9)).clip(0, 9))


def _gate(workplace: Workplace, site: str, sentences: dict[int, str], text: Text) -> tuple[Pairs, str]:
    """What passes, and what the gate keeps."""
    gate = site_gate(workplace, site, sentences)
    assert gate is not None
    passed = gate.passed(text, None)
    kept = np.isin(passed.latent, list(sentences))
    only = Pairs(passed.position[kept].astype(np.int64), passed.latent[kept].astype(np.int64))
    counts, share = gate_counts(workplace, gate), len(only) / (len(sentences) * int(text.rows.mask.sum()))
    told = f"gate `{counts['kind']}`: {share:.1%} pass, recall {counts['recall']:.3f} (target {counts['target']:.2f})"
    return only, told


def _free(sentences: dict[int, str]) -> dict[int, str]:
    return {latent: f"{FREE[i % len(FREE)][:-1]}, kind {i}." for i, latent in enumerate(sentences)}


def _reader(workplace: Workplace, folder: Path) -> LlmServiceConfig:
    """A random Llama with the run's tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=workplace.lm.vocabulary, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32_768, initializer_range=0.3, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).eval().save_pretrained(folder)
    workplace.lm.tokenizer.save_pretrained(folder)
    return LlmServiceConfig(model=str(folder))


def _machine(seconds: float, busy: float) -> str:
    return (
        f"{cpu()}, {os.cpu_count()} cores; Linux, Python {platform.python_version()}, torch {torch.__version__}; "
        f"{date.today().isoformat()}, one round of {seconds:.0f} s ({busy:.0f} of processor), load at its end "
        f"{os.getloadavg()[0]:.1f}. Token counts rest on no clock."
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--latents", type=int, default=32)
    parser.add_argument("--paper-latents", type=int, default=2, help="of these, those that the paper's way is put to")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=255, help="most of each row, from its beginning")
    parser.add_argument("--block", type=int, default=16, help="tokens of a block of the server's prefix cache")
    parser.add_argument("--gate", default="none", help="simulate.gate: each way with it as well")
    parser.add_argument("--write-reader", type=Path, metavar="FOLDER", help="only write the random Llama, there")
    parser.add_argument("--base-url")
    parser.add_argument("--service", choices=("openai", "llama"), default="openai")
    parser.add_argument("--model", default="default")
    parser.add_argument("--tokenizer", help="folder or name; the server's model's")
    parser.add_argument("--out", help="file for the table")
    return parser.parse_args()


if __name__ == "__main__":
    main()
