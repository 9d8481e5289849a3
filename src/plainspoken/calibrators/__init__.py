"""Calibrators: from a simulator's levels to activations. A new one is one file and one line in `CALIBRATORS`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from plainspoken.calibrators.calibration import LEVEL_MAX, Calibration
from plainspoken.calibrators.conditional_mean import fit_conditional_mean
from plainspoken.calibrators.linear import fit_linear
from plainspoken.calibrators.none import fit_none
from plainspoken.calibrators.quantile import fit_quantile
from plainspoken.config.named import named
from plainspoken.corpus.rows import require_part
from plainspoken.latents.evidence import Evidence
from plainspoken.latents.table import FiringTable
from plainspoken.types import Simulation

__all__ = ["CALIBRATORS", "LEVEL_MAX", "Calibration", "Calibrator", "Evidence", "calibrator_named"]


@dataclass(frozen=True)
class Calibrator:
    """A way to fit a calibration. `fit` wants evidence; calling it wants a simulation and the truth it is about.

    `learns`: whether the curves depend on what was simulated over the calibrate part; where not, answers that lack
    there take nothing from them.
    """

    fit: Callable[[Evidence, Float[np.ndarray, " latents"]], Calibration]
    learns: bool = True

    def __call__(
        self, simulation: Simulation, table: FiringTable, maximum: Float[np.ndarray, " latents"]
    ) -> Calibration:
        """Fit on a simulation and the firing table of the same calibrate rows.

        `maximum`: largest activation of each latent, seen anywhere but on evaluate documents. Raises LeakError on rows
        of another part, RunError where simulation and table do not belong together.
        """
        require_part(table.rows, "calibrate")  # evaluate rows would leak into the figures
        return self.fit(Evidence.over(simulation, table), maximum)


CALIBRATORS: Mapping[str, Calibrator] = MappingProxyType(
    {
        "none": Calibrator(fit_none, learns=False),
        "linear": Calibrator(fit_linear),
        "quantile": Calibrator(fit_quantile),
        "conditional_mean": Calibrator(fit_conditional_mean),
    }
)


def calibrator_named(name: str, setting: str = "calibrate.calibrator") -> Calibrator:
    """The calibrator that this setting names. Raises ConfigError that lists those there are."""
    return named(CALIBRATORS, name, setting)
