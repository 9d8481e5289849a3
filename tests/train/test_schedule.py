"""When training sees which vector, and at what rate."""

import pytest
import torch

from plainspoken.activations.order import EpochOrder
from plainspoken.errors import ConfigError
from plainspoken.train.schedule import Schedule, base_rate


def test_every_epoch_is_a_new_shuffle_of_everything() -> None:
    order = EpochOrder(10, seed=0)
    places = torch.cat([order.between(start, start + 4) for start in range(0, 40, 4)])
    epochs = [tuple(epoch.tolist()) for epoch in places.split(10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(epochs)) == 4
    assert torch.equal(EpochOrder(10, seed=0).between(13, 29), places[13:29])
    assert not torch.equal(EpochOrder(10, seed=1).between(0, 40), places)
    assert len(EpochOrder(3, seed=0).between(0, 8)) == 8


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    schedule = Schedule(steps=100, peak=2.0, warm_up=9, decay=0.5)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert set(rates[9:51]) == {2.0}
    assert rates[-1] == pytest.approx(2.0 / 50)
    assert schedule.rate(100) == 0.0
    assert base_rate(2**14) == 2e-4
    assert base_rate(2**12) == 4e-4
    assert base_rate(2**14, 384) == 4e-4
    with pytest.raises(ConfigError):
        Schedule(steps=0, peak=1.0, warm_up=0, decay=1.0)
