"""A Hugging Face language model in this process, asked the way a server is: exact, and the oracle of the servers."""

import asyncio
import copy
import hashlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from plainspoken.config.named import short_name
from plainspoken.corpus.pieces import backend_of
from plainspoken.errors import ConfigError
from plainspoken.llm.fit import misfit
from plainspoken.llm.kept_prefix import KeptPrefix
from plainspoken.llm.prefixes import fan
from plainspoken.llm.requests import (
    Ability,
    Answer,
    AtPositions,
    Chat,
    Completion,
    Fault,
    NextToken,
    Odds,
    Reply,
    Request,
    Usage,
)
from plainspoken.llm.tokens import Ids, LlmTokens
from plainspoken.lm.draw import draw
from plainspoken.lm.load import LanguageModel, context_of

_BATCH_TOKENS = 16_384  # keys and values of a batch: rows times positions
_BATCH_LOGITS = 2**25  # 128 MiB in float32


class LocalWire:
    """A loaded model; one request at a time, as they come, in a thread beside the event loop.

    Of the prompts of a request that go on from one another only the longest is run, and what all begin with is run
    once (`prefixes.fan`). Keys and values of that prefix are kept, so that a next request that begins alike computes
    only what is new. `Usage` counts as a server with a prefix cache does: every prompt in full as `prompt_tokens`, and
    what was not computed as `cached_tokens`.
    """

    ABILITIES: frozenset[Ability] = frozenset({"chat", "completion", "next-token", "at-positions"})
    """All but answers held to a JSON schema."""

    def __init__(self, lm: LanguageModel, context: int = 0) -> None:
        """`context`: the most tokens of a prompt and its answer, as `context_of` has it (0: what it was made for)."""
        self._lm = lm
        self.context = context_of(lm.model.config, lm.name, context)
        self._tokens = LlmTokens(lm.tokenizer, lm.pieces)
        # One thread takes requests in their order, which is what lets them share prefixes; a lock would not.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-llm")
        self._kept = KeptPrefix(lm)

    @property
    def model(self) -> str:
        """Name wherever it lies, fingerprint of the weights, number format, and hash of what turns text into ids and
        ends an answer."""
        dtype = str(self._lm.dtype).removeprefix("torch.")
        return f"{short_name(self._lm.name)}@{self._lm.fingerprint[:16]}:{dtype}+{self._speech}"

    @cached_property
    def _speech(self) -> str:
        """Hash of the tokenizer's rules, its chat template, its special tokens, and the tokens that end an answer."""
        tokenizer = self._lm.tokenizer
        rules = json.loads(backend_of(tokenizer).to_str())
        rules |= {"truncation": None, "padding": None}  # the state that the last call left, not a rule
        special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        told = json.dumps([rules, tokenizer.chat_template, special, sorted(self._ends)], sort_keys=True)
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def tokens(self) -> LlmTokens:
        """The model's own tokens."""
        return self._tokens

    @property
    def abilities(self) -> frozenset[Ability]:
        """All but answers held to a JSON schema."""
        return self.ABILITIES

    async def send(self, request: Request) -> Answer:
        """The model's answer; a Fault for a prompt beyond its context and for ids that it does not have.

        Cancelled, it stops at the next token or batch.
        """
        unwanted = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, request, unwanted)
        finally:
            unwanted.set()

    async def close(self) -> None:
        """Let go of the thread and of the kept keys and values; what still waits is not run."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._kept.drop()

    @torch.inference_mode()
    def _answer(self, request: Request, unwanted: threading.Event) -> Answer:
        begun = time.perf_counter()
        try:
            answer = self._computed(request, unwanted)
        except _UnwantedError:
            return Fault("server", "nobody waits for the answer any more")
        return replace(answer, usage=replace(answer.usage, seconds=time.perf_counter() - begun))

    def _computed(self, request: Request, unwanted: threading.Event) -> Answer:
        if fault := misfit(request, None, 0):
            return fault
        match request:
            case NextToken():
                return self._next_token(request, unwanted)
            case AtPositions():
                return self._at_positions(request, unwanted)
            case Chat(schema=None):
                try:
                    prompt = self._tokens.chat_prefix(request.messages)
                except ConfigError as error:
                    return Fault("refused", str(error))
                return self._generate(prompt, request, self._tokens.turn_end, unwanted)
            case Chat():
                return Fault("refused", "a model in process does not hold its answers to a JSON schema")
            case Completion():
                return self._generate(self._tokens.encode_prompt(request.prompt), request, request.stop, unwanted)

    def _next_token(self, request: NextToken, unwanted: threading.Event) -> Odds | Fault:
        if fault := self._misfit(request.prompts, request.answers):
            return fault
        found = fan(request.prompts)
        prefix, chains = found.prefix, found.chains
        suffixes = [chain.ids[len(prefix) :] for chain in chains]
        columns = [[len(request.prompts[i]) - 1 - len(prefix) for i in chain.prompts] for chain in chains]
        logprob, computed = self._read(prefix, suffixes, columns, request.answers, unwanted)
        place = np.argsort([i for chain in chains for i in chain.prompts])
        return _odds(logprob[place], sum(map(len, request.prompts)), computed)

    def _at_positions(self, request: AtPositions, unwanted: threading.Event) -> Odds | Fault:
        if fault := self._misfit([request.prompt], request.answers):
            return fault
        first = min(request.positions, default=0)
        columns = [[p - first for p in request.positions]]
        suffix = request.prompt[first : max(request.positions, default=0) + 1]
        logprob, computed = self._read(request.prompt[:first], [suffix], columns, request.answers, unwanted)
        return _odds(logprob, len(request.prompt), computed)

    def _misfit(self, prompts: Sequence[Ids], answers: Ids, more: int = 0) -> Fault | None:
        """What is wrong with ids and lengths, `more` tokens being asked for behind every prompt."""
        longest = max(map(len, prompts), default=0) + more
        if longest > self.context:
            return Fault("beyond context", f"{longest} tokens; the context of {self._lm.name} is {self.context}")
        if not all(prompts):  # a text may have no tokens
            return Fault("refused", "an empty prompt: nothing comes next after nothing")
        ids = {token for prompt in prompts for token in prompt} | set(answers)
        if wrong := [token for token in ids if not 0 <= token < self._lm.vocabulary]:
            return Fault("refused", f"{self._lm.name} has no token {wrong[0]}: its ids go to {self._lm.vocabulary - 1}")
        return None

    def _read(
        self,
        prefix: Ids,
        suffixes: list[Ids],
        columns: list[list[int]],
        answers: Ids,
        unwanted: threading.Event,
    ) -> tuple[Float64[np.ndarray, "row answer"], int]:
        """Log-probabilities of the answers at the columns of each suffix, suffix by suffix, and tokens computed."""
        rows: list[np.ndarray] = [np.empty((0, len(answers)))] * len(suffixes)
        if not any(columns):
            return np.empty((0, len(answers))), 0
        base, computed = self._kept.through(prefix)
        wanted = list(answers)
        for batch in self._batches(len(prefix), suffixes, columns):
            _go_on(unwanted)
            logits, kept = self._run(base, len(prefix), [suffixes[i] for i in batch], [columns[i] for i in batch])
            for row, i in enumerate(batch):
                own = logits[row, [kept[column] for column in columns[i]]].double()
                rows[i] = (own[:, wanted] - own.logsumexp(-1, keepdim=True)).cpu().numpy()
        return np.concatenate(rows), computed + sum(map(len, suffixes))

    def _batches(self, before: int, suffixes: list[Ids], columns: list[list[int]]) -> Iterator[list[int]]:
        """Indices of the suffixes by length, in batches that bound keys and values and logits."""
        batch, kept = list[int](), set[int]()
        for i in sorted(range(len(suffixes)), key=lambda i: len(suffixes[i])):
            more = kept | set(columns[i])
            size = len(batch) + 1
            entries, logits = size * (before + len(suffixes[i])), size * len(more) * self._lm.vocabulary
            if batch and (entries > _BATCH_TOKENS or logits > _BATCH_LOGITS):
                yield batch
                batch, more = [], set(columns[i])
            batch, kept = [*batch, i], more
        if batch:
            yield batch

    def _run(
        self, base: Any, before: int, suffixes: list[Ids], columns: list[list[int]]
    ) -> tuple[torch.Tensor, dict[int, int]]:
        """Logits [suffix kept-column vocabulary] behind the cached prefix, and each column's place among the kept.

        Padding stands to the right: no token sees what is behind it, so it changes none of the columns asked for.
        """
        device, longest = self._lm.device, max(map(len, suffixes))
        ids = torch.tensor([[*suffix, *[0] * (longest - len(suffix))] for suffix in suffixes], device=device)
        real = torch.tensor([[1] * (before + len(s)) + [0] * (longest - len(s)) for s in suffixes], device=device)
        keep = sorted({column for own in columns for column in own})
        cache = copy.deepcopy(base)
        if len(suffixes) > 1:
            cache.batch_repeat_interleave(len(suffixes))
        answer = self._lm.model(
            ids,
            attention_mask=real,
            position_ids=torch.arange(before, before + longest, device=device).expand_as(ids),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=torch.tensor(keep, device=device),
        )
        return answer.logits, {column: place for place, column in enumerate(keep)}

    def _generate(
        self, prompt: Ids, request: Chat | Completion, stops: tuple[str, ...], unwanted: threading.Event
    ) -> Reply | Fault:
        """Token by token: the likeliest at temperature 0, else drawn by numbers that belong to (seed, step)."""
        if request.max_tokens < 1:
            return Fault("refused", f"max_tokens is {request.max_tokens}: ask for at least one token")
        if fault := self._misfit([prompt], (), request.max_tokens):
            return fault
        base, computed = self._kept.through(prompt[:-1])
        cache, token, out = copy.deepcopy(base), prompt[-1], list[int]()
        uniform = torch.from_numpy(np.random.default_rng(request.seed).random(request.max_tokens)).to(self._lm.device)
        text, finish = "", "length"
        for step in range(request.max_tokens):
            _go_on(unwanted)
            ids = torch.tensor([[token]], device=self._lm.device)
            logits = self._lm.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].double()
            if not torch.isfinite(logits).any():
                usage = Usage(len(prompt), len(prompt) - computed - 1, len(out))
                return Fault("server", "the model's logits are not finite", usage)
            if request.temperature > 0:
                token = int(draw(logits / request.temperature, uniform[step : step + 1]))
            else:
                token = int(logits.argmax())
            if token in self._ends:
                finish = "stop"
                break
            out.append(token)
            text = self._tokens.text(out)
            if cut := [place for place in (text.find(stop) for stop in stops) if place >= 0]:
                text, finish = text[: min(cut)], "stop"
                break
        computed += 1  # the prompt's last token
        return Reply(text, finish, Usage(len(prompt), len(prompt) - computed, len(out)))

    @property
    def _ends(self) -> frozenset[int]:
        """Tokens that end an answer: the tokenizer's EOS, and those of the model's generation settings."""
        settings = getattr(self._lm.model, "generation_config", None)
        ends = getattr(settings, "eos_token_id", None)
        more = ends if isinstance(ends, list) else [] if ends is None else [ends]
        return frozenset(self._tokens.end) | frozenset(more)


class _UnwantedError(Exception):
    """Nobody waits for the answer any more; caught in `_answer`."""


def _go_on(unwanted: threading.Event) -> None:
    if unwanted.is_set():
        raise _UnwantedError


def _odds(logprob: Float64[np.ndarray, "row answer"], prompt: int, computed: int) -> Odds | Fault:
    usage = Usage(prompt, prompt - computed)
    if np.isnan(logprob).any():
        return Fault("server", "the model's logits are not finite", usage)
    return Odds(logprob, usage)
