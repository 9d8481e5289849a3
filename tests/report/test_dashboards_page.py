"""The page of dashboards in a real browser: it finds, sorts and shows latents, and runs nothing that the data hold."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from dashboards_made import made_dashboards, without_wiring
from plainspoken.circuits.dashboard_file import Dashboards
from plainspoken.report.dashboards import render_dashboards, write_dashboards_page

ATTACK = "</script><script>document.title='run'</script><img src=http://evil.example/x onerror=document.title='run'>"
SENTENCES = {0: "9 at “ball”.", 5: "4 at “Ball” and more.", 7: f"a number {ATTACK}", 40: "zebras"}
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """A page as the browser left it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.found: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.found.append((tag, given))
        if tag not in {"meta", "input", "img", "br"}:
            self._open.append(given.get("id") or given.get("class") or tag)

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for name in set(self._open):
            self.texts.setdefault(name, []).append(data)

    def text(self, name: str) -> str:
        """All text within the elements of this id, class or tag."""
        return "".join(self.texts.get(name, []))

    @property
    def numbers(self) -> list[int]:
        """The latents of the list, in order."""
        links = [given["href"] for tag, given in self.found if tag == "a" and given["href"].startswith("#")]
        listed = [re.search(r"latent=(\d+)", link) for link in links[: len(self.texts.get("b", []))]]
        return [int(each[1]) for each in listed if each is not None]


@pytest.fixture(scope="module")
def dashboards() -> Dashboards:
    return made_dashboards(SENTENCES, {8: b"<b>\xe2\x82", 9: ATTACK.encode(), 10: b"\xff", 11: b""}, ATTACK)


@pytest.fixture(scope="module")
def page(dashboards: Dashboards) -> str:
    return render_dashboards(dashboards)


@pytest.fixture(scope="module")
def look(dashboards: Dashboards, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Page]:
    """The page in a browser at a fragment of its address."""
    if BROWSER is None:
        pytest.skip("no chromium here: the page's script is run by a real browser")
    folder = tmp_path_factory.mktemp("page")
    write_dashboards_page(dashboards, folder / "page.html")
    write_dashboards_page(without_wiring(dashboards), folder / "bare.html")

    def look(fragment: str = "", name: str = "page.html") -> Page:
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
        address = f"{(folder / name).as_uri()}#{fragment}"
        command = [BROWSER, *options, "--virtual-time-budget=5000", "--dump-dom", address]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        found = Page(done.stdout)
        assert ("html", {"lang": "en", "data-ready": "true"}) in found.found, "the script came to its end"
        return found

    return look


def test_the_page_is_the_same_for_the_same_and_fetches_nothing(dashboards: Dashboards, page: str) -> None:
    assert page == render_dashboards(dashboards)
    assert "default-src 'none'" in page
    assert not re.search(r"<(link|img|iframe|object|embed|form|base)\b", page)
    assert not re.search(r"""\b(src|srcset|on\w+)\s*=\s*["']""", page.split("<script")[0])


def test_data_cannot_end_the_element_that_they_stand_in(page: str) -> None:
    held = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert held is not None
    assert not re.search("[<>&]", held[1])
    data = json.loads(held[1])
    assert data["text"][7] == SENTENCES[7]
    assert page.count("<script") == 2


def test_data_on_the_page_are_those_of_the_dashboards(dashboards: Dashboards, page: str) -> None:
    held = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert held is not None
    data = json.loads(held[1])
    assert (
        [sum(bins) for bins in data["histogram"]] == data["firings"] == dashboards.activity.statistics.firings.tolist()
    )
    assert data["scores"]["correlation"] == [0.5 if latent in SENTENCES else None for latent in range(48)]
    for latent in range(48):
        wanted = dashboards.activity.examples.of(latent)[::-1]
        assert len(wanted) == len(data["examples"][latent])
        for example, (band, document, row, start, cells, fires) in zip(wanted, data["examples"][latent], strict=True):
            assert (band, row, start) == (example.quantile, example.row, example.start)
            assert data["documents"][document] == dashboards.about.documents[row // 10]
            if not {8, 10} & set(example.tokens.tolist()):  # those spell no whole character
                assert fires[::2] == [i for i, value in enumerate(example.values) if value > 0]
                assert fires[1::2] == [float(f"{value:.4g}") for value in example.values.tolist() if value > 0]
                plain = [(i, token) for i, token in enumerate(example.tokens.tolist()) if token not in (9, 11)]
                assert all(data["cells"][cells[i]] == f"t{token}" for i, token in plain)


def test_the_strongest_windows_on_the_page_hold_each_latents_maximum(dashboards: Dashboards, page: str) -> None:
    held = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert held is not None
    data = json.loads(held[1])
    assert dashboards.strongest_document is not None
    for latent, windows in enumerate(data["strongest"]):
        assert (len(windows) > 0) == (data["firings"][latent] > 0)
        if windows:
            assert max(windows[0][5][1::2]) == data["maximum"][latent]
            assert all(data["documents"][each[1]] == dashboards.about.documents[each[2] // 10] for each in windows)
    bare = render_dashboards(
        replace(dashboards, activity=replace(dashboards.activity, strongest=None), strongest_document=None)
    )
    assert '"strongest":[]' in bare.replace(" ", "")


def test_a_fragment_shows_a_latent_whole(look: Callable[..., Page], dashboards: Dashboards) -> None:
    found = look("latent=12")
    statistics = dashboards.activity.statistics
    assert found.text("h2") == "Latent 12"
    assert f"{statistics.firings[12]}" in found.text("facts")
    for told in (
        "Promotes",
        "Suppresses",
        "Excited by",
        "Sources",
        "Targets",
        "Strongest windows",
        "Band 3 of 3, the highest",
    ):
        assert told in found.text("detail")
    shaded = [given for tag, given in found.found if tag == "span" and "--a" in given.get("style", "")]
    strongest = dashboards.activity.strongest
    assert strongest is not None
    shown = (*strongest.of(12), *dashboards.activity.examples.of(12))
    fires = sum(int((example.values > 0).sum()) for example in shown)
    text = found.text("detail")
    assert text.index("Strongest windows") < text.index("Band 3 of 3") < text.index("Band 1 of 3, the lowest")
    assert "Strongest of" not in text, "what is drawn at random of a band is not its strongest"
    assert 0 < len(shaded) <= fires
    assert all(re.fullmatch(r"[\d.e-]+", given["title"]) for given in shaded)
    bars = [given for tag, given in found.found if tag == "rect"]
    assert len(bars) == 5
    current = [given for tag, given in found.found if tag == "a" and "aria-current" in given]
    assert [given["href"] for given in current] == ["#latent=12"]


@pytest.mark.slow
def test_a_search_filters_by_sentence_whatever_its_case_and_by_number(look: Callable[..., Page]) -> None:
    assert look().numbers == list(range(48))
    found = look("search=ball")
    assert found.numbers == [0, 5]
    assert "2 of 48 latents" in found.text("count")
    assert found.text("h2") == "Latent 0", "the first that fits is shown"
    assert look("search=40").numbers == [40]
    assert look("search=nothing%20like%20it").numbers == []


@pytest.mark.slow
def test_latents_sort_by_rate_and_by_sentence(look: Callable[..., Page], dashboards: Dashboards) -> None:
    firings = dashboards.activity.statistics.firings
    by_rate = look("sort=rate").numbers
    assert sorted(by_rate) == list(range(48))
    assert [firings[latent] for latent in by_rate] == sorted(firings, reverse=True)
    assert look("sort=text").numbers[:4] == sorted(SENTENCES, key=lambda latent: SENTENCES[latent].lower())


def test_what_the_data_hold_is_shown_and_never_run(look: Callable[..., Page]) -> None:
    found = look("latent=7")
    assert ATTACK in found.text("sentence")
    assert found.text("title").startswith("gpt_neox.layers.1.mlp: 48 latents of random gpt_neox"), "and no title 'run'"
    assert not [tag for tag, _ in found.found if tag == "img"]
    assert [tag for tag, _ in found.found].count("script") == 2


@pytest.mark.slow
def test_silent_and_unknown_latents_are_told_as_such(look: Callable[..., Page]) -> None:
    silent = look("latent=3")
    assert "never" in silent.text("facts")
    assert not [tag for tag, _ in silent.found if tag == "svg"]
    assert "There is no such latent: they are numbered 0 to 47." in look("latent=48").text("detail")
    assert "There is no such latent" in look("latent=%3Cimg%3E").text("detail")


@pytest.mark.slow
def test_without_weights_and_scores_the_rest_is_shown(look: Callable[..., Page]) -> None:
    found = look("latent=12", "bare.html")
    assert "Band 3 of 3, the highest" in found.text("detail")
    assert "Promotes" not in found.text("detail")
