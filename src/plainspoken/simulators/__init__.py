"""Simulators: from sentences and tokens alone to the level at which each latent is expected to fire."""

from plainspoken.simulators.means import Simulate, SimulateMeans
from plainspoken.simulators.registry import (
    SIMULATORS,
    Follow,
    Listen,
    Simulator,
    require_follows,
    settings_unread,
    simulator_named,
)

__all__ = [
    "SIMULATORS",
    "Follow",
    "Listen",
    "Simulate",
    "SimulateMeans",
    "Simulator",
    "require_follows",
    "settings_unread",
    "simulator_named",
]
