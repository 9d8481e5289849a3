"""Matplotlib figures as inline SVG: the same bytes every time, in the page's own colours and type.

Colours stand in the figure as stand-in values and leave it as CSS variables, so that one drawing serves light and
dark. Text stays text (readable, selectable, translated), laid out with the typeface that comes with matplotlib.
"""

import html
import io
import re
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER, REWRITTEN, SECOND, THIRD, CONTROL, TRUTH = (f"#0{n}0{n}0{n}" for n in range(1, 10))

_VARIABLES: Final = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    PAPER: "--paper",
    REWRITTEN: "--rewritten",
    SECOND: "--second",
    THIRD: "--third",
    CONTROL: "--control",
    TRUTH: "--truth",
}

# What matplotlib takes as settings is typed too narrowly for a plain dict of them.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "plainspoken",
    "font.family": ["DejaVu Sans"],
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.unicode_minus": True,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": "none",
    "path.simplify": False,
}


def inline_svg(figure: Figure, key: str, label: str) -> str:
    """The figure as an `<svg>` element to stand in an HTML page. `key`: unique on the page; `label`: what it shows.

    No scripts, styles, dates or outside references; ids begin with `key`; nothing wider than its container.
    """
    buffer = io.StringIO()
    with rc_context(STYLE):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for pattern in (r"<metadata>.*?</metadata>", r"<!--.*?-->", r"<style[^>]*>.*?</style>", r"\s*<defs>\s*</defs>"):
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    text = _own_ids(text, key)
    text = _short_numbers(text)
    # A stroke without length, drawn for its round cap alone.
    text = re.sub(r"M (-?[\d.]+) (-?[\d.]+)\s+L \1 \2\s*", r"M\1 \2h0", text)
    text = re.sub(r"font: (?:(\d+) )?([\d.]+)px [^;\"]+", _font, text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"\n\s*", "\n", text).replace("\n\n", "\n")
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None, "matplotlib writes a viewBox"
    head = f'<svg viewBox="{box[1]}" role="img" aria-label="{html.escape(label)}">'
    return head + text[text.index(">") + 1 :].strip()


def _own_ids(text: str, key: str) -> str:
    """Keep the ids that something refers to, each with the key before it; drop the others."""
    used = set(re.findall(r'xlink:href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    text = re.sub(r' id="([^"]+)"', lambda found: f' id="{key}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{key}-\1"', text)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", text)


def _short_numbers(text: str) -> str:
    """Coordinates to a hundredth of a point: nobody sees more. What stands between tags is text and stays as it is."""

    def shorten(found: re.Match[str]) -> str:
        return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")

    return re.sub(r"<[^>]+>", lambda tag: re.sub(r"(?<![\w#.])-?\d+\.\d{3,}(?!\w)", shorten, tag[0]), text)


def _font(found: re.Match[str]) -> str:
    weight = f"; font-weight: {found[1]}" if found[1] else ""
    return f"font-size: {found[2]}px{weight}"
