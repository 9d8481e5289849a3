"""Tokens drawn by given numbers."""

import torch

from plainspoken.lm import draw


def test_each_token_is_drawn_over_a_stretch_as_wide_as_its_probability():
    p = torch.tensor([0.2, 0.0, 0.5, 0.3], dtype=torch.float64)
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    found = draw(p.log().expand(1000, 4), uniform)
    assert torch.bincount(found, minlength=4).tolist() == [200, 0, 500, 300]
    assert (found.diff() >= 0).all()


def test_the_ends_of_the_range_draw_tokens_that_can_be():
    p = torch.tensor([[0.0, 0.6, 0.4, 0.0]]).expand(2, 4)
    found = draw(p.log(), torch.tensor([0.0, 1 - 2**-24]))
    assert found.tolist() == [1, 2]


def test_rows_are_drawn_each_by_its_own_number():
    logits, uniform = torch.randn(50, 30, dtype=torch.float64), torch.rand(50, dtype=torch.float64)
    for row in range(50):
        total, p = 0.0, (logits[row].exp() / logits[row].exp().sum()).tolist()
        token = next(i for i in range(30) if (total := total + p[i]) > uniform[row])
        assert draw(logits, uniform)[row] == token
