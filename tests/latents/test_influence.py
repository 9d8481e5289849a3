"""The loss's metric is the Fisher information of a module's output."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from plainspoken.errors import LeakError
from plainspoken.latents import latent_weight, loss_metric
from plainspoken.latents.influence import sampled_gradient
from plainspoken.lm import LanguageModel, resolve_sites, splice
from plainspoken.types import Rows, Site


@pytest.fixture(scope="module")
def few(rows: Rows) -> Rows:
    """One row of five tokens of text, one of two."""
    tokens, mask = rows.tokens[:2, :6].copy(), rows.mask[:2, :6].copy()
    mask[1, 3:] = False
    return Rows(tokens, mask, rows.document[:2], rows.keys, "explain")


@pytest.fixture(params=["gpt_neox.layers.0.mlp", "gpt_neox.layers.1.mlp", "gpt_neox.layers.0"])
def site(request: pytest.FixtureRequest, neox: LanguageModel) -> Site:
    return resolve_sites(neox, request.param)[0]


def exact_metric(lm: LanguageModel, site: Site, rows: Rows) -> torch.Tensor:
    """Σ over targets and over every label v of p(v) g_v g_vᵀ, one backward pass for each, divided by the tokens."""
    tokens, mask = torch.from_numpy(rows.tokens).long(), torch.from_numpy(rows.mask)
    added = torch.zeros(*tokens.shape, site.d_out, requires_grad=True)
    with splice(lm, {site: lambda x, y: y.detach() + added}):
        logp = lm.model(tokens).logits.log_softmax(-1)
    total = torch.zeros(site.d_out, site.d_out, dtype=torch.float64)
    for row, column in mask[:, 1:].nonzero().tolist():
        logits = logp[row, column]
        grads = torch.autograd.grad(logits, added, torch.eye(len(logits)), is_grads_batched=True, retain_graph=True)[
            0
        ].double()
        for p, g in zip(logits.exp().double(), grads, strict=True):
            total += p * g[mask].T @ g[mask]
    return (total / mask.sum()).detach()


def test_the_metric_is_the_fisher_information(neox: LanguageModel, site: Site, few: Rows) -> None:
    """Its mean over many draws of labels is the sum over all labels."""
    exact = exact_metric(neox, site, few)
    generator = torch.Generator().manual_seed(0)
    mean = sum(loss_metric(neox, site, few, generator) for _ in range(300)) / 300
    assert float((mean - exact).norm() / exact.norm()) < 0.15
    assert float(mean.trace()) == pytest.approx(float(exact.trace()), rel=0.05)


def test_a_gradient_is_that_of_the_labels_drawn(neox: LanguageModel, site: Site, few: Rows) -> None:
    """Against autograd through the labels that the same generator draws, and nothing comes from BOS or padding."""
    tokens, mask = torch.from_numpy(few.tokens).long(), torch.from_numpy(few.mask)
    g = sampled_gradient(neox, site, tokens, mask, torch.Generator().manual_seed(3))
    added = torch.zeros(*tokens.shape, site.d_out, requires_grad=True)
    with splice(neox, {site: lambda x, y: y.detach() + added}):
        logits = neox.model(tokens).logits[:, :-1][mask[:, 1:]]
    heights = logits.detach().softmax(-1).cumsum(-1)
    height = torch.rand(len(logits), 1, generator=torch.Generator().manual_seed(3)) * heights[:, -1:]
    labels = (heights <= height).sum(1)
    cross_entropy(logits, labels, reduction="sum").backward()
    torch.testing.assert_close(g, added.grad)
    assert not g[~mask & ~mask.roll(-1, 1)].any()


def test_the_metric_is_symmetric_positive_and_seeded(neox: LanguageModel, site: Site, rows: Rows) -> None:
    def metric(seed: int) -> torch.Tensor:
        return loss_metric(neox, site, rows, torch.Generator().manual_seed(seed))

    G = metric(0)
    assert torch.equal(G, metric(0))
    assert not torch.equal(G, metric(1))
    torch.testing.assert_close(G, G.T)
    assert float(torch.linalg.eigvalsh(G).min()) > -1e-9 * float(G.trace())


def test_the_metric_is_of_explain_rows_alone(neox: LanguageModel, site: Site, few: Rows) -> None:
    for part in ("fit", "calibrate", "evaluate"):
        other = Rows(few.tokens, few.mask, few.document, few.keys, part)
        with pytest.raises(LeakError, match=part):
            loss_metric(neox, site, other, torch.Generator())


def test_a_latents_weight_is_its_decoder_in_the_metric() -> None:
    W, root = torch.randn(7, 5), torch.randn(5, 5, dtype=torch.float64)
    G = root @ root.T
    wanted = torch.stack([w @ G @ w for w in W.double()])
    torch.testing.assert_close(latent_weight(W, G), wanted)
    torch.testing.assert_close(latent_weight(W, G), (W.double() @ G @ W.double().T).diagonal())


def test_the_weight_foretells_the_loss(neox: LanguageModel, site: Site, rows: Rows) -> None:
    """KL(model || model with small random errors) is about ½ δᵀ G δ summed over the tokens."""
    tokens, mask = torch.from_numpy(rows.tokens).long(), torch.from_numpy(rows.mask)
    generator = torch.Generator().manual_seed(0)
    G = sum(loss_metric(neox, site, rows, generator) for _ in range(50)) / 50
    with torch.no_grad():
        logp = neox.model(tokens).logits.log_softmax(-1)[:, :-1]
        told, true = 0.0, 0.0
        for _ in range(20):
            delta = 0.01 * torch.randn(*tokens.shape, site.d_out, generator=generator) * mask.unsqueeze(2)
            with splice(neox, {site: lambda x, y, delta=delta: y + delta}):
                logq = neox.model(tokens).logits.log_softmax(-1)[:, :-1]
            true += float(((logp.exp() * (logp - logq)).sum(-1) * mask[:, 1:]).sum())
            told += float(0.5 * torch.einsum("btd,de,bte->", delta.double(), G, delta.double()))
    assert told == pytest.approx(true, rel=0.25)
