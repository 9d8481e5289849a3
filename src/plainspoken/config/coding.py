"""Settings of what is there before any sentence: the model that is rewritten, its text, the coder and its training."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from plainspoken.config.kinds import STRICT, Count, Fraction, Name, Positive, PositiveFloat, Weight


@dataclass(frozen=True)
class LmConfig:
    """The language model that is rewritten."""

    __pydantic_config__ = STRICT
    name: Name = "pocket"
    """`pocket` (bundled), a folder as `save_pretrained` writes it, or a Hugging Face hub name."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights; auto: float32 on a CPU, bfloat16 on a GPU."""
    device: Name = "auto"
    """`auto` (a GPU when there is one), `cpu`, `cuda`, `cuda:1`. A run may go on on another device."""


@dataclass(frozen=True)
class CorpusConfig:
    """The text, and how much of each part is read."""

    __pydantic_config__ = STRICT
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

    __pydantic_config__ = STRICT
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
    file, and of several sites a folder with one for each, named after the site; or a name on the Hugging Face hub,
    ORG/NAME[/FOLDER][@REVISION], where no folder here is called so. Of what else is said of the coder here only `kind`
    then counts: an SAE at an FFN reads its output. none: train."""


@dataclass(frozen=True)
class TrainConfig:
    """How the coder is trained."""

    __pydantic_config__ = STRICT
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

    __pydantic_config__ = STRICT
    tokens: Positive = 24_000
    """At most this many tokens of the calibrate part, spread over its documents."""


@dataclass(frozen=True)
class CompareConfig:
    """Which coders `compare-coders` trains at one site."""

    __pydantic_config__ = STRICT
    kinds: Annotated[tuple[Literal["transcoder", "skip-transcoder", "sae"], ...], Field(min_length=1)] = (
        "transcoder",
        "skip-transcoder",
        "sae",
    )
    """`transcoder`, `skip-transcoder` (both predict the FFN's output from its input) and `sae` (reconstructs the
    output from itself)."""
    k: Annotated[tuple[Positive, ...], Field(min_length=1)] = (4, 8, 16, 32, 64)
    """Latents active at a token: one coder of each kind for each."""
