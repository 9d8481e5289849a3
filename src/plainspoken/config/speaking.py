"""Settings of sentences: the language models that are asked, and who explains, reads back and scores."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from plainspoken.config.kinds import STRICT, Count, Fraction, Name, Positive, PositiveFloat, Share, Weight


@dataclass(frozen=True)
class LlmServiceConfig:
    """A language model that explains, scores or simulates, and how it is reached."""

    __pydantic_config__ = STRICT
    service: Literal["openai", "llama", "local"] = "local"
    """`openai`: a server that speaks OpenAI's protocol (vLLM, SGLang, OpenRouter, OpenAI), at `base_url`; `llama`:
    llama.cpp's llama-server, which tells log-probabilities only at an address of its own; `local`: a Hugging Face model
    in this process."""
    model: Name = "pocket"
    """The model as the server calls it, or as `lm.name` names one: `pocket`, a folder, a name on the hub."""
    base_url: Name = "http://127.0.0.1:8000/v1"
    """Where the server is; without user or password."""
    key_variable: str = ""
    """The environment variable that holds the key; empty: no key is sent. The key itself stands nowhere."""
    tokenizer: Name | None = None
    """The tokenizer of the server's model: a folder or a name on the hub; none: called as the model is."""
    context: Count = 0
    """The most tokens of a prompt and its answer; 0: what the model says of itself. A model in process with rotary
    positions may be given more than it was made for: it runs, though it has not learned to."""
    timeout_s: PositiveFloat = 60.0
    """Seconds to wait for an answer."""
    retries: Count = 4
    """Tries after the first, for what may pass: time-outs, a server too busy or failing."""
    price_in: Weight = 0.0
    """Price of a million prompt tokens, in whatever currency the estimate shall be."""
    price_out: Weight = 0.0
    """Price of a million tokens of answers."""
    cache: Name | None = None
    """Folder that keeps the answers, which runs may share; none: in the run's own."""


HOW_AN_LLM_IS_REACHED = (
    "timeout_s", "retries", "price_in", "price_out", "cache", "key_variable",
)  # fmt: skip
"""Settings of an LlmServiceConfig that change no answer: a run may go on with others."""


@dataclass(frozen=True)
class LimitsConfig:
    """How much is asked of language models at once, by all stages, whatever services they name. Changes no answer."""

    __pydantic_config__ = STRICT
    concurrency: Positive = 16
    """Requests in flight at once, all language models of the run together."""
    per_minute: Weight = 0.0
    """Requests begun in a minute, all language models of the run together (0: as many as go)."""


@dataclass(frozen=True)
class ExplainConfig:
    """How latents are put into words."""

    __pydantic_config__ = STRICT
    explainer: Name = "rules"
    """Who writes the explanations; a name from `plainspoken.explainers`."""
    words: Positive = 60
    """Budget of words, as the mean over a site's explanations: of rules, those that matter more may say more; of a
    language model, the longest are asked for again, and given up where they are still too long."""
    words_max: Positive = 180
    """Longest explanation, words."""
    latents: Count = 0
    """At most this many latents are put into words, drawn at random from those that fire on the explain part (0: all):
    what is found of them is true of all latents in the mean. The others count as failures, and are put at 0."""
    examples: Positive = 40
    """Texts in which a latent fires that a language model is shown."""
    sampling: Annotated[tuple[Literal["quantiles", "top", "random"], ...], Field(min_length=1)] = ("quantiles",)
    """How they are drawn: of every height of the activation alike, the highest, or any; several share them equally."""
    quantiles: Positive = 10
    """Equal groups of a latent's texts, by their largest activation, that `quantiles` draws from alike."""
    window: Positive = 32
    """Tokens of such a text."""
    highlight: Fraction = 0.2
    """Tokens with more than this share of the latent's largest activation are marked."""
    least_examples: Positive = 200
    """A language model is not asked about latents that fire in fewer texts than this."""
    negatives: Positive = 10
    """Texts in which the latent is silent that `contrastive` shows beside them."""
    negatives_from: Annotated[
        tuple[Literal["random", "tokens", "decoder", "encoder"], ...], Field(min_length=1)
    ] = ("tokens", "decoder", "random")  # fmt: skip
    """Which: any (`random`), those with a token it often fires at (`tokens`), or those in which a latent with the
    nearest `decoder` or `encoder` row fires; several share them equally."""
    chain_of_thought: bool = False
    """Have the language model think in words before it answers."""
    temperature: Weight = 0.0
    """How far the language model strays from its likeliest words."""
    ask: Literal["auto", "chat", "completion"] = "auto"
    """How the language model is asked: as an assistant (`chat`), or by a text to go on with (`completion`); auto: as
    an assistant where its tokenizer brings a chat template."""
    max_tokens: Count = 0
    """Most tokens of a reply; 0: enough for `words_max`. A model that thinks before it answers needs more."""
    candidates: Annotated[int, Field(ge=2)] = 3
    """Explanations of each latent that `best_of` chooses from."""
    candidates_from: Annotated[tuple[Name, ...], Field(min_length=1)] = ("default",)
    """The explainers that write them, in turn; one that writes several is given other examples each time."""
    held_out: Positive = 10
    """Texts in which the latent fires, and as many in which it does not, that `best_of` has the simulator judge the
    candidates on. They are of documents that no candidate was written from."""
    llm: LlmServiceConfig = field(default_factory=LlmServiceConfig)


@dataclass(frozen=True)
class SimulateConfig:
    """How explanations are read back."""

    __pydantic_config__ = STRICT
    simulator: Name = "rules"
    """Who reads the explanations; a name from `plainspoken.simulators`."""
    gate: Name = "none"
    """A first stage that drops latents which cannot fire at a token, so that nobody is asked about them there: `none`;
    `rules`, by the conditions of controlled English with a tolerance; `embedding`, by how like the last tokens are to
    the words of the sentence, in the embeddings of the model that is rewritten. What is dropped is level 0."""
    gate_recall: Share = 0.99
    """The share of the true firings, and of their decoder-weighted mass, that the gate is to keep: its thresholds are
    chosen for it on one half of the calibrate documents that are not scored on (a quarter of all by default), and what
    it keeps is measured on the other. Where that is
    less, they are chosen anew, more tightly, at the last so that everything passes."""
    calibrate_positions: Literal["all", "last"] | Positive = "all"
    """Which tokens of the calibrate part the simulator is asked about: `all`; so many of each row, drawn at random, and
    weighed by one over the chance of being drawn, so that they stand for all; or the `last` of each row that has a next
    one, which stands for such tokens alone, one a row: for a run with evaluate.positions=last. Of the evaluate part:
    those that `evaluate.positions` rewrites."""
    strategy: Literal["auto", "in-process", "fan-out", "echo"] = "auto"
    """How many levels are read from one prompt (`all-at-once`, `batched`): `in-process` from one pass of a model in
    this process; `fan-out` from a list of the prompt's prefixes; `echo` from the log-probabilities that a server tells
    of the prompt's own tokens, where it is truthful in them. auto: in-process, or fan-out on a server."""
    batch: Positive = 32
    """How many latents stand in a prompt (`batched`, `structured`). `structured` with 1 puts the text first and the
    explanation last, at a few times the cost; with more, a reply that tells nothing loses a row of the whole batch."""
    schema: Literal["auto", "never"] = "auto"
    """Whether answers are held to a JSON schema (`structured`). auto: where the server is found to do that, else JSON
    is asked for in words; never: in words, untried, as for a server that fails at a schema (llama-cpp-python)."""
    least_mass: Share = 0.001
    """Least probability that the ten digits must get together for an answer to be one; below it the pair counts as
    unanswered. A model that answers gives them nearly all, one that only goes on with the text a tenth or so, and ten
    tokens of 50,000 at random 0.0002: this refuses no model wholesale, only answers that are none. The share that went
    elsewhere stands with the simulation in any case."""
    llm: LlmServiceConfig = field(default_factory=LlmServiceConfig)


@dataclass(frozen=True)
class ScoreConfig:
    """How explanations are scored."""

    __pydantic_config__ = STRICT
    scorers: tuple[Name, ...] = ()
    """Who scores the explanations, beside their simulation, which always is scored: `detection`, `fuzzing`, `intruder`,
    `surprisal`, `embedding`."""
    rank_by: Name = "simulation correlation"
    """What the order `best` goes by: a scorer and its measure, such as `detection balanced_accuracy` (the paper's)."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the calibrate documents that sentences are scored on, by their simulation and by `scorers`; nothing is
    calibrated on it. More of it ranks latents more surely, less calibrates better; of the two ranking needs documents
    more (benchmarks/README.md)."""
    latents: Count = 0
    """At most this many explained latents of a site are scored, drawn at random (0: all)."""
    per_decile: Positive = 10
    """Texts where the latent fires, from each tenth of them by how strongly it does."""
    silent: Positive = 100
    """Texts where it does not fire."""
    window: Annotated[int, Field(ge=2)] = 32
    """Tokens of a text."""
    batch: Annotated[int, Field(ge=2)] = 5
    """Texts in one question."""
    max_tokens: Positive = 64
    """The most tokens of a language model's answer."""
    control: bool = True
    """Score other latents' explanations as well: what they reach, a score is worth nothing below."""
    control_latents: Count = 64
    """At most this many latents of a site are scored with another's explanation (0: all that are scored)."""
    embedder: Name = "pocket"
    """The model whose hidden states the scorer `embedding` compares, named as `lm.name` is."""
    llm: LlmServiceConfig = field(default_factory=LlmServiceConfig)
