"""A coder as it came out of training: how often its latents fire, and how its reconstruction got better."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plainspoken.language.counted import agreeing, counted
from plainspoken.report import numbers, svg
from plainspoken.report.data import CoderReport
from plainspoken.report.figures.frame import Frame, Picture, new_axes, picture


def coder_picture(coder: CoderReport, key: str) -> Picture:
    """Latents by firing rate, and FVU over the training, side by side."""
    fire = agreeing(coder.silent, "fires", "fire")
    silent = f"{numbers.count(coder.silent)} of {counted(coder.latents, 'latent')} {fire} at none of the tokens"
    fvu = numbers.fixed(coder.fvu.value, 3) if coder.fvu is not None else numbers.UNDEFINED
    caption = (
        f"The coder before anything is said of it. Left: its latents by the share of {numbers.count(coder.tokens)} "
        f"held-out tokens at which they fire; {silent}. Right: the fraction of variance unexplained while it was "
        f"trained; dotted: on the held-out tokens ({fvu})."
    )
    label = f"Latents by firing rate: {silent}. Fraction of variance unexplained on held-out tokens: {fvu}."
    return picture(key, label, caption, lambda frame: _draw(coder, frame))


def _draw(coder: CoderReport, frame: Frame) -> Figure:
    if frame.narrow:
        figure = Figure(figsize=(frame.width, 4.4))
        places = ((0.62, 2.7, 0.15, 0.15), (0.62, 0.46, 0.15, 2.4))
    else:
        figure = Figure(figsize=(frame.width, 2.4))
        places = ((0.62, 0.46, 3.85, 0.15), (4.1, 0.46, 0.15, 0.15))
    left, right = (new_axes(figure, *place) for place in places)
    _density(left, coder)
    _training(right, coder.training, None if coder.fvu is None else coder.fvu.value)
    return figure


def _density(axes: Axes, coder: CoderReport) -> None:
    axes.stairs(coder.density, coder.log10_rate, fill=True, color=svg.REWRITTEN)
    low = int(np.floor(coder.log10_rate[0]))
    ticks = range(0, low - 1, -1 if low > -4 else -2)
    axes.set_xticks(list(ticks), [f"1/{10**-tick:,}" if tick else "all" for tick in ticks])
    axes.set_xlim(low, 0)
    axes.set_ylim(0, 1.05 * max(1, *coder.density))
    axes.set_xlabel("share of tokens at which it fires")
    axes.set_ylabel("latents")


def _training(axes: Axes, training: Sequence[tuple[int, float]], held_out: float | None) -> None:
    millions = [vectors / 1e6 for vectors, _ in training]
    fvu = [share for _, share in training]
    axes.plot(millions, fvu, color=svg.REWRITTEN, linewidth=1.6, marker="o" if len(fvu) == 1 else None, markersize=4)
    if held_out is not None:
        axes.axhline(held_out, color=svg.MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.annotate("held out", (0.02, held_out), xycoords=("axes fraction", "data"), xytext=(0, -3),
                      textcoords="offset points", va="top", color=svg.MUTED)  # fmt: skip
    # The first steps of a training stand far above all that is of interest.
    last = fvu[len(fvu) // 20 :] + ([] if held_out is None else [held_out])
    axes.set_ylim(0, 1.05 * max(last, default=1.0))
    axes.set_xlim(0, max(millions, default=1.0))
    axes.set_xlabel("activation vectors, millions")
    axes.set_ylabel("FVU")
