"""What is told of a latent is the ends of dense products of the model's own weights, and comes back from its file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from families_made import made_coders, made_lm
from plainspoken.circuits.beside import Said
from plainspoken.circuits.connected import Connected, Head, Link, connected
from plainspoken.circuits.connected_file import HeadNorms, load_connections, save_connections
from plainspoken.circuits.weights import Weights, weights_of
from plainspoken.errors import StoreError, UsageError
from plainspoken.lm.anatomy import anatomy

TOP = 6


def scene(family: str) -> tuple[Weights, dict]:
    lm = made_lm(family)
    coders = made_coders(lm, (0, 1, 2))
    return weights_of(anatomy(lm), coders), coders


def told(weights: Weights, coders: dict, latent: tuple[int, int], through: Head | None = None) -> Connected:
    def say(layer: int, number: int) -> Said:
        return Said(f"{layer}, {number}", number / 100) if number % 2 else Said()

    spell = lambda token: f"t{token}" if token % 5 else ""  # noqa: E731
    return connected(weights, list(coders)[latent[0]], latent, TOP, say, spell, through)


def writes(weights: Weights, layer: int) -> np.ndarray:
    """[latents d]"""
    at, W_dec = weights.of.layers[layer], weights.coders[layer].W_dec.detach()
    return (W_dec if at.ffn_out is None else at.ffn_out.linear(W_dec, torch.ones(len(W_dec)).to(W_dec))).numpy()


def reads(weights: Weights, layer: int, x: np.ndarray) -> np.ndarray:
    """[n latents] of vectors [n d], by the norm itself with its factor at 1."""
    vectors = torch.from_numpy(x)
    entering = weights.of.layers[layer].ffn_norm.linear(vectors, torch.ones(len(vectors)).to(vectors))
    return (entering @ weights.coders[layer].W_enc.T).detach().numpy()


def moved(weights: Weights, layer: int, head: int, x: np.ndarray) -> np.ndarray:
    """[n d] of vectors [n d]: what a head makes of them where its pattern and the norms' factors are 1."""
    at, vectors = weights.of.layers[layer], torch.from_numpy(x)
    ones = torch.ones(len(vectors)).to(vectors)
    value = at.attention_norm.linear(vectors, ones) @ at.heads.W_V[at.heads.group[head]].T
    out = value @ at.heads.W_O[head]
    return (out if at.attention_out is None else at.attention_out.linear(out, ones)).detach().numpy()


def largest(links: tuple[Link, ...], dense: dict[tuple, float]) -> None:
    """The links are the largest of all, with their own numbers."""
    order = sorted(dense.values(), key=lambda value: -abs(value))[:TOP]
    assert [each.weight for each in links] == pytest.approx(order, rel=1e-9)
    for each in links:
        assert each.weight == pytest.approx(dense[each.head, each.layer, each.latent], rel=1e-9)
        assert each.text == (f"{each.layer}, {each.latent}" if each.latent % 2 else None)
        assert each.fidelity == (each.latent / 100 if each.latent % 2 else None)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2"])
def test_links_are_the_largest_of_all_pairs_directly_and_through_every_head(family: str) -> None:
    weights, coders = scene(family)
    serial, number = family != "gpt_neox", 7
    mine = writes(weights, 1)[number : number + 1]
    found = told(weights, coders, (1, number))
    before = reads(weights, 1, writes(weights, 0))[:, number]
    largest(found.sources, {(None, 0, i): float(v) for i, v in enumerate(before)})
    largest(found.targets, {(None, 2, i): float(v) for i, v in enumerate(reads(weights, 2, mine)[0])})
    onto, out = dict[tuple, float](), dict[tuple, float]()
    for head in range(4) if serial else ():  # parallel: a layer's FFN does not read its own heads
        through = reads(weights, 1, moved(weights, 1, head, writes(weights, 0)))[:, number]
        onto |= {((1, head), 0, i): float(v) for i, v in enumerate(through)}
        onward = reads(weights, 2, moved(weights, 2, head, mine))[0]
        out |= {((2, head), 2, i): float(v) for i, v in enumerate(onward)}
    largest(found.from_heads, onto)
    largest(found.to_heads, out)
    assert (found.text, found.fidelity) == ("1, 7", 0.07)
    if serial:
        only = told(weights, coders, (1, number), (1, 2))
        largest(only.from_heads, {key: value for key, value in onto.items() if key[0] == (1, 2)})
        assert only.to_heads == () and only.sources == found.sources
    else:
        last = told(weights, coders, (2, number), (1, 3))
        through = reads(weights, 2, moved(weights, 1, 3, writes(weights, 0)))[:, number]
        largest(last.from_heads, {((1, 3), 0, i): float(v) for i, v in enumerate(through)})


def test_tokens_are_both_ends_of_what_the_norm_and_the_unembedding_make() -> None:
    weights, coders = scene("gemma2")
    of, found = weights.of, told(weights, coders, (1, 7))
    spelled = [i for i in range(len(of.W_E)) if i % 5]
    excited = (of.layers[1].ffn_norm.whole(of.W_E * of.scale) @ weights.coders[1].W_enc[7]).detach()
    v = torch.from_numpy(writes(weights, 1)[7:8])
    logits = (of.final.linear(v, torch.ones(1).to(v)) @ of.W_U.T)[0].detach()
    logits = logits - logits.mean()
    for highest, lowest, dense in (
        (found.excited, found.held, excited), (found.promoted, found.suppressed, logits)
    ):  # fmt: skip
        order = sorted(spelled, key=lambda i: -float(dense[i]))
        assert [each.token for each in highest] == order[:TOP]
        assert [each.token for each in lowest] == order[::-1][:TOP]
        assert [each.score for each in lowest] == pytest.approx([float(dense[each.token]) for each in lowest])
        assert all(each.spelled == f"t{each.token}" for each in (*highest, *lowest))


def test_heads_that_stand_nowhere_between_are_refused() -> None:
    weights, coders = scene("gpt_neox")
    with pytest.raises(UsageError, match=r"head 0/1 does not stand between .* heads of these layers do: 1"):
        told(weights, coders, (2, 0), (0, 1))
    with pytest.raises(UsageError, match="layer 1 has no head 4: it has 4, the last 1/3"):
        told(weights, coders, (2, 0), (1, 4))
    with pytest.raises(UsageError, match="the model has layers 0 to 2"):
        told(weights, coders, (2, 0), (7, 0))


def test_connections_come_back_from_their_file_and_what_is_none_is_refused(tmp_path: Path) -> None:
    weights, coders = scene("gpt2")
    found = replace(told(weights, coders, (1, 7), (1, 2)), about={"seed": 3, "spelled": "é\n"})
    path, norms = tmp_path / "a" / "connections.json", HeadNorms(((1.5, 2.0), (0.25,)), {"seed": 0})
    for each in (found, norms):
        save_connections(each, path)
        assert load_connections(path) == each
    whole = json.loads(path.read_text())
    for change, said in (
        ({"norms": [[1.5, 2.0], [0.5]]}, "altered"), ({"version": 9}, "update"), ({"format": "x"}, "format"),
    ):  # fmt: skip
        path.write_text(json.dumps(whole | change))
        with pytest.raises(StoreError, match=said):
            load_connections(path)
