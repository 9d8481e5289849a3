"""Every setting: nested frozen dataclasses, strict; a field's docstring is its help text.

The room that reads a setting receives its section (or the bare value), never the whole tree. How the tree is read from
presets, files and overrides is in `plainspoken.config.load`.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

_STRICT = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False)

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class LmConfig:
    """The language model that is rewritten."""

    __pydantic_config__ = _STRICT
    name: Name = "pocket"
    """`pocket` (bundled), a folder as `save_pretrained` writes it, or a Hugging Face hub name."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights; auto: float32 on a CPU, bfloat16 on a GPU."""
    device: Name = "auto"
    """`auto` (a GPU when there is one), `cpu`, `cuda`, `cuda:1`. A run may go on on another device."""


@dataclass(frozen=True)
class CorpusConfig:
    """The text, and how much of each part is read."""

    __pydantic_config__ = _STRICT
    source: Name = "stdlib"
    """`stdlib` (the running Python's own source), a text file, a folder of text files, .jsonl, .parquet, a token tensor
    (.safetensors), `hf:NAME[:CONFIG[:SPLIT]]`, or `self:ROWSxTOKENS` (the model's own samples)."""
    eval_source: Name | None = None
    """Text to evaluate on, of any kind above; none: the evaluate part of `source`."""
    text_field: Name = "text"
    """The field of .jsonl, .parquet and hub corpora that holds the text."""
    context: Annotated[int, Field(ge=2)] = 256
    """Tokens in a row, the BOS included; never more than the model's own context."""
    bos: Literal["auto", "row", "never"] = "auto"
    """`row`: every row starts with the BOS token; auto: where the tokenizer has one."""
    fit_tokens: Count = 400_000
    """At most this many tokens train the coder (0: all)."""
    explain_tokens: Count = 400_000
    """At most this many tokens are read for explanations (0: all)."""
    calibrate_tokens: Count = 100_000
    """At most this many tokens calibrate the levels (0: all)."""
    evaluate_tokens: Count = 50_000
    """At most this many tokens are evaluated on (0: all)."""
    rows_per_document: Count = 4
    """At most this many rows of a document are evaluated on, spread over it (0: all): results are paired by document,
    so that many documents say more than long ones."""


@dataclass(frozen=True)
class CoderConfig:
    """The sparse coder whose latents are explained."""

    __pydantic_config__ = _STRICT
    kind: Literal["auto", "transcoder", "sae"] = "auto"
    """`transcoder` predicts a module's output from its input, `sae` an activation from itself (at an FFN: its output);
    auto: a transcoder at FFNs, an SAE at decoder layers (residual stream)."""
    activation: Name = "topk"
    """How a code is made sparse: `topk`, `batch_topk`, `relu` (L1 penalty) or `jump_relu` (learned thresholds)."""
    latents: Positive = 1024
    """Number of latents."""
    k: Positive = 16
    """Latents active at a token: at most (topk), or in the mean (the others, which training steers there)."""
    skip: bool = False
    """Whether a transcoder has a linear skip connection beside its latents."""
    load: Name | None = None
    """Take the coder from here instead of training one, in any format that `plainspoken convert` reads: its folder or
    file, and of several sites a folder with one for each, named after the site. Of what else is said of the coder here
    only `kind` then counts: an SAE at an FFN reads its output. none: train."""


@dataclass(frozen=True)
class TrainConfig:
    """How the coder is trained."""

    __pydantic_config__ = _STRICT
    tokens: Positive = 2_000_000
    """Activation vectors seen in total, over several epochs of the fit part."""
    batch: Positive = 1024
    """Activation vectors in a step."""
    lr: PositiveFloat | None = None
    """Peak learning rate of Adam; none: the paper's 2e-4 / sqrt(latents / 2^14), times `lr_scale`, and with `normalise`
    times 768 / width of the site's input, the paper's being 768."""
    lr_scale: PositiveFloat = 1.0
    """Factor on the paper's learning rate: small coders trained for a short time want more."""
    warm_up: Count = 100
    """Steps over which the learning rate rises to its peak."""
    decay: Fraction = 1.0
    """The last share of the steps, over which the learning rate falls to zero, linearly."""
    source: Literal["auto", "store", "buffer"] = "auto"
    """Where vectors come from: `store` keeps all of the fit part's (on disk where they are many), `buffer` reads the
    text again as it goes and mixes at most `buffer` of them; auto: the store where it takes no more than 16 GiB."""
    buffer: Annotated[int, Field(ge=1024)] = 2**19
    """Vectors of a site that the mixing buffer holds."""
    outlier_norm: Weight = 10.0
    """Vectors whose norm is more than so many times the median norm are not trained on (0: all are): attention sinks
    outweigh all else in a squared error. BOS tokens never are."""
    normalise: bool = True
    """Train on activations of mean 0 and variance 1 and fold that into the weights at the end, so that one learning
    rate serves every site; the paper trains on them as they are."""
    grad_clip: PositiveFloat = 1.0
    """Largest norm of a step's gradient."""
    sparsity: PositiveFloat | None = None
    """Weight of the penalty on firing of `relu` (L1) and `jump_relu` (L0) coders, beside FVU; none: steered so that
    `coder.k` latents fire at a token in the mean."""
    finish_tokens: Count = 0
    """After that, at least so many tokens more with the coder spliced into the model, on FVU and the KL divergence of
    what the model then predicts from what it predicted (0: none). Text is read as the model reads it, in rows."""
    finish_lr_scale: PositiveFloat = 0.03
    """Learning rate at the start of the finishing phase, in peaks of the training before; it falls to zero."""
    multi_topk: bool = False
    """Ask a `topk` coder for a good code with 4 k latents as well (at an eighth of the weight)."""
    prefixes: tuple[Positive, ...] = ()
    """Matryoshka: numbers of latents, ascending; the first so many must make a good code without the rest."""
    aux_k: Weight = 0.0
    """Weight of the aux-k term, which brings dead latents back by having them explain the residual (1/32 is usual)."""
    dead_after: Positive = 200_000
    """A latent is dead when it did not fire in the last so many vectors."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`bfloat16`: look for a `topk` coder's largest latents by a product in bfloat16, and compute those in float32; the
    skip's products are rounded too. auto: where the machine multiplies bfloat16 fast and the coder is large."""
    checkpoint_every: Count = 500
    """Steps between checkpoints, from which a killed run resumes bit for bit (0: none)."""


@dataclass(frozen=True)
class MeasureConfig:
    """How the trained coder is measured before it is explained."""

    __pydantic_config__ = _STRICT
    tokens: Positive = 24_000
    """At most this many tokens of the calibrate part, spread over its documents."""


@dataclass(frozen=True)
class CompareConfig:
    """Which coders `compare-coders` trains at one site."""

    __pydantic_config__ = _STRICT
    kinds: Annotated[tuple[Literal["transcoder", "skip-transcoder", "sae"], ...], Field(min_length=1)] = (
        "transcoder",
        "skip-transcoder",
        "sae",
    )
    """`transcoder`, `skip-transcoder` (both predict the FFN's output from its input) and `sae` (reconstructs the
    output from itself)."""
    k: Annotated[tuple[Positive, ...], Field(min_length=1)] = (4, 8, 16, 32, 64)
    """Latents active at a token: one coder of each kind for each."""


@dataclass(frozen=True)
class LlmServiceConfig:
    """A language model that explains, scores or simulates, and how it is reached."""

    __pydantic_config__ = _STRICT
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
    concurrency: Positive = 16
    """Requests in flight at once."""
    per_minute: Weight = 0.0
    """Requests begun in a minute (0: as many as go)."""
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
    "concurrency", "per_minute", "timeout_s", "retries", "price_in", "price_out", "cache", "key_variable",
)  # fmt: skip
"""Settings of an LlmServiceConfig that change no answer: a run may go on with others."""


@dataclass(frozen=True)
class ExplainConfig:
    """How latents are put into words."""

    __pydantic_config__ = _STRICT
    explainer: Name = "rules"
    """Who writes the explanations; a name from `plainspoken.explainers`."""
    words: Positive = 60
    """Budget of words, as the mean over a site's latents: those that matter more may say more."""
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

    __pydantic_config__ = _STRICT
    simulator: Name = "rules"
    """Who reads the explanations; a name from `plainspoken.simulators`."""
    gate: Name = "none"
    """A first stage that drops latents which cannot fire at a token, so that nobody is asked about them there: `none`;
    `rules`, by the conditions of controlled English with a tolerance; `embedding`, by how like the last tokens are to
    the words of the sentence, in the embeddings of the model that is rewritten. What is dropped is level 0."""
    gate_recall: Share = 0.99
    """The share of the true firings, and of their decoder-weighted mass, that the gate is to keep: its thresholds are
    chosen for it on one half of the calibrate documents, and what it keeps is measured on the other."""
    calibrate_positions: Literal["all", "last"] | Positive = "all"
    """Which tokens of the calibrate part the simulator is asked about: `all`, the `last` of each row that has a next
    one, or so many of each row, drawn at random. Of the evaluate part: those that `evaluate.positions` rewrites."""
    strategy: Literal["auto", "in-process", "fan-out", "echo"] = "auto"
    """How many levels are read from one prompt (`all-at-once`, `batched`): `in-process` from one pass of a model in
    this process; `fan-out` from a list of the prompt's prefixes; `echo` from the log-probabilities that a server tells
    of the prompt's own tokens, where it is truthful in them. auto: in-process, or fan-out on a server."""
    batch: Positive = 32
    """How many latents stand in a prompt (`batched`, `structured`). `structured` with 1 puts the text first and the
    explanation last, at a few times the cost; with more, a reply that tells nothing loses a row of the whole batch."""
    least_mass: Share = 0.001
    """Least probability that the ten digits must get together for an answer to be one; below it the pair counts as
    unanswered. A model that answers gives them nearly all, one that only goes on with the text a tenth or so, and ten
    tokens of 50,000 at random 0.0002: this refuses no model wholesale, only answers that are none. The share that went
    elsewhere stands with the simulation in any case."""
    llm: LlmServiceConfig = field(default_factory=LlmServiceConfig)


@dataclass(frozen=True)
class ScoreConfig:
    """How explanations are scored."""

    __pydantic_config__ = _STRICT
    scorers: tuple[Name, ...] = ()
    """Who scores the explanations, beside their simulation, which always is scored: `detection`, `fuzzing`, `intruder`,
    `surprisal`, `embedding`. A share of the calibrate documents is then theirs, and nothing is calibrated on it."""
    rank_by: Name = "simulation correlation"
    """What the order `best` goes by: a scorer and its measure, such as `detection balanced_accuracy` (the paper's)."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the calibrate documents that is the scorers', where there are any."""
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


@dataclass(frozen=True)
class CalibrateConfig:
    """How levels become activations."""

    __pydantic_config__ = _STRICT
    calibrator: Name = "conditional_mean"
    """`none`, `linear`, `quantile` (the paper's) or `conditional_mean`."""


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured and how surely."""

    __pydantic_config__ = _STRICT
    fractions: tuple[Share, ...] = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    """Shares of the latents that are rewritten; all of them (1.0) are measured in any case."""
    orders: tuple[Literal["best", "random", "mass"], ...] = ("best", "random", "mass")
    """Which latents come first: best scored, at random, or largest decoder-weighted mass."""
    draws: Positive = 5
    """Random orders that the rewrite is averaged over."""
    positions: Literal["all", "last"] = "all"
    """Rewrite every token of a row, or only its last one (the paper's way)."""
    also_calibrated: tuple[Name, ...] = ()
    """Other calibrators by which the same simulation is turned into activations and measured as well, as the conditions
    `rewritten:NAME` beside `rewritten`; what is asked of a language model stays the same."""
    keep: Literal["all", "top-k"] = "all"
    """After true and simulated latents are mixed, keep all of them or the k largest (the paper's way)."""
    bootstrap: Positive = 2000
    """Draws of documents for the 95 % intervals."""
    margin: PositiveFloat = 0.02
    """Equivalence to zero ablation means a difference in loss below this, nats/token."""
    rows_per_batch: Positive = 16
    """Rows of text in one forward pass."""


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows beyond the results."""

    __pydantic_config__ = _STRICT
    cards: Positive = 12
    """Explanation cards: a third each of best, median and worst."""
    frontier: tuple[Positive, ...] = ()
    """Word budgets at which loss recovered is measured as well."""


@dataclass(frozen=True)
class Config:
    """One run: all of its settings."""

    __pydantic_config__ = _STRICT
    preset: Name = "pocket"
    """The preset that these settings started from."""
    lm: LmConfig = field(default_factory=LmConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    site: Name = "gpt_neox.layers.2.mlp"
    """Where to rewrite: a module path, a glob (`model.layers.*.mlp`), or several with commas between."""
    coder: CoderConfig = field(default_factory=CoderConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    simulate: SimulateConfig = field(default_factory=SimulateConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    calibrate: CalibrateConfig = field(default_factory=CalibrateConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    seed: Count = 0
    """The one seed: everything random derives from it."""
