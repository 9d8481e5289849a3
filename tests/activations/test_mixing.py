"""The order of the mixing buffer: every token once an epoch, whatever the rows' lengths and the chunks' size."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.activations.mixing import MixingOrder
from plainspoken.activations.shares import Portion, Share
from plainspoken.errors import ConfigError

ROWS = st.lists(st.integers(1, 9), min_size=1, max_size=30)


def served(order: MixingOrder, tokens: np.ndarray, start: int, stop: int) -> list[tuple[int, int]]:
    """(row, token of the row) at each place [start, stop), found the slow way."""
    found = []
    for stretch in order.between(start, stop):
        epoch = order.epoch(stretch.epoch)
        for chunk, token in list(zip(*epoch.window(stretch.window), strict=True))[stretch.start : stretch.stop]:
            rows = [(int(row), t) for row in epoch.rows_of(int(chunk)) for t in range(tokens[row])]
            found.append(rows[int(token)])
    return found


@given(ROWS, st.integers(9, 60), st.integers(0, 3))
def test_an_epoch_is_every_token_once(lengths: list[int], chunk: int, seed: int) -> None:
    tokens = np.array(lengths)
    n = sum(lengths)
    order = MixingOrder(tokens, chunk, seed)
    everything = sorted((row, t) for row in range(len(tokens)) for t in range(tokens[row]))
    first, second = (served(order, tokens, epoch * n, (epoch + 1) * n) for epoch in range(2))
    assert sorted(first) == sorted(second) == everything
    assert n < 20 or first != second


@given(ROWS, st.integers(9, 60), st.data())
def test_the_order_is_a_function_of_seed_and_place(lengths: list[int], chunk: int, data: st.DataObject) -> None:
    """Read in any pieces, from any place, it is the same sequence."""
    tokens = np.array(lengths)
    stop = 3 * sum(lengths)
    whole = served(MixingOrder(tokens, chunk, 0), tokens, 0, stop)
    a, b = sorted(data.draw(st.lists(st.integers(0, stop), min_size=2, max_size=2)))
    assert served(MixingOrder(tokens, chunk, 0), tokens, a, b) == whole[a:b]


@given(ROWS, st.integers(9, 60))
def test_a_window_draws_on_its_chunk_and_the_one_before(lengths: list[int], chunk: int) -> None:
    tokens = np.array(lengths)
    epoch = MixingOrder(tokens, chunk, 0).epoch(0)
    sizes = [int(tokens[epoch.rows_of(c)].sum()) for c in range(epoch.chunks)]
    assert max(sizes) <= chunk
    for window in range(epoch.chunks):
        chunks = epoch.window(window)[0]
        counted = [int((chunks == c).sum()) for c in range(epoch.chunks)]
        if window:
            assert counted[window - 1] == -(-sizes[window - 1] // 2)
        assert counted[window] == (sizes[window] if window == epoch.chunks - 1 else sizes[window] // 2)
        assert sum(counted) == sum(counted[max(0, window - 1) : window + 1])


def test_what_a_window_mixes_is_mixed() -> None:
    """Anywhere in a window, half of the vectors come from either chunk, and neighbours are of different rows."""
    epoch = MixingOrder(np.full(400, 50), 5000, 0).epoch(0)
    assert epoch.chunks == 4
    chunks, tokens = epoch.window(1)
    for part in chunks.split(1000):
        assert 0.4 < float((part == 0).double().mean()) < 0.6
    rows = chunks * 100 + tokens // 50
    assert float((rows[1:] == rows[:-1]).double().mean()) < 0.02


def test_one_chunk_is_one_shuffle_of_everything() -> None:
    epoch = MixingOrder(np.full(10, 5), 50, 0).epoch(0)
    assert epoch.chunks == 1
    assert torch.equal(epoch.window(0)[1].sort().values, torch.arange(50))


def test_a_chunk_that_does_not_hold_a_row_is_refused() -> None:
    with pytest.raises(ConfigError, match="of 9 vectors does not hold the longest row, of 10 tokens: allow it 20"):
        MixingOrder(np.array([3, 10]), 9, 0)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 7), st.integers(1, 4))
def test_portions_part_the_tokens(lengths: list[int], batch_rows: int, world: int) -> None:
    """Every token is one process's own, and lies where that process's own passes put it."""
    tokens = np.array(lengths)
    places = torch.arange(int(tokens.sum()))
    row_of = np.repeat(np.arange(len(tokens)), tokens)
    owners = torch.zeros_like(places)
    for rank in range(world):
        portion = Portion(tokens, batch_rows, Share(rank, world, total=lambda partial: partial))
        local = portion.local(places)
        owners += local >= 0
        assert torch.equal(local[local >= 0], torch.arange(portion.size))
        read = [row for batch in portion.batches for row in range(batch.start, batch.stop)]
        assert [row for row in read for _ in range(tokens[row])] == row_of[local.numpy() >= 0].tolist()
    assert bool((owners == 1).all())


def test_a_share_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="no process 2 of 2; ranks go from 0 to 1"):
        Share(2, 2, total=lambda partial: partial)
    with pytest.raises(ConfigError, match="pass the `total`"):
        Share(0, 2)
