"""The laws of reading and splicing, on random models of every family."""

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from plainspoken.errors import ActivationError, SiteError
from plainspoken.lm import LanguageModel, candidate_sites, capture, resolve_sites, splice, wrap_lm
from plainspoken.types import Site

VOCABULARY, WIDTH, LAYERS, CONTEXT = 50, 16, 3, 32


def _gated(kind: type[PreTrainedConfig], **more: object) -> PreTrainedConfig:
    return kind(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=LAYERS,
        num_attention_heads=4, num_key_value_heads=2, head_dim=4, max_position_embeddings=CONTEXT,
        initializer_range=0.3, bos_token_id=0, eos_token_id=None, pad_token_id=0, **more,
    )  # fmt: skip


FAMILIES: dict[str, PreTrainedConfig] = {
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=CONTEXT, initializer_range=0.3,
        bos_token_id=0, eos_token_id=None,
    ),
    "gpt_neox": GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=LAYERS, bos_token_id=0,
        num_attention_heads=4, max_position_embeddings=CONTEXT, initializer_range=0.3, eos_token_id=None,
    ),
    "llama": _gated(LlamaConfig),
    "qwen2": _gated(Qwen2Config),
    "mistral": _gated(MistralConfig, sliding_window=8),
    "gemma": _gated(GemmaConfig),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(FAMILIES))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(FAMILIES[request.param])
    tokenizer = Tokenizer(models.WordLevel({str(i): i for i in range(VOCABULARY)}))
    return wrap_lm(model, PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="0"), request.param)


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(VOCABULARY, (3, 12), generator=torch.Generator().manual_seed(2))


def logits(lm: LanguageModel, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(tokens).logits


def all_sites(lm: LanguageModel) -> tuple[Site, ...]:
    return resolve_sites(lm, ",".join(candidate_sites(lm)))


def layer_glob(lm: LanguageModel) -> str:
    first = next(path for path, kind in candidate_sites(lm).items() if kind == "resid")
    return first.removesuffix("0") + "*"


def test_every_layer_has_its_two_sites(lm: LanguageModel) -> None:
    ffns, layers = resolve_sites(lm, layer_glob(lm) + ".mlp"), resolve_sites(lm, layer_glob(lm))
    assert [site.kind for site in ffns] == ["mlp"] * LAYERS and [site.kind for site in layers] == ["resid"] * LAYERS
    assert {(site.d_in, site.d_out) for site in ffns + layers} == {(WIDTH, WIDTH)}
    assert [site.module for site in ffns] == [f"{site.module}.mlp" for site in layers]
    # In the order in which the model runs them, each once, however they are asked for.
    mixed = resolve_sites(lm, f"{ffns[2].module}, {layer_glob(lm)}.mlp,{layers[0].module}")
    assert mixed == (ffns[0], layers[0], ffns[1], ffns[2])


def test_capture_reads_what_the_module_got_and_gave(lm: LanguageModel, tokens: torch.Tensor) -> None:
    sites = all_sites(lm)
    with capture(lm, sites) as seen:
        logits(lm, tokens)
    assert list(seen) == [site.module for site in sites]
    for site in sites:
        x, y = seen[site.module]
        assert x.shape == y.shape == (3, 12, WIDTH)
        if site.kind == "mlp":
            with torch.no_grad():
                again = lm.model.get_submodule(site.module)(x)
            assert torch.equal(again[0] if isinstance(again, tuple) else again, y)
        else:
            assert x is y


def test_splicing_a_modules_own_output_changes_no_logit(lm: LanguageModel, tokens: torch.Tensor) -> None:
    with splice(lm, {site: lambda x, y: y.clone() for site in all_sites(lm)}):
        spliced = logits(lm, tokens)
    assert torch.equal(spliced, logits(lm, tokens))


def test_splicing_at_some_positions_leaves_earlier_logits_bit_identical(
    lm: LanguageModel, tokens: torch.Tensor
) -> None:
    def late(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        new = y.clone()
        new[:, 5:] = -3 * y[:, 5:] + 1
        return new

    before = logits(lm, tokens)
    for site in all_sites(lm):
        with splice(lm, {site: late}):
            after = logits(lm, tokens)
        assert torch.equal(after[:, :5], before[:, :5])
        assert not torch.allclose(after[:, 5:], before[:, 5:])


def test_a_splice_inside_generate_works_with_the_cache(lm: LanguageModel, tokens: torch.Tensor) -> None:
    seen: list[int] = []

    def half(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(y.shape[1])
        return 0.5 * y + 0.1 * x

    site = all_sites(lm)[2]
    arguments = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    arguments["attention_mask"] = torch.ones_like(tokens[:, :4])
    plain = lm.model.generate(tokens[:, :4], **arguments)
    with splice(lm, {site: half}):
        cached = lm.model.generate(tokens[:, :4], use_cache=True, **arguments)
        assert seen == [4] + [1] * 11
        uncached = lm.model.generate(tokens[:, :4], use_cache=False, **arguments)
        assert seen[12:] == list(range(4, 16))
    assert cached.shape == (3, 16) and torch.equal(cached, uncached)
    assert not torch.equal(cached, plain)


class Stop(Exception):
    pass


def hook_count(lm: LanguageModel) -> int:
    return sum(len(module._forward_hooks) for module in lm.model.modules())


def test_no_exception_leaves_a_hook_behind(lm: LanguageModel, tokens: torch.Tensor) -> None:
    before, sites = logits(lm, tokens), all_sites(lm)

    def fails(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        raise Stop

    with pytest.raises(Stop), capture(lm, sites), splice(lm, dict.fromkeys(sites, fails)):
        logits(lm, tokens)
    with pytest.raises(KeyboardInterrupt), splice(lm, {sites[0]: lambda x, y: 0 * y}):
        raise KeyboardInterrupt
    unknown = Site("no.such.module", "mlp", WIDTH, WIDTH)
    with pytest.raises(AttributeError), splice(lm, {sites[0]: lambda x, y: 0 * y, unknown: fails}):
        pass
    misshapen = splice(lm, {sites[0]: lambda x, y: y[..., :4]})
    with pytest.raises(ActivationError, match=r"shape \(3, 12, 4\) for an output of \(3, 12, 16\)"), misshapen:
        logits(lm, tokens)
    assert hook_count(lm) == 0
    assert torch.equal(logits(lm, tokens), before)


def test_capture_sees_what_was_spliced_before_it(lm: LanguageModel, tokens: torch.Tensor) -> None:
    site = all_sites(lm)[0]
    with splice(lm, {site: lambda x, y: torch.zeros_like(y)}), capture(lm, [site]) as seen:
        logits(lm, tokens)
    assert not seen[site.module][1].any()


@pytest.mark.parametrize("pattern", ["nonsense", "layers.7.mlp", "*.mlp", ""])
def test_an_unknown_site_names_the_nearest(lm: LanguageModel, pattern: str) -> None:
    with pytest.raises(SiteError, match=rf"fits no module of {lm.name} \(3 layers\); nearest: ") as caught:
        resolve_sites(lm, pattern)
    assert str(caught.value).rpartition(" ")[2] in candidate_sites(lm)


def test_the_nearest_of_a_layer_too_many_is_a_layer_of_the_same_kind(lm: LanguageModel) -> None:
    prefix = layer_glob(lm).removesuffix("*")
    with pytest.raises(SiteError, match=rf"nearest: {prefix}2\.mlp"):
        resolve_sites(lm, f"{prefix}9.mlp")
    with pytest.raises(SiteError, match="is no feed-forward network or decoder layer of"):
        resolve_sites(lm, prefix.removesuffix("."))
