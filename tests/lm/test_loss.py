"""The loss of each token is what a loop over positions says."""

import torch

from plainspoken.lm import LanguageModel, token_nll


def test_nll_is_that_of_the_next_token_and_zero_where_it_is_masked(neox: LanguageModel) -> None:
    tokens = torch.randint(neox.vocabulary, (3, 9), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    mask = torch.rand(3, 9, generator=torch.Generator().manual_seed(1)) < 0.7
    nll = token_nll(neox, tokens, mask)
    assert nll.shape == (3, 9) and nll.dtype == torch.float32 and not nll[:, -1].any()
    for r in range(3):
        for i in range(8):
            with torch.no_grad():
                logits = neox.model(tokens[r : r + 1, : i + 1].long()).logits[0, -1]
            expected = -logits.double().log_softmax(-1)[tokens[r, i + 1].long()] if mask[r, i + 1] else 0.0
            assert abs(float(nll[r, i]) - float(expected)) < 1e-4
