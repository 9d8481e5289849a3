"""Figures of coders: files of their own that need nothing else, the same every time; what is undefined is left out."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from math import log2

import pytest

from plainspoken.report import CoderReport, ComparedCoder, Interval, ReportData, coder_report, render_report
from plainspoken.report.figures import Picture, coder_picture
from plainspoken.report.figures.comparison import _draw, comparison_picture, comparison_png
from plainspoken.report.figures.frame import WIDE
from plainspoken.report.svg import light, standalone

RECORD = {
    "latents": 4, "tokens": 100, "dead": 0.25, "fvu": 0.2, "fvu_low": 0.1, "fvu_high": 0.3, "l0": 2.0,
    "ce_original": 1.9, "increase": 0.1, "kl": 0.1, "recovered_zero": None, "recovered_zero_low": None,
    "recovered_zero_high": None, "recovered_mean": 0.9,
    "density": {"log10_rate": [-2.0, -1.0, 0.0], "latents": [1, 2], "silent": 1},
}  # fmt: skip


def compared() -> list[ComparedCoder]:
    """Three kinds at two k, one loss undefined."""
    fvu = Interval(0.3, 0.2, 0.4)
    found = [
        ComparedCoder(kind, k, Interval(k, k, k), Interval(loss / k, 0.5 * loss / k, 2 * loss / k), fvu)
        for kind, loss in (("transcoder", 0.9), ("skip-transcoder", 0.6), ("sae", 0.5))
        for k in (4, 16)
    ]  # fmt: skip
    return [*found[:-1], replace(found[-1], increase=None)]


@pytest.fixture(params=["coder", "comparison"])
def drawn(request: pytest.FixtureRequest, coder: CoderReport) -> Picture:
    """Each figure that is also a file of its own."""
    return coder_picture(coder, "a-coder") if request.param == "coder" else comparison_picture(compared(), "a-coder")


def test_a_record_with_its_log_reads_as_a_coder() -> None:
    found = coder_report(RECORD, [{"step": 1, "vectors": 64, "fvu": 1.5}, {"step": 2, "vectors": 128, "fvu": 0.5}])
    assert (found.fvu, found.recovered_zero) == (Interval(0.2, 0.1, 0.3), None)
    assert (found.density, found.silent, found.training) == ((1, 2), 1, ((64, 1.5), (128, 0.5)))


def test_a_file_of_its_own_is_whole_and_needs_nothing_else(drawn: Picture) -> None:
    text = standalone(drawn.wide)
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert float(root.attrib["width"]) > float(root.attrib["height"]) > 0
    assert text.count("http") == 1, "the namespace's name alone"
    assert set(re.findall(r"var\((--\w+)\)", text)) <= set(re.findall(r"(--[\w-]+):", text))


def test_the_same_coders_give_the_same_bytes(coder: CoderReport) -> None:
    assert coder_picture(coder, "a-coder") == coder_picture(coder, "a-coder")
    assert comparison_picture(compared(), "a-coder") == comparison_picture(compared(), "a-coder")
    first = comparison_png(compared())
    assert first == comparison_png(compared()) and len(first) < 60_000


def test_pixels_have_the_page_s_colours_by_day() -> None:
    palette = light()
    assert (palette.ink, palette.series[0]) == ("#23211d", "#1c5f93")


def test_what_is_not_defined_is_not_drawn_and_not_called_a_number(coder: CoderReport, data: ReportData) -> None:
    with_all = comparison_picture(compared()[:-1], "a-coder").wide
    assert "nan" not in comparison_picture(compared(), "a-coder").wide
    assert comparison_picture(compared(), "a-coder").wide != with_all, "its FVU is still drawn"
    page = render_report(data)
    assert "The coder" in page and "Recovered over mean" in page
    untrained = coder_picture(replace(coder, fvu=None, training=((10, 1.0),)), "a-coder")
    assert "nan" not in untrained.wide


def test_coders_of_one_document_are_drawn_without_bars() -> None:
    bare = [
        replace(one, **{name: Interval(1.0, None, None) for name in ("l0", "increase", "fvu")}) for one in compared()
    ]
    found = comparison_picture(bare, "a-coder")
    assert "without intervals" in found.caption and "intervals over" not in found.caption
    assert "nan" not in found.wide and comparison_png(bare)


def ticks_and_places(coders: list[ComparedCoder]) -> tuple[list[str], list[float]]:
    """Labels beneath the first axes, and where its points stand, as shares of its width."""
    axes = _draw(coders, WIDE, light()).axes[0]
    low, high = (log2(bound) for bound in axes.get_xlim())
    x = [float(x) for line in axes.get_lines() for x in line.get_xdata() if line.get_marker() in ("o", "^", "s")]
    return [tick.get_text() for tick in axes.get_xticklabels()], [(log2(at) - low) / (high - low) for at in x]


def test_nearly_the_same_number_of_latents_stands_at_nearly_the_same_place() -> None:
    kinds, fvu = ("transcoder", "skip-transcoder", "sae"), Interval(0.3, 0.2, 0.4)
    one_k = [
        ComparedCoder(kind, 8, Interval(l0, l0, l0), fvu, fvu) for kind, l0 in zip(kinds, (7.98, 7.99, 8), strict=True)
    ]
    for coders in (one_k, one_k[:1]):
        ticks, places = ticks_and_places(coders)
        assert "8" in ticks and len(places) == len(coders)
        assert all(0.45 < place < 0.55 for place in places) and max(places) - min(places) < 0.01
    ticks, places = ticks_and_places(compared())
    assert ticks == ["4", "8", "16"] and min(places) < 0.1 and max(places) > 0.9


def test_a_site_without_a_measured_coder_says_nothing_of_it(data: ReportData) -> None:
    bare = replace(data, sites=(replace(data.sites[0], coder=None),))
    assert "<h3>The coder</h3>" not in render_report(bare)
