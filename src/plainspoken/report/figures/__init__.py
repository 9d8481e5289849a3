"""The report's figures, one idea a file; every one drawn wide and narrow and readable without the code."""

from plainspoken.report.figures.coders import coder_picture
from plainspoken.report.figures.frame import Picture
from plainspoken.report.figures.frontier import frontier_picture
from plainspoken.report.figures.kept import kept_picture
from plainspoken.report.figures.losses import loss_picture
from plainspoken.report.figures.recovered import conditions_picture, sites_picture
from plainspoken.report.figures.scores import scores_picture

__all__ = [
    "Picture",
    "coder_picture",
    "conditions_picture",
    "frontier_picture",
    "kept_picture",
    "loss_picture",
    "scores_picture",
    "sites_picture",
]
