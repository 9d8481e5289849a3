"""A coder does what its formulas say, slowly computed."""

from itertools import product

import pytest
import torch

from plainspoken.coders import Coder, CoderSpec, SparseCode, Units, fold_units, initialise
from plainspoken.errors import ConfigError


def make_coder(
    kind: str = "transcoder", latents: int = 12, k: int = 3, skip: bool = True, d_in: int = 4, d_out: int = 5
) -> Coder:
    """A coder in float64 with nothing zero in it."""
    coder = Coder(CoderSpec(kind, "topk", latents, k, skip, d_in, d_out), dtype=torch.float64)
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.normal_()
    return coder


def slow_dense(coder: Coder, x: torch.Tensor) -> torch.Tensor:
    """TopK(ReLU(W_enc x + b_enc)) with Python's own sums and sort."""
    out = torch.zeros(len(x), coder.spec.latents, dtype=x.dtype)
    W, b = coder.W_enc.tolist(), coder.b_enc.tolist()
    for i, j in product(range(len(x)), range(coder.spec.latents)):
        out[i, j] = max(0.0, sum(w * v for w, v in zip(W[j], x[i].tolist(), strict=True)) + b[j])
    for row in out:
        for j in sorted(range(coder.spec.latents), key=lambda j: -float(row[j]))[coder.spec.k :]:
            row[j] = 0.0
    return out


@pytest.mark.parametrize("activation", ["relu", "batch_topk", "jump_relu"])
def test_encode_is_relu_above_the_threshold(activation: str) -> None:
    """Whatever the batch: each row by itself, however many fire."""
    coder, x = Coder(CoderSpec("transcoder", activation, 12, None, False, 4, 5), dtype=torch.float64), torch.randn(7, 4)
    with torch.no_grad():
        for tensor in coder.state_dict().values():
            tensor.normal_()
        if coder.threshold is not None:
            coder.threshold.abs_()
    pre = coder.pre(x)
    threshold = torch.zeros(1) if coder.threshold is None else coder.threshold
    torch.testing.assert_close(coder.dense(coder.encode(x)), pre.relu() * (pre > threshold))
    torch.testing.assert_close(coder(x[:1]), coder(x)[:1])
    assert coder.encode(x[:0]).values.shape == (0, 1)


@pytest.mark.parametrize("k", [1, 3, 12])
def test_encode_is_topk_of_relu(k: int) -> None:
    coder, x = make_coder(k=k), torch.randn(7, 4, dtype=torch.float64)
    code = coder.encode(x)
    assert code.values.shape == (7, k)
    torch.testing.assert_close(coder.dense(code), slow_dense(coder, x))
    assert all(len(set(row)) == k for row in code.indices.tolist())


def test_encode_is_the_same_with_and_without_gradients() -> None:
    coder, x = make_coder(), torch.randn(7, 4, dtype=torch.float64)
    with torch.no_grad():
        silent = coder.encode(x)
    assert torch.equal(coder.dense(silent), coder.dense(coder.encode(x)))


def test_decode_equals_decode_dense() -> None:
    coder, x = make_coder(), torch.randn(7, 4, dtype=torch.float64)
    code = coder.encode(x)
    assert coder.W_skip is not None
    torch.testing.assert_close(coder.decode(code), coder.decode_dense(coder.dense(code)))
    torch.testing.assert_close(coder(x), slow_dense(coder, x) @ coder.W_dec + coder.b_dec + x @ coder.W_skip.T)


def test_decode_of_nothing_is_the_bias() -> None:
    coder = make_coder()
    nothing = SparseCode(torch.zeros(2, 3, dtype=torch.float64), torch.tensor([[0, 1, 2], [3, 4, 5]]))
    torch.testing.assert_close(coder.decode(nothing), coder.b_dec.expand(2, -1))


def test_a_coder_without_a_skip_has_a_zero_skip() -> None:
    coder, x = make_coder(skip=False), torch.randn(7, 4, dtype=torch.float64)
    assert coder.W_skip is None
    assert torch.equal(coder.skip(x), torch.zeros(7, 5, dtype=torch.float64))
    torch.testing.assert_close(coder(x), coder.decode(coder.encode(x)))


def fvu(coder: Coder, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (coder(x) - y).square().sum(1).mean() / 7.0


def test_gradients_are_finite_differences() -> None:
    """Of the FVU loss in every parameter and in x, at points where no choice of latents changes nearby."""
    coder = make_coder()
    x, y = torch.randn(9, 4, dtype=torch.float64, requires_grad=True), torch.randn(9, 5, dtype=torch.float64)
    fvu(coder, x, y).backward()
    h = 1e-6
    for tensor in (x, *coder.parameters()):
        assert tensor.grad is not None
        numeric = torch.zeros_like(tensor)
        with torch.no_grad():
            flat, out = tensor.view(-1), numeric.view(-1)
            for i in range(len(flat)):
                before = float(flat[i])
                flat[i] = before + h
                above = fvu(coder, x, y)
                flat[i] = before - h
                out[i] = (above - fvu(coder, x, y)) / (2 * h)
                flat[i] = before
        torch.testing.assert_close(tensor.grad, numeric, atol=1e-7, rtol=1e-6)


def test_gradients_equal_autograd_through_dense_codes() -> None:
    """The same gradients as torch's through a dense masked code, at a size where latents repeat in a batch."""
    coder = make_coder(latents=40, k=5, d_in=6, d_out=6)
    x, y = torch.randn(64, 6, dtype=torch.float64), torch.randn(64, 6, dtype=torch.float64)
    fvu(coder, x, y).backward()
    sparse = {name: p.grad for name, p in coder.named_parameters()}
    coder.zero_grad()
    z = coder.pre(x).relu()
    z = z * (z >= z.topk(5, dim=1).values[:, -1:])
    ((coder.decode_dense(z) + coder.skip(x) - y).square().sum(1).mean() / 7.0).backward()
    for name, parameter in coder.named_parameters():
        torch.testing.assert_close(sparse[name], parameter.grad)


def test_a_transcoder_starts_from_the_mean_output() -> None:
    x, y = torch.randn(50, 4) + 3.0, torch.randn(50, 5) - 2.0
    spec = CoderSpec("transcoder", "topk", 12, 3, True, 4, 5)
    coder = initialise(spec, x.mean(0), y.mean(0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(coder(x), y.mean(0).expand(50, -1))
    torch.testing.assert_close(coder.pre(x).mean(0), torch.zeros(12), atol=1e-5, rtol=0)
    again = initialise(spec, x.mean(0), y.mean(0), torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(coder.parameters(), again.parameters(), strict=True))


def test_an_sae_starts_with_its_decoder_as_its_encoder() -> None:
    x = torch.randn(50, 4) + 3.0
    coder = initialise(CoderSpec("sae", "topk", 12, 3, False, 4, 4), x.mean(0), x.mean(0), torch.Generator())
    assert torch.equal(coder.W_dec, coder.W_enc)
    torch.testing.assert_close(coder.W_dec.norm(dim=1), torch.ones(12))
    torch.testing.assert_close(coder.b_dec, x.mean(0))


@pytest.mark.parametrize("skip", [False, True])
def test_folding_units_changes_the_units_and_no_latent(skip: bool) -> None:
    coder, x = make_coder(skip=skip), torch.randn(7, 4, dtype=torch.float64)
    units = Units(torch.randn(4, dtype=torch.float64), 3.0, torch.randn(5, dtype=torch.float64), 0.25)
    folded, moved = fold_units(coder, units), x * 3.0 + units.x_mean
    torch.testing.assert_close(folded(moved), coder(x) * 0.25 + units.y_mean)
    torch.testing.assert_close(folded.dense(folded.encode(moved)), coder.dense(coder.encode(x)))


@pytest.mark.parametrize("activation", ["batch_topk", "jump_relu"])
def test_folding_units_moves_no_threshold_and_no_output(activation: str) -> None:
    """Thresholds are of pre-activations, which are the same in all units: what fired fires, where it would not without
    a threshold, and the output in the original units stays, written out here from the coder's formula."""
    coder, x = Coder(CoderSpec("transcoder", activation, 12, 3, True, 4, 5), dtype=torch.float64), torch.randn(50, 4)
    x = x.double()
    with torch.no_grad():
        for tensor in coder.state_dict().values():
            tensor.normal_()
        assert coder.threshold is not None and coder.W_skip is not None
        coder.threshold.uniform_(0.3, 1.5)
        units = Units(torch.randn(4, dtype=torch.float64), 40.0, torch.randn(5, dtype=torch.float64), 0.025)
        folded, moved = fold_units(coder, units), x * 40.0 + units.x_mean
        pre = x @ coder.W_enc.T + coder.b_enc
        z = torch.where(pre > coder.threshold, pre, 0.0).relu()
        assert int(((pre > 0) & (z == 0)).sum()) > 20 and int((z > 0).sum()) > 20
        torch.testing.assert_close(folded.dense(folded.encode(moved)), z)
        out = z @ coder.W_dec + coder.b_dec + x @ coder.W_skip.T
        torch.testing.assert_close(folded(moved), out * 0.025 + units.y_mean)
        assert folded.threshold is not None and torch.equal(folded.threshold, coder.threshold)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": 13}, "k is 13, more than coder.latents = 12"),
        ({"k": 0}, "at least 1"),
        ({"activation": "tokp"}, "'tokp'; there are: topk, batch_topk, relu, jump_relu"),
        ({"kind": "sae", "d_out": 5}, "d_in = 4 and d_out = 5"),
        ({"kind": "sae", "skip": True}, "would copy its input"),
        ({"k": None}, "needs k"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(changes: dict, words: str) -> None:
    fields = {"kind": "transcoder", "activation": "topk", "latents": 12, "k": 3, "skip": False, "d_in": 4, "d_out": 4}
    with pytest.raises(ConfigError, match=words):
        CoderSpec(**{**fields, **changes})
