"""The server that the costs of simulating are counted by: its prefix cache and its answers are what they claim."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from plainspoken.language.text import Text
from plainspoken.llm.prefixes import PrefixCache
from plainspoken.llm.requests import Reply
from plainspoken.simulators.json_levels import Wanted, read_levels
from plainspoken.simulators.structured import Listing, messages, messages_many
from plainspoken.types import Rows

prompts = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple), max_size=8)


def test_blocks_of_one_token_are_the_prefix_cache_of_the_estimate_and_longer_ones_have_no_more(load) -> None:
    blocks = load("knowing_server").Blocks

    @settings(max_examples=100)
    @given(prompts)
    def holds(prompts: list[tuple[int, ...]]) -> None:
        fine, coarse, estimate = blocks(1), blocks(4), PrefixCache()
        for ids in prompts:
            hits, fewer = fine.hits(ids), coarse.hits(ids)
            assert len(ids) - hits == estimate.computed([ids])
            assert fewer <= hits and fewer % 4 == 0

    holds()


def test_what_it_says_in_words_is_the_truth(load) -> None:
    server_module = load("knowing_server")
    tokens = np.array([[0, 1, 2, 3], [0, 2, 1, 4]], np.int32)
    rows = Rows(tokens, tokens > 0, np.arange(2), ("a", "b"), "evaluate")
    text = Text(rows, [b"", b" a", b"\n", b"\t", b"c\\"])
    level = np.random.default_rng(0).uniform(0, 9, (2, 4, 3))
    server = server_module.KnowingServer(truth=server_module.Truth(text, level), sentences={"x.": 0, "y z": 2})
    for row in (0, 1):
        listing = Listing.of(text, row, 4)
        (_, one) = messages(listing.text, "y z", "no other tokens than 2-3", True)
        (_, many) = messages_many(listing.text, ["y z", "x."], "all tokens", True)
        said = read_levels(Reply(server.words(one.content), "stop"), Wanted((2, 3)))
        np.testing.assert_array_equal(said.level, np.rint(level[row, 2:, 2]))
        wanted = Wanted((1, 2, 3) * 2, (1, 1, 1, 2, 2, 2), 2)
        said = read_levels(Reply(server.words(many.content), "stop"), wanted)
        np.testing.assert_array_equal(said.level, np.rint(level[row, 1:][:, [2, 0]]).T.ravel())
    assert json.loads(server.words("Name a cat.")) == {"answer": "kept"}
