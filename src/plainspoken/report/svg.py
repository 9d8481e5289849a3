"""Matplotlib figures as inline SVG: the same bytes every time, in the page's own colours and type.

Colours stand in the figure as stand-in values and leave it as CSS variables, so that one drawing serves light and
dark; a file of its own brings the page's variables with it. Text stays text (readable, selectable, translated), laid
out with the typeface that comes with matplotlib.
"""

import html
import io
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

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


@dataclass(frozen=True)
class Palette:
    """The colours of a drawing that may leave as SVG, in the page's variables, or as pixels."""

    ink: str
    muted: str
    line: str
    series: tuple[str, str, str]


PAGE = Palette(INK, MUTED, LINE, (REWRITTEN, SECOND, THIRD))


def style(palette: Palette) -> dict[Any, Any]:  # what matplotlib takes as settings is typed too narrowly
    """Matplotlib's settings for a drawing in these colours."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "plainspoken",
        "font.family": ["DejaVu Sans"],
        "text.parse_math": False,
        "text.color": palette.ink,
        "axes.labelcolor": palette.muted,
        "axes.edgecolor": palette.line,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "axes.unicode_minus": True,
        "xtick.color": palette.line,
        "ytick.color": palette.line,
        "xtick.labelcolor": palette.muted,
        "ytick.labelcolor": palette.muted,
        "figure.facecolor": "none",
        "path.simplify": False,
    }


STYLE = style(PAGE)


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


def standalone(inline: str) -> str:
    """An inline SVG as a file of its own: with its size, and the page's colours for light and dark."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', inline)
    assert box is not None, "an inline SVG has a viewBox"
    look = f"{_variables()}svg {{ background: var(--paper); }}\ntext {{ font-family: var(--sans); }}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{box[1]}" height="{box[2]}"'
    return f"{inline.replace('<svg', head, 1).replace('>', f'><style>{look}</style>', 1)}\n"


def light() -> Palette:
    """The page's own colours by day, for pixels."""
    found = dict(reversed(re.findall(r"(--[\w-]+): (#\w+)", _variables())))
    colours = {stand_in: found[variable] for stand_in, variable in _VARIABLES.items()}
    return Palette(colours[INK], colours[MUTED], colours[LINE], tuple(map(colours.__getitem__, PAGE.series)))


def png(figure: Figure, colours: int = 64) -> bytes:
    """The figure on white, 144 pixels an inch, in as many colours as a line drawing needs; shades need more."""
    figure.set_facecolor("white")
    figure.set_dpi(144)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    buffer = io.BytesIO()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
    pixels.quantize(colours, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _variables() -> str:
    """The beginning of the page's stylesheet: its colours and typefaces, for light and dark."""
    css = files("plainspoken.report").joinpath("templates", "style.css").read_text("utf-8")
    return css[: css.index("* {")]


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
