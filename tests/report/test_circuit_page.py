"""The drawing of a circuit: whole, escaped, small, and alive in a real browser."""

import base64
import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from graphs_made import made_graphs
from plainspoken.circuits.files import save_graph
from plainspoken.circuits.graph import Graph, Node
from plainspoken.report.circuit_layout import FEW_TOKENS, GAP, HEIGHT, LINES, layout
from plainspoken.report.circuit_page import DRAWN, render_circuit, write_circuit_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: this test needs a real browser")
EVIL = "</script><img src=x onerror=alert(1)>“&\u2028\n"


def grown(tokens: int, nodes: int, edges: int, text: str | None = "a word") -> Graph:
    """A graph of about this size over four layers; all of it adds up to nothing in particular."""
    rng = np.random.default_rng(0)
    made = [Node("logit", position=tokens - 1, index=1, label=" self", value=2.0)]
    made += [Node("token", position=p, index=p, label=f" t{p}") for p in range(tokens)]
    made += [Node("ffn_bias", layer) for layer in range(4)]
    for i in range(nodes - len(made)):
        place, layer = int(tokens * rng.random() ** 0.3), i % 4
        made.append(Node("latent", layer, place, i, value=1.0, activation=1.0, text=text, fidelity=0.5))
    layers = np.array([-1 if n.kind == "token" else 9 if n.kind == "logit" else n.layer for n in made])
    ends = rng.integers(0, len(made), (40 * edges, 2))
    ends = np.unique(ends[(layers[ends[:, 0]] < layers[ends[:, 1]])], axis=0)
    ends = ends[[made[t].kind != "ffn_bias" for t in ends[:, 1]]]
    ends = rng.permutation(ends)[:edges]
    n, weight = len(made), rng.normal(size=len(ends)) ** 3
    zero = np.zeros(n)
    spelled = tuple(f" t{p}" for p in range(tokens))
    return Graph(
        tuple(made), ends[:, 0], ends[:, 1], weight, zero, zero, rng.random(n), rng.random(n), spelled,
        about={"fidelity_of": "correlation"},
    )  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Where two circuits part at a latent."""

    node: Node
    true: float
    simulated: float
    true_share: float
    simulated_share: float


def test_where_sentences_part_from_the_truth_is_told() -> None:
    graph = grown(3, 20, 30)
    page = render_circuit(graph, [Part(graph.nodes[-1], 1.0, 0.5, 0.25, 0.0)])
    row = page.split("part from the truth")[1].split("<tbody>")[1].split("</tr>")[0]
    assert re.findall(r"<td>(.*?)</td>", row) == ["1.000", "0.500", "25.0%", "0.0%"] and "a word" in row
    assert "part from the truth" not in render_circuit(graph)


class _Tags(HTMLParser):
    """Every tag with its attributes, and all that stands between tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_nothing_loads_and_everything_is_escaped() -> None:
    graph = grown(5, 30, 60, EVIL)
    graph = replace(graph, tokens=(EVIL,) * 5, about={EVIL: EVIL, "fidelity_of": EVIL}, supernodes=((EVIL, (1,)),))
    graph = graph.with_nodes(lambda n: replace(n, label=EVIL) if n.kind in ("token", "logit") else n)
    page = render_circuit(graph, [Part(graph.nodes[-1], 1.0, 0.5, 0.25, 0.0)], EVIL)
    tags = _Tags(page).tags
    assert not [tag for tag, _ in tags if tag in ("img", "link", "iframe", "object", "base", "form")]
    assert [a for tag, a in tags if tag == "script"] == [
        {"type": "application/json", "id": "data", "data-drawn": "60"},
        {},
    ]
    for _, attributes in tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "href", "action")]
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page)
    policy = next(a["content"] for tag, a in tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None and "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert data_of(page)["nodes"][-1][3] == EVIL


@pytest.mark.slow
@given(made_graphs())
@settings(max_examples=60)
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
def test_any_acyclic_graph_has_a_page_and_the_same_bytes(graph: Graph) -> None:
    up = graph.source > graph.target
    kept = replace(
        graph,
        source=graph.source[up],
        target=graph.target[up],
        weight=np.clip(np.nan_to_num(graph.weight[up]), -1e30, 1e30),
    )
    whole = kept.with_nodes(lambda n: replace(n, value=2.0, activation=2.0))
    page = render_circuit(whole)
    assert page == render_circuit(whole)
    assert len(data_of(page)["nodes"]) == len(graph.nodes) == page.count('role="button"')


def test_the_arrays_are_the_edges_strongest_first() -> None:
    graph = grown(8, 60, 200)
    data = data_of(render_circuit(graph))
    source, target = (np.frombuffer(base64.b64decode(data[side]), "<u2") for side in ("source", "target"))
    weight = np.frombuffer(base64.b64decode(data["weight"]), "<f4")
    level = np.frombuffer(base64.b64decode(data["level"]), np.uint8)
    had = zip(graph.source.tolist(), graph.target.tolist(), graph.weight.astype(np.float32).tolist(), strict=True)
    assert set(zip(source.tolist(), target.tolist(), weight.tolist(), strict=True)) == set(had)
    assert level[0] == 255 and (np.diff(level.astype(int)) <= 0).all()
    entering = np.bincount(graph.target, np.abs(graph.weight), len(graph.nodes))
    share = np.abs(weight) / entering[target] * graph.influence[target]
    assert (np.diff(share) <= 1e-6).all() and share[0] > 2 * share[-1]


@pytest.mark.parametrize("tokens", [3, FEW_TOKENS, 70])
def test_boxes_stand_in_their_cells_and_do_not_overlap(tokens: int) -> None:
    graph = grown(tokens, 400, 10)
    placed = layout(graph, graph.tokens)
    columns, rows = {c.key: c for c in placed.columns}, {r.key: r for r in placed.rows}
    taken = set()
    for node, box in zip(graph.nodes, placed.boxes, strict=True):
        column = columns[-1 if node.position is None else node.position]
        row = rows[-1 if node.kind == "token" else -2 if node.layer is None else node.layer]
        assert column.start <= box.x and box.x + box.width <= column.start + column.size
        assert row.start <= box.y and box.y + HEIGHT <= row.start + row.size
        taken.add((box.x, box.y))
    assert len(taken) == len(graph.nodes)
    for one, other in zip(placed.columns, placed.columns[1:], strict=False):
        assert one.start + one.size == other.start
    assert all(row.size <= LINES * (HEIGHT + GAP) + 20 for row in placed.rows)


def test_a_thousand_nodes_and_forty_thousand_edges_are_a_small_page(tmp_path: Path) -> None:
    graph = grown(70, 1000, 40_000, "a sentence of some words that says when the latent fires")
    assert len(graph.weight) == 40_000
    save_graph(graph, tmp_path / "graph.json")
    write_circuit_page(tmp_path / "graph.json", tmp_path / "graph.html")
    page = (tmp_path / "graph.html").read_text("utf-8")
    assert len(page.encode()) < 2_000_000
    bare = render_circuit(replace(graph, source=graph.source[:0], target=graph.target[:0], weight=graph.weight[:0]))
    assert (len(page) - len(bare)) / 40_000 < 16  # bytes an edge, the table and the panel's sums included
    assert f'data-drawn="{DRAWN}"' in page


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Fires at 9 on “self” after “def”; 2 on “x”.", "“self” after"),
        ("Fires at 8 on the token “(”.", "“(”."),
        ("Fires at 0 on the token that ends.", "the token that e"),
        ("Fires on brackets", "Fires on brackets"),
        ("Opens a method", "Opens a method"),
    ],
)
def test_a_box_tells_what_a_latent_fires_on_and_not_that_it_fires(text: str, label: str) -> None:
    page = render_circuit(grown(3, 20, 30, text))
    found = re.findall(r'class="n latent".*?<text[^>]*>\d+ (.*?)</text>', page)
    assert found and all(each.startswith(label) for each in found)
    assert page.count(f": {text} (0.50)</title>") == len(found), "whole in its tooltip"


def test_edges_are_beneath_boxes_that_let_nothing_through() -> None:
    page = render_circuit(grown(3, 20, 30))
    assert page.index('<g id="edges">') < page.index('<g id="hot">') < page.index('<g id="nodes">')
    rules = re.findall(r"^((?:[^{\n]*)\.n\b[^{\n]*)\{([^}\n]*)\}", page, re.MULTILINE)
    assert len(rules) > 8
    for chosen, style in rules:
        fill = re.search(r"fill: ([^;]*)", style)
        assert fill is None or "text" in chosen or "/" not in fill[1], (chosen, style)
        assert "text" in chosen or not re.search(r"(?<![-\w])opacity", style), (chosen, style)


def title(*roots: Node) -> str:
    """The title of a page of these roots, which one token feeds."""
    nodes = (*(replace(root, value=1.0) for root in roots), Node("token", position=0, index=1, label="def"))
    n = len(roots)
    zero = np.zeros(n + 1)
    ends = np.full(n, n), np.arange(n)
    page = render_circuit(Graph(nodes, *ends, np.ones(n), zero, zero, zero, zero, ("def", "(\n")))
    found = re.search(r"<title>What leads to (.*?)</title>", page)
    assert found is not None
    return html.unescape(found[1])


def test_the_title_says_what_is_explained_in_words() -> None:
    assert title(Node("direction", position=1, label="'self' − ')'")) == r"logit of 'self' − ')' after '(\n'"
    assert title(Node("direction", position=1, label="\"'\" − ' − '")) == r"""logit of "'" − ' − ' after '(\n'"""
    assert title(Node("direction", position=1, label="of my own")) == 'direction "of my own"@1'
    logits = [Node("logit", position=1, index=i, label=f" t{i}") for i in range(5)]
    assert title(logits[0]) == r"logit of ' t0' after '(\n'"
    assert title(*logits) == r"logits of ' t0', ' t1', ' t2' and 2 more after '(\n'"
    assert title(Node("latent", 0, 1, 354)) == r"L0/354 at '(\n' @1"


def test_the_title_says_when_activations_are_what_the_sentences_say() -> None:
    for simulated in (False, True):
        page = render_circuit(replace(grown(3, 20, 60), about={"settings": {"simulated": simulated}}))
        assert (", as the sentences have it</title>" in page) == simulated


def test_paths_name_latents_whose_sentences_stand_once_beneath() -> None:
    page = render_circuit(grown(3, 20, 60, "a word"))
    paths, beneath = page.split('<ol class="paths">')[1].split("</ol>")
    said = re.findall(r"<dt>(L\d/\d+) \(0\.50\)</dt><dd[^>]*>a word</dd>", beneath.split("</dl>")[0])
    assert said and len(said) == len(set(said)) and "a word" not in paths and all(f"{name}@" in paths for name in said)


def alive(page: str, folder: Path, place: str = "", width: int = 1200) -> str:
    """The page after its script has run."""
    assert CHROMIUM is not None
    (folder / "page.html").write_text(page, "utf-8")
    quiet = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'profile'}"]
    url = f"{(folder / 'page.html').as_uri()}{place}"
    command = [CHROMIUM, "--headless", *quiet, f"--window-size={width},900", "--dump-dom", url]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@browser
def test_a_browser_draws_the_edges_and_tells_of_a_node(tmp_path: Path) -> None:
    graph = grown(6, 40, 120, EVIL)
    shown = alive(render_circuit(graph), tmp_path, "#n0")
    assert 'data-ready="yes"' in shown and "<img" not in shown
    edges, hot = shown.split('id="edges"')[1].split('id="hot"')
    hot = hot.split('id="nodes"')[0]
    assert 120 > edges.count("C") >= DRAWN and 'class="minus"' in edges and 'class="plus"' in edges
    mine = graph.incoming(0)
    assert len(mine) and hot.count("<path") == len(mine)
    panel = shown.split('id="panel"')[1].split("</aside>")[0]
    assert f"Comes from ({len(mine)})" in panel and "explained" in panel and "logit:1@5" in panel
    assert panel.count("<button") == min(12, len(mine))


@browser
@pytest.mark.slow
def test_a_browser_draws_all_of_forty_thousand_edges(tmp_path: Path) -> None:
    page = render_circuit(grown(70, 1000, 40_000)).replace(f'data-drawn="{DRAWN}"', 'data-drawn="40000"')
    shown = alive(page, tmp_path, "#n0")
    assert 'data-ready="yes"' in shown and "40,000 of 40,000, all" in shown
    assert shown.split('id="edges"')[1].split('id="hot"')[0].count("<path") <= 12


WIDTH = """<script>document.title = "wide " + document.documentElement.scrollWidth</script></body>"""


ONE_LINE = """<script>{
  const text = new Range(), lines = (each) => { text.selectNodeContents(each); return text.getClientRects().length; };
  const numbers = [...document.querySelectorAll("#panel dd")];
  document.title = `lines ${numbers.length > 5} ${numbers.every((each) => lines(each) === 1)}`;
}</script></body>"""


@browser
@pytest.mark.parametrize("width", [500, 1200])
def test_what_is_known_of_a_node_stands_on_one_line_whatever_it_is_called(tmp_path: Path, width: int) -> None:
    graph = grown(6, 40, 120, "a word")
    latent = next(i for i, node in enumerate(graph.nodes) if node.kind == "latent" and i in graph.target)
    nodes = tuple(replace(node, fidelity=0.7) if i == latent else node for i, node in enumerate(graph.nodes))
    page = render_circuit(replace(graph, nodes=nodes, about={"fidelity_of": "a measure of very many words " * 4}))
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", ONE_LINE)
    found = re.search(r"<title>lines ([a-z ]+)", alive(page, tmp_path, f"#n{latent}", width))
    assert found is not None and found[1] == "true true"


@browser
def test_a_narrow_screen_scrolls_within_the_drawing_alone(tmp_path: Path) -> None:
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", render_circuit(grown(70, 300, 900)))
    framed = page.replace("<body", '<body style="width: 400px"').replace("</body>", WIDTH)
    wide = re.search(r"<title>wide (\d+)", alive(framed, tmp_path, width=500))
    assert wide is not None and int(wide[1]) <= 500


SEEN = """<script>{
  const at = (id) => document.getElementById(id).getBoundingClientRect();
  const frame = document.querySelector(".drawing"), {left, right} = frame.getBoundingClientRect(), root = at("n0");
  const seen = left + 52 <= root.left && root.right <= right;
  document.title = `opened ${frame.scrollLeft === 0} ${seen} ${document.getElementById("left").hidden}`;
}</script></body>"""


@browser
@pytest.mark.parametrize(("tokens", "opened"), [(3, "true true true"), (70, "false true false")])
def test_it_opens_at_the_left_unless_what_is_explained_would_not_be_seen(
    tmp_path: Path, tokens: int, opened: str
) -> None:
    page = render_circuit(grown(tokens, 12 if tokens == 3 else 300, 900))
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", SEEN)
    found = re.search(r"<title>opened ([a-z ]+)", alive(page, tmp_path))
    assert found is not None and found[1] == opened


def deep(roots: int = 10, tokens: int = 40, layers: int = 30) -> Graph:
    """A graph that no screen holds: many layers, many tokens, several roots at the last."""
    made = [Node("logit", position=tokens - 1, index=i, label=f" r{i}", value=1.0) for i in range(roots)]
    made += [Node("latent", layer, tokens - 1, i, value=1.0, activation=1.0) for layer in range(layers) for i in (1, 2)]
    made += [Node("token", position=p, index=p, label=f" t{p}") for p in range(tokens)]
    n, last = len(made), len(made) - 1
    zero = np.zeros(n)
    source = np.concatenate([np.full(last - tokens + 1, last), np.full(roots, roots)])
    target = np.concatenate([np.arange(last - tokens + 1), np.arange(roots)])
    spelled = tuple(f" t{p}" for p in range(tokens))
    return Graph(tuple(made), source, target, np.ones(len(source)), zero, zero, np.ones(n), np.ones(n), spelled)


SCROLLED = """<script>{
  const frame = document.querySelector(".drawing"), at = (each) => each.getBoundingClientRect();
  const edge = at(frame), whole = (each) => edge.left + 52 <= at(each).left && at(each).right <= edge.right;
  const roots = [...document.querySelectorAll(".n.logit")], opened = roots.every(whole);
  frame.scrollTop = 300;
  frame.scrollLeft = 700;
  const heads = document.querySelector(".heads"), names = document.querySelector(".names");
  const kept = Math.abs(at(heads).top - edge.top) < 2 && Math.abs(at(names).left - edge.left) < 2;
  const column = (of) => at(of.querySelectorAll(".head")[9]).left;
  const below = Math.abs(column(heads) - column(document.getElementById("grid"))) < 2;
  document.title = `deep ${edge.height <= innerHeight} ${frame.scrollTop === 300} ${opened} ${kept} ${below}`;
}</script></body>"""


@browser
def test_tokens_and_layers_stay_in_sight_and_it_opens_at_all_that_is_explained(tmp_path: Path) -> None:
    page = render_circuit(deep())
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", SCROLLED)
    found = re.search(r"<title>deep ([a-z ]+)", alive(page, tmp_path))
    assert found is not None and found[1] == "true true true true true"
