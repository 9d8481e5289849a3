"""The page is whole, alone, escaped, and the same every time."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from plainspoken.report import (
    Card,
    Edit,
    Example,
    FailureRow,
    Interval,
    LatentScore,
    Measured,
    Provenance,
    ReportData,
    SiteReport,
    render_report,
    write_report,
)

VOID = {"meta", "br", "link", "img", "hr", "input"}
ATTACK = '"><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>'


class Outline(HTMLParser):
    """Every element closes the one that is open; ids, links and text are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def many(site: SiteReport, provenance: Provenance) -> ReportData:
    """Two sites and the joint rewrite of both."""
    rows = tuple(replace(row, site="all") for row in site.conditions)
    other = replace(site, site="model.layers.3.mlp", cards=(), edits=(), failures=(), scores=(), frontier=())
    return ReportData((site, other), SiteReport("all", 58.3, 180, 20, 19, rows), provenance)


@pytest.fixture(scope="module")
def page(data: ReportData) -> str:
    return render_report(data)


@pytest.fixture(scope="module")
def pages(page: str, many: ReportData) -> tuple[str, str]:
    return page, render_report(many)


def test_every_element_closes_and_every_drawing_is_xml(pages: tuple[str, str]) -> None:
    for text in pages:
        outline(text)
        drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
        assert len(drawings) >= 8
        for drawing in drawings:
            ElementTree.fromstring(drawing)


def test_nothing_is_fetched_and_nothing_runs(pages: tuple[str, str]) -> None:
    for text in pages:
        found = outline(text)
        assert not found.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
        for name, value in found.attributes:
            assert name not in ("src", "srcset", "data", "action", "poster") and not name.startswith("on")
            assert name not in ("href", "xlink:href") or value.startswith("#")
        assert not re.search(r"@import|url\((?!#)|https?:|//[a-z]", text)
        assert "default-src 'none'" in text


def test_links_and_ids_meet_one_to_one(pages: tuple[str, str]) -> None:
    for text in pages:
        found = outline(text)
        ids = [value for name, value in found.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        targets = {value[1:] for name, value in found.attributes if name in ("href", "xlink:href")}
        targets |= set(re.findall(r"url\(#([^)]+)\)", text))
        assert targets <= set(ids)


def test_whatever_the_data_hold_is_text_on_the_page(data: ReportData) -> None:
    site = data.sites[0]
    example = Example(ATTACK, "typical", (ATTACK.encode(), b"</div>"), (1.0, 0.0), (0.5, 0.0))
    hostile = replace(
        site,
        site=f"layer{ATTACK}",
        conditions=tuple(replace(row, order=ATTACK, calibrator=ATTACK) for row in site.conditions),
        cards=(Card("best", site.scores[0], f"9 at “{ATTACK}”.", 3, (example,)),),
        edits=(Edit(1, ATTACK, ATTACK, None, problem=ATTACK),),
        failures=(FailureRow(1, ATTACK, ATTACK, 3, ATTACK, ATTACK),),
    )
    strange = tuple((ATTACK, ATTACK) for _ in range(2))
    provenance = Provenance(ATTACK, ATTACK, ATTACK, 0, ATTACK, strange, strange, strange, ((ATTACK, 1.0),))
    text = render_report(ReportData((hostile, site), replace(hostile, site="all"), provenance, (ATTACK,)))
    found = outline(text)
    assert not found.tags & {"script", "img"}
    assert not [name for name, _ in found.attributes if name in ("src", "onerror")]
    assert "".join(found.text).count("<script>alert(1)</script>") > 20


def test_quotes_and_strengths_are_set_apart_and_surrogates_do_no_harm(data: ReportData) -> None:
    site = data.sites[0]
    text = "Fires at 9 on “a; 5 on b” after “\\”x”; 4 on a number & \udc80."
    card = replace(site.cards[0], text=text)
    page = render_report(replace(data, sites=(replace(site, cards=(card,)),)))
    quoted = '<span class="q">“a; 5 on b”</span> after <span class="q">“\\”x”</span>'
    assert f"Fires at <b>9</b> on {quoted}; <b>4</b> on a number &amp; \\udc80." in page
    assert page.encode("utf-8")


def test_the_same_data_give_the_same_bytes(data: ReportData, page: str, tmp_path: Path) -> None:
    write_report(data, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == page.encode() == render_report(data).encode()


SMALL = """
import hashlib
from plainspoken.report import Interval, LatentScore, Measured, Provenance, ReportData, SiteReport, render_report
rows = tuple(
    Measured("s", c, f, o, None, Interval(2.0, 1.0, 3.0), None, Interval(r, r - 0.1, r + 0.1), None, None, None, 3, 30)
    for c, f, o, r in (("coder", None, None, 1.0), ("rewritten", 0.5, "best", 0.8), ("rewritten", 1.0, "best", 0.7))
)
scores = tuple(LatentScore(i, 0.01, i / 9, 0.5, 0.99, None) for i in range(9))
data = ReportData((SiteReport("s", 5.0, 9, 9, 9, rows, scores=scores),), None, Provenance("m", "c", None, 0, "run"))
print(hashlib.sha256(render_report(data).encode()).hexdigest())
"""


def test_the_bytes_do_not_depend_on_the_process_or_its_clock() -> None:
    source = str(Path(__file__).resolve().parents[2] / "src")
    digests = set()
    for seed in ("0", "1"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": source, "SOURCE_DATE_EPOCH": seed * 9}
        ran = subprocess.run([sys.executable, "-c", SMALL], env=environment, capture_output=True, text=True, check=True)
        digests.add(ran.stdout)
    assert len(digests) == 1


def test_what_is_not_defined_never_shows_as_a_number_or_a_name(provenance: Provenance) -> None:
    ce = Interval(2.0, 2.0, 2.0)
    rows = tuple(
        Measured("s", name, fraction, None, None, ce, None, None, None, None, None, 1, 10)
        for name, fraction in (("original", None), ("coder", None), ("rewritten", 1.0), ("shuffled", 1.0))
    )
    score = LatentScore(0, 0.0, None, None, None, None)
    empty = Example("d", "largest error", (), (), ())
    bare = SiteReport(
        "s", 0.0, 0, 1, 0, rows, scores=(score,), cards=(Card("best", score, "", 0, (empty,)),),
        failures=(FailureRow(0, "explain", "never fires"),),
    )  # fmt: skip
    page = render_report(ReportData((bare,), None, provenance))
    words = set(re.findall(r"[A-Za-z]+", " ".join(outline(page).text).lower()))
    assert not words & {"nan", "none", "inf", "undefined", "null", "true_", "dataclass"}
    assert "cannot be judged" in page


def test_a_run_of_one_document_is_drawn_without_bounds(data: ReportData) -> None:
    """Every figure, table and sentence of the page; with a dash in the place of the bounds."""

    def bare(thing: Any) -> Any:
        if isinstance(thing, Interval):
            return Interval(thing.value, None, None)
        if isinstance(thing, tuple):
            return tuple(map(bare, thing))
        if is_dataclass(thing) and not isinstance(thing, type):
            changed = {field.name: bare(getattr(thing, field.name)) for field in fields(thing)}
            return replace(thing, **(changed | ({"documents": 1} if isinstance(thing, Measured) else {})))
        return thing

    one = bare(data)
    page = render_report(replace(one, sites=(one.sites[0], one.sites[0])))
    text = re.sub(r"\s+", " ", " ".join(outline(page).text))
    assert "71% [–]" in text and "2.140 [–]" in text and "0.160 [–]" in text
    assert not set(re.findall(r"[A-Za-z]+", text)) & {"None", "nan"}
    assert not re.search(r"\[[−+\d.,]+, ", text), "no bound of what has none"
    assert "how sure that is cannot be told from one document" in text
    assert "without intervals" in text and "with 95% intervals over" not in text


def test_golden_facts_stand_on_the_page(page: str) -> None:
    text = re.sub(r"\s+", " ", " ".join(outline(page).text))
    for fact in (
        "71% [68, 74]",
        "−40% [−43, −37]",
        "2.140 [2.090, 2.190]",
        "the same 31,204 tokens of 127 documents",
        "best scored first",
        "plainspoken run --lm stories260K --site model.layers.2.mlp",
        "train 38 s , evaluate 1 min 11 s ; together 1 min 49 s",
        "ab" * 32,
        "loss −0.00040 [−0.00070, −0.00010] nats a token : better",
        "a quotation",
        "3 evaluate documents also stand in the fit text: dropped.",
        "correlation 0.900",
        "How to read this",
    ):
        assert fact in text or fact.replace(" ,", ",").replace(" ;", ";").replace(" :", ":") in text, fact


def test_text_in_a_drawing_keeps_its_digits(data: ReportData) -> None:
    far = Interval(3.0801, 3.03, 3.13)
    site = data.sites[0]
    rows = tuple(replace(row, ce=far) if row.condition == "shuffled" else row for row in site.conditions)
    page = render_report(replace(data, sites=(replace(site, conditions=rows),)))
    drawings = " ".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "shuffled: 3.080 at 100%" in drawings
    assert not re.search(r"#[0-9a-f]{6}", drawings), "a colour that does not follow the theme"


def test_many_latents_do_not_make_a_heavy_page(data: ReportData) -> None:
    scores = tuple(LatentScore(i, 1e-3, (i % 97) / 97, (i % 89) / 89, 1 - (i % 83) / 8300, None) for i in range(20_000))
    heavy = replace(data.sites[0], scores=scores)
    assert len(render_report(replace(data, sites=(heavy,))).encode()) < 500_000


def test_colours_can_be_told_apart_by_everyone() -> None:
    """WCAG AA: at least 4.5 to 1 for every text colour on both grounds, and for text on the strongest shades."""
    sheet = (resources.files("plainspoken.report") / "templates" / "style.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)
    assert len(blocks) == 2, "light and dark"
    for theme in (dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for block in blocks):
        for ground in ("paper", "raised"):
            for name in ("ink", "muted", "rewritten", "second", "third", "control", "truth"):
                assert contrast(rgb(theme[name]), rgb(theme[ground])) >= 4.5, (name, ground)
        for shade in ("truth-shade", "rewritten-shade"):
            full = tuple(int(part) for part in theme[shade].split())
            assert contrast(rgb(theme["ink"]), full) >= 4.5, shade


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: tuple[int, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_table_scrolls_within_itself(page: str) -> None:
    """A table that is wider than a narrow window would else take the whole page with it."""
    assert page.count("<table>") > 5
    boxes = re.findall(r'<div class="scroll" role="region" aria-label="[^"]+" tabindex="0">\s*<table>', page)
    assert len(boxes) == page.count("<table>")


def test_a_point_of_the_frontier_says_of_how_many_latents_it_speaks_and_what_it_lacks(data: ReportData) -> None:
    (site,) = data.sites
    first, *others = site.frontier
    few = replace(first, explained=4, latents=10, coverage=0.9, withheld="withheld: 10.0 % of the pairs got no answer")
    points = (few, *(replace(point, explained=9, latents=10, coverage=1.0) for point in others))
    page = render_report(replace(data, sites=(replace(site, frontier=points),)))
    assert "<td>4 of 10</td>" in page and page.count("<td>9 of 10</td>") == 2
    assert "incomplete: 90.0% answered; nothing is claimed by it" in page
    assert "Hollow: incomplete" in page and "the others put at 0: 15 words 4, 60 words 9, 240 words 9" in page
    before = render_report(data)
    assert before.count("<td>not recorded</td>") == 3 and "Hollow: incomplete" not in before
