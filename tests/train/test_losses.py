"""Every term of the loss is what its formula says, and its gradients are finite differences of it."""

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from torch import Tensor

from plainspoken.coders import Coder, CoderSpec
from plainspoken.coders.jump_relu import BANDWIDTH
from plainspoken.train.fire import fire
from plainspoken.train.losses import MULTI_WEIGHT, Objective, terms

VARIANCE = 7.0
ROWS = 9


def made(activation: str, latents: int = 12, k: int = 2, skip: bool = True, seed: int = 0) -> Coder:
    """A coder in float64 with nothing zero in it, and thresholds of about half a pre-activation."""
    torch.manual_seed(seed)
    coder = Coder(CoderSpec("transcoder", activation, latents, k, skip, 4, 5), dtype=torch.float64)
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.normal_()
        if coder.threshold is not None:
            coder.threshold.uniform_(0.3, 0.9)
    return coder


def data(rows: int = ROWS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return tuple(torch.randn(rows, d, dtype=torch.float64, generator=generator) for d in (4, 5))


def slow_z(coder: Coder, x: Tensor, k: int) -> Tensor:
    """The code of a training batch, written out, from the definitions of the four activations."""
    pre = coder.pre(x)
    match coder.spec.activation:
        case "topk":
            return pre.relu() * (pre >= pre.topk(k, dim=1).values[:, -1:])
        case "batch_topk":
            return pre.relu() * (pre >= pre.flatten().topk(k * len(x)).values[-1])
        case "jump_relu":
            assert coder.threshold is not None
            return pre.relu() * (pre > coder.threshold.detach())
    return pre.relu()


def slow_fvu(coder: Coder, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return ((coder.decode_dense(z) + coder.skip(x) - y) ** 2).sum() / (len(x) * VARIANCE)


def numeric(value: Callable[[], Tensor], parameters: Sequence[Tensor], h: float = 1e-6) -> list[Tensor]:
    """Central differences of a value in every entry of the parameters."""
    found = []
    with torch.no_grad():
        for tensor in parameters:
            flat, out = tensor.data.view(-1), torch.zeros_like(tensor).view(-1)
            for i in range(len(flat)):
                before = float(flat[i])
                flat[i] = before + h
                above = float(value())
                flat[i] = before - h
                out[i] = (above - float(value())) / (2 * h)
                flat[i] = before
            found.append(out.view_as(tensor))
    return found


def weights(coder: Coder) -> list[Tensor]:
    """All that is learned but thresholds, whose gradients are estimates."""
    return [parameter for name, parameter in coder.named_parameters() if name != "threshold"]


ACTIVATIONS = ("topk", "batch_topk", "relu", "jump_relu")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("skip", [True, False])
def test_fvu_is_its_formula_and_its_gradient_a_finite_difference(activation: str, skip: bool) -> None:
    coder, (x, y) = made(activation, skip=skip), data()
    found = terms(coder, x, y, Objective(VARIANCE), ROWS)
    z = slow_z(coder, x, 2)
    torch.testing.assert_close(found.fvu, slow_fvu(coder, x, y, z).detach())
    assert float(found.l0) == pytest.approx(float((z > 0).sum()) / ROWS)
    assert torch.equal(found.fired, (z > 0).any(0))
    assert float(found.smallest) == pytest.approx(z[z > 0].min().item())
    found.total.backward()
    differences = numeric(lambda: terms(coder, x, y, Objective(VARIANCE), ROWS).total, weights(coder))
    for parameter, difference in zip(weights(coder), differences, strict=True):
        torch.testing.assert_close(parameter.grad, difference, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize(
    ("activation", "objective"),
    [
        ("topk", Objective(VARIANCE, prefixes=(3, 7))),
        ("batch_topk", Objective(VARIANCE, prefixes=(1, 2, 6))),
        ("topk", Objective(VARIANCE, multi_topk=True)),
        ("topk", Objective(VARIANCE, prefixes=(5,), multi_topk=True)),
    ],
)
def test_prefixes_and_multi_topk_have_gradients_that_are_finite_differences(
    activation: str, objective: Objective
) -> None:
    """A peer's multi-TopK gives the encoder none."""
    coder, (x, y) = made(activation), data()
    terms(coder, x, y, objective, ROWS).total.backward()
    differences = numeric(lambda: terms(coder, x, y, objective, ROWS).total, weights(coder))
    for parameter, difference in zip(weights(coder), differences, strict=True):
        torch.testing.assert_close(parameter.grad, difference, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("activation", ["topk", "batch_topk"])
def test_the_loss_of_prefixes_is_the_mean_of_their_fvus(activation: str) -> None:
    coder, (x, y) = made(activation), data()
    z, place = slow_z(coder, x, 2), torch.arange(12)
    fvus = [slow_fvu(coder, x, y, z * (place < end)) for end in (3, 7, 12)]
    found = terms(coder, x, y, Objective(VARIANCE, prefixes=(3, 7)), ROWS)
    torch.testing.assert_close(found.total, torch.stack(fvus).mean())
    torch.testing.assert_close(found.fvu, fvus[-1].detach())


def test_multi_topk_adds_an_eighth_of_the_fvu_with_four_times_as_many() -> None:
    coder, (x, y) = made("topk"), data()
    few, many = (slow_fvu(coder, x, y, slow_z(coder, x, k)) for k in (2, 8))
    found = terms(coder, x, y, Objective(VARIANCE, multi_topk=True), ROWS)
    torch.testing.assert_close(found.total, few + MULTI_WEIGHT * many)
    torch.testing.assert_close(found.fvu, few.detach())


def test_aux_k_moves_encoder_and_decoder_of_dead_latents_and_nothing_else() -> None:
    """Its gradient is the finite difference of ||what dead latents make of the residual - the residual||² over
    ||residual||², the residual held fixed: for W_enc too, to which a peer's fused encoder gives exactly none."""
    coder, (x, y) = made("topk"), data()
    dead = torch.tensor([1, 4, 5, 9, 10])
    plain, helped = Objective(VARIANCE), Objective(VARIANCE, aux_k=0.25)
    before = terms(coder, x, y, plain, ROWS)
    before.total.backward()
    without = [parameter.grad.clone() for parameter in weights(coder) if parameter.grad is not None]
    coder.zero_grad()
    terms(coder, x, y, helped, ROWS, dead).total.backward()
    with torch.no_grad():
        residual = y - coder.decode_dense(slow_z(coder, x, 2)) - coder.skip(x)

    def aux() -> Tensor:
        pre = coder.pre(x)[:, dead].relu()
        z = pre * (pre >= pre.topk(2, dim=1).values[:, -1:])  # d_in / 2 of them
        return 0.25 * (z @ coder.W_dec[dead] - residual).square().sum() / residual.square().sum()

    for (name, parameter), first, difference in zip(
        coder.named_parameters(), without, numeric(aux, weights(coder)), strict=True
    ):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad - first, difference, atol=1e-7, rtol=1e-6)
        assert bool((difference.abs().sum() > 0) == (name in ("W_enc", "b_enc", "W_dec")))


def aux_term(coder: Coder, x: Tensor, y: Tensor, dead: list[int]) -> float:
    """What an aux-k of weight 1 adds to the loss."""
    found = terms(coder, x, y, Objective(VARIANCE, aux_k=1.0), len(x), torch.tensor(dead, dtype=torch.long))
    return float(found.total.detach() - found.fvu)


def test_aux_k_is_a_share_of_the_residual_however_small_that_is() -> None:
    """One where dead latents decode to nothing, whatever they leave, and zero where they decode to all of it; nothing
    where none is dead, and where there is no residual (Gao et al. 2024, appendix A.2, and their train.py but for the
    residual's mean, which b_dec keeps near 0)."""
    coder, (x, y) = made("topk"), data()
    dead = [1, 4, 5]
    with torch.no_grad():
        coder.W_dec[dead] = 0.0
        coder.W_enc[dead], coder.b_enc[dead] = 0.0, -1.0
    out = coder(x).detach()
    for size in (1.0, 0.01):
        assert aux_term(coder, x, out + size * (y - out), dead) == pytest.approx(1.0)
        assert aux_term(coder, x, out + size * (y - out), []) == 0.0
    assert aux_term(coder, x, out, dead) == pytest.approx(0.0, abs=1e-12)
    leave = torch.randn(5, dtype=torch.float64)
    with torch.no_grad():
        coder.b_enc[1], coder.W_dec[1] = 1e-3, leave  # which alone of the dead is above zero
    assert aux_term(coder, x, coder(x).detach() + 1e-3 * leave, dead) == pytest.approx(0.0, abs=1e-12)


def test_parts_of_a_batch_share_the_residual_that_aux_k_is_measured_against() -> None:
    coder, (x, y) = made("topk"), data()
    objective, dead = Objective(VARIANCE, aux_k=0.25), torch.tensor([1, 4, 5])
    whole = terms(coder, x, y, objective, ROWS, dead).total.detach()
    parts, residual = (slice(0, 2), slice(2, ROWS)), (coder(x) - y).detach().square()
    everybody = torch.stack([residual[part].sum() for part in parts])
    totals = [
        terms(coder, x[part], y[part], objective, ROWS, dead, gather=lambda _: everybody).total.detach()
        for part in parts
    ]
    torch.testing.assert_close(torch.stack(totals).sum(), whole)


def test_l1_has_the_gradient_of_its_formula_and_does_not_see_a_change_of_scale() -> None:
    coder, (x, y) = made("relu"), data()

    def total() -> Tensor:
        return terms(coder, x, y, Objective(VARIANCE), ROWS, sparsity=0.3).total

    pre, norms = coder.pre(x).relu(), coder.W_dec.norm(dim=1)
    slow = slow_fvu(coder, x, y, pre) + 0.3 * (pre * norms).sum() / (ROWS * VARIANCE**0.5)
    torch.testing.assert_close(total(), slow)
    total().backward()
    for parameter, difference in zip(weights(coder), numeric(total, weights(coder)), strict=True):
        torch.testing.assert_close(parameter.grad, difference, atol=1e-7, rtol=1e-6)
    before = total().detach()
    with torch.no_grad():
        coder.W_enc.mul_(0.5), coder.b_enc.mul_(0.5), coder.W_dec.mul_(2.0)
    torch.testing.assert_close(total().detach(), before)


def test_thresholds_have_the_estimated_gradient_of_the_paper() -> None:
    """Equations 11 and 12 with a rectangle: only pre-activations in the window of their threshold count."""
    coder, (x, y) = made("jump_relu", latents=40), data(64)
    assert coder.threshold is not None
    terms(coder, x, y, Objective(VARIANCE), 64, sparsity=0.3).total.backward()
    found, slow = coder.threshold.grad, torch.zeros(40, dtype=torch.float64)
    with torch.no_grad():
        pre, threshold = coder.pre(x), coder.threshold
        out = coder.decode_dense(slow_z(coder, x, 2)) + coder.skip(x)
        to_z = 2 * (out - y) @ coder.W_dec.T / (64 * VARIANCE)
        for i, j in product(range(64), range(40)):
            if abs(float(pre[i, j] - threshold[j])) < BANDWIDTH / 2:
                slow[j] -= (threshold[j] * to_z[i, j] + 0.3 / 64) / BANDWIDTH
    assert int((slow != 0).sum()) > 20
    torch.testing.assert_close(found, slow)


@pytest.mark.parametrize("activation", ["relu", "jump_relu"])
def test_few_firings_and_many_are_the_same_mathematics(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over a list of entries, and dense products: the same loss, figures and gradients."""
    coder, (x, y) = made(activation, latents=40), data(32)
    seen = []
    for share in (1.0, 0.0):
        monkeypatch.setattr("plainspoken.coders.activation.DENSE", share)
        coder.zero_grad()
        found = terms(coder, x, y, Objective(VARIANCE), 32, sparsity=0.3)
        found.total.backward()
        seen.append((type(fire(coder, x, 2).support).__name__, found, [p.grad.clone() for p in coder.parameters()]))
    (name, few, sparse), (other, many, dense) = seen
    assert (name, other) == ("Sparse", "Dense")
    torch.testing.assert_close(sparse, dense)
    torch.testing.assert_close((few.total, few.l0, few.smallest), (many.total, many.l0, many.smallest))
    assert torch.equal(few.fired, many.fired)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_parts_of_a_batch_add_up(activation: str) -> None:
    """Processes that share a batch add their gradients; one of them may have none of its rows."""
    if activation == "batch_topk":  # whose rows compete for the batch's k: no part knows of the others here
        found = terms(made(activation), *(tensor[:0] for tensor in data()), Objective(VARIANCE), 1)
        assert found.total.item() == 0.0 and float(found.smallest) == float("inf")
        return
    coder, (x, y) = made(activation), data()
    objective = Objective(VARIANCE)
    terms(coder, x, y, objective, ROWS, sparsity=0.2).total.backward()
    whole = [parameter.grad.clone() for parameter in coder.parameters() if parameter.grad is not None]
    coder.zero_grad()
    for part in (slice(0, 2), slice(2, 2), slice(2, ROWS)):
        terms(coder, x[part], y[part], objective, ROWS, sparsity=0.2).total.backward()
    torch.testing.assert_close([parameter.grad for parameter in coder.parameters()], whole)


def test_batch_topk_finds_its_latents_in_a_row_that_has_most_of_them() -> None:
    """One row is far stronger than the others, and takes more than the first search looks at."""
    coder, (x, _) = made("batch_topk", latents=40, k=2), data(16)
    x = torch.cat([x[:1] * 50.0, x[1:] * 0.01])
    with torch.no_grad():
        coder.b_enc.zero_()
        firing = fire(coder, x, 2)
        dense = torch.zeros(16, 40, dtype=torch.float64)
        dense[firing.support.row, firing.support.latent] = firing.z
        torch.testing.assert_close(dense, slow_z(coder, x, 2))
        assert int((dense[0] > 0).sum()) > 8
