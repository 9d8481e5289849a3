"""Random graphs that hold all that a graph may hold, and equality to the last bit."""

from dataclasses import fields

import numpy as np
from hypothesis import strategies as st

from plainspoken.circuits.graph import Graph, Node

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
FINITE = st.floats(-1e6, 1e6)
SOME = st.none() | FLOATS
TEXT = st.text(st.characters() | st.sampled_from("<>&\"'\n\t \ud800\u2028é好🙂"), max_size=12)
SMALL = st.integers(0, 5)


@st.composite
def made_nodes(draw: st.DrawFn) -> tuple[Node, ...]:
    """Up to a dozen nodes of every kind with ids of their own."""
    more = {"value": SOME, "activation": SOME, "text": st.none() | TEXT, "fidelity": SOME}
    node = st.one_of(
        st.builds(Node, kind=st.just("token"), position=SMALL, index=SMALL, label=TEXT),
        st.builds(Node, kind=st.just("position"), position=SMALL),
        st.builds(Node, kind=st.sampled_from(["attention_bias", "ffn_bias"]), layer=SMALL),
        st.builds(Node, kind=st.sampled_from(["error", "skip"]), layer=SMALL, position=SMALL),
        st.builds(Node, kind=st.just("latent"), layer=SMALL, position=SMALL, index=SMALL, **more),
        st.builds(Node, kind=st.just("head"), layer=SMALL, position=SMALL, index=SMALL, reads=SMALL, value=SOME),
        st.builds(Node, kind=st.just("logit"), position=SMALL, index=SMALL, label=TEXT, value=SOME),
        st.builds(Node, kind=st.just("direction"), position=SMALL, label=TEXT, value=SOME),
    )
    return tuple(draw(st.lists(node, max_size=12, unique_by=lambda n: n.id)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def made_graphs(draw: st.DrawFn) -> Graph:
    """A graph that is well formed and adds up to nothing in particular."""
    nodes = draw(made_nodes())
    n, ends = len(nodes), st.integers(0, max(0, len(nodes) - 1))
    edges = draw(st.lists(st.tuples(ends, ends, FLOATS), max_size=20 if nodes else 0))
    whole, real = draw(st.sampled_from([np.int32, np.int64])), draw(st.sampled_from([np.float32, np.float64]))
    with np.errstate(over="ignore"):
        by_node = [np.array(draw(st.lists(FLOATS, min_size=n, max_size=n)), real) for _ in range(4)]
        weight = np.array([w for _, _, w in edges], real)
    members = st.lists(ends, max_size=3).map(tuple) if nodes else st.just(())
    return Graph(
        nodes,
        np.array([s for s, _, _ in edges], whole),
        np.array([t for _, t, _ in edges], whole),
        weight,
        *by_node,
        tokens=tuple(draw(st.lists(TEXT, max_size=6))),
        unit=draw(st.sampled_from(["own", "root"])),
        about=draw(st.dictionaries(TEXT, JSON, max_size=3)),
        supernodes=tuple(draw(st.lists(st.tuples(TEXT, members), max_size=2))),
    )


def same(one: Graph, other: Graph) -> bool:
    """Whether two graphs are one, their numbers by their bits."""
    for each in fields(Graph):
        a, b = getattr(one, each.name), getattr(other, each.name)
        if isinstance(a, np.ndarray):
            if a.dtype != b.dtype or a.tobytes() != b.tobytes():
                return False
        elif repr(a) != repr(b):
            return False
    return True
