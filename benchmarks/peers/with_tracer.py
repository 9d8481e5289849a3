"""circuit-tracer's attribution graphs, measured. Run by circuits.py, by .venv-tracer's Python.

with_tracer.py TOKENS: one graph, pruned, of a random model of 4 layers, d_model 64, 4 heads and 1,024 latents a layer.
"""

import argparse
import time

import torch
from circuit_tracer.attribution.attribute import attribute
from circuit_tracer.graph import prune_graph
from circuit_tracer.replacement_model.replacement_model_transformerlens import TransformerLensReplacementModel
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, TranscoderSet
from meter import measured, tell
from tokenizers import Tokenizer, models
from transformer_lens import HookedTransformerConfig
from transformers import PreTrainedTokenizerFast

LAYERS, D, LATENTS, VOCABULARY = 4, 64, 1024, 2048
SILENT = -2.0
"""Encoder bias: rows of length 1 read a normed stream, so that 2.3 % of the latents fire, about 23 at a token."""


def made_model() -> TransformerLensReplacementModel:
    """A random model with random transcoders."""
    torch.manual_seed(0)
    config = HookedTransformerConfig(
        n_layers=LAYERS, d_model=D, d_head=16, n_heads=4, d_mlp=4 * D, n_ctx=256, d_vocab=VOCABULARY, act_fn="gelu",
        normalization_type="LN", device="cpu", seed=0,
    )  # fmt: skip
    coders = {}
    for layer in range(LAYERS):
        coder = SingleLayerTranscoder(D, LATENTS, torch.nn.functional.relu, layer)
        with torch.no_grad():
            coder.W_enc.copy_(torch.nn.functional.normalize(torch.randn(coder.W_enc.shape), dim=-1))
            coder.W_dec.copy_(torch.randn(coder.W_dec.shape) * 0.1)
            coder.b_enc.fill_(SILENT)
            coder.b_dec.zero_()
        coders[layer] = coder
    hooks = {"feature_input_hook": "ln2.hook_normalized", "feature_output_hook": "hook_mlp_out"}
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="w0")
    model = TransformerLensReplacementModel.from_config(config, TranscoderSet(coders, **hooks))
    model.tokenizer = tokenizer
    return model


def main() -> None:
    """Tells seconds of CPU for the graph and for pruning, the peak of memory, and how many latents fired."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tokens", type=int)
    tokens = parser.parse_args().tokens
    model = made_model()
    prompt = torch.randint(1, VOCABULARY, (tokens,))
    prompt[0] = 0
    found = {}

    def work() -> None:
        graph = attribute(prompt, model, batch_size=512)
        began = time.process_time()
        pruned = prune_graph(graph)
        found.update(
            prune=time.process_time() - began,
            active=len(graph.active_features),
            nodes=int(pruned.node_mask.sum()),
            edges=int(pruned.edge_mask.sum()),
        )

    tell(**measured(work, lambda: attribute(prompt[:4], model, batch_size=512)), **found)


main()
