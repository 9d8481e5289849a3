"""Many levels from one prompt are those of its prefixes, each asked singly; what is not asked is not sent."""

from dataclasses import replace

import numpy as np
import pytest

from plainspoken.config import SimulateConfig
from plainspoken.errors import ConfigError
from plainspoken.language.text import Text
from plainspoken.llm import AtPositions, NextToken, Odds
from plainspoken.llm.open import Llm
from plainspoken.simulators import SimulateMeans, simulator_named
from plainspoken.simulators.levels import expected_levels
from plainspoken.types import Pairs, Simulation

SENTENCES = {0: "Words for people.", 2: "Fires at 7 on “her”; 2 on “to her”.", 3: "The word\nthat ends a line."}
LATENTS = 4
ASKING = ("last-token", "all-at-once", "batched")


def simulate(llm: Llm, name: str, text: Text, asked=None, only=None, **settings) -> Simulation:
    config = SimulateConfig(simulator=name, least_mass=1e-9, **settings)
    opened = simulator_named(name).opens(SimulateMeans(config, 0, llm))
    found, failures = opened(SENTENCES, LATENTS, text, asked, only)
    assert not failures, failures
    return found


def dense(found: Simulation) -> np.ndarray:
    out = np.zeros((found.rows * found.t, found.latents))
    out[found.position, found.latent] = found.level
    return out


def sent(llm: Llm, monkeypatch: pytest.MonkeyPatch) -> list:
    """Every request that goes over the wire from now on."""
    seen, send = [], llm.asker.wire.send

    async def watch(request):
        seen.append(request)
        return await send(request)

    monkeypatch.setattr(llm.asker.wire, "send", watch)
    return seen


@pytest.mark.parametrize("name", ASKING)
def test_every_level_is_that_of_its_own_prefix_asked_alone(reader: Llm, passages: Text, name: str, monkeypatch):
    opened = simulator_named(name).opens(SimulateMeans(SimulateConfig(least_mass=1e-9, batch=2), 0, reader))
    seen = sent(reader, monkeypatch)
    found, _ = opened(SENTENCES, LATENTS, passages)
    levels = [level for request in list(seen) for level in one_by_one(reader, request)]
    in_batches = (found.latent, found.position, found.latent > 2)  # of latents 0 and 2, and of 3
    told = np.lexsort(in_batches if name == "batched" else (found.position, found.latent))
    assert len(levels) == 3 * int(passages.rows.mask.sum())
    np.testing.assert_allclose(found.level[told], levels, atol=1e-4)


def one_by_one(llm: Llm, request: NextToken | AtPositions) -> list[float]:
    """The levels of a request, each prefix a request of its own."""
    prefixes = (
        request.prompts if isinstance(request, NextToken) else [request.prompt[: p + 1] for p in request.positions]
    )
    levels = []
    for prefix in prefixes:
        (answer,) = llm.asker.ask([NextToken((prefix,), request.answers)])
        assert isinstance(answer, Odds)
        levels.append(float(expected_levels(answer.logprob, 0.0).level[0]))
    return levels


@pytest.mark.parametrize("name", ["all-at-once", "batched"])
def test_strategies_agree(reader: Llm, passages: Text, name: str):
    ways = [dense(simulate(reader, name, passages, strategy=way)) for way in ("in-process", "fan-out", "echo", "auto")]
    assert len(np.unique(ways[0])) > 20
    for way in ways[1:]:
        np.testing.assert_allclose(way, ways[0], atol=1e-4)


def test_a_prompt_without_a_partner_says_the_same_of_all_at_once(reader: Llm, passages: Text):
    """Levels of all-at-once rest on the text above, not on what else was asked."""
    whole = dense(simulate(reader, "all-at-once", passages))
    few = np.zeros_like(passages.rows.mask)
    few[0, 4] = few[2, 1] = True
    part = dense(simulate(reader, "all-at-once", passages, few))
    np.testing.assert_allclose(part[few.ravel()], whole[few.ravel()], atol=1e-4)
    assert not part[~few.ravel()].any()


def test_a_batchs_explanations_and_the_text_before_the_newest_token_are_not_computed_again(
    reader: Llm, passages: Text, monkeypatch: pytest.MonkeyPatch
):
    seen = sent(reader, monkeypatch)
    simulate(reader, "batched", passages, batch=2)
    tables = [request for request in seen if isinstance(request, AtPositions) and len(request.prompt) > 100]
    tokens, lines = int(passages.rows.mask.sum()), 3
    assert len(tables) == 2 * tokens  # two batches, of two and of one
    spent = reader.asker.spent()["simulate"]
    computed = spent.prompt_tokens - spent.cached_tokens
    first_of_batch = sum(len(tables[at].prompt) for at in (0, tokens))
    # The newest token and two line breaks, `Last token: <<x>>`, the template, the table's head; and the lines.
    assert computed <= first_of_batch + 2 * tokens * 35 + lines * tokens * 3


@pytest.mark.parametrize("name", ASKING)
def test_only_what_is_asked_is_sent(reader: Llm, passages: Text, name: str, monkeypatch):
    few = np.zeros_like(passages.rows.mask)
    few[0, [2, 4]] = few[2, 0] = True  # the last is BOS: no text
    only = Pairs(np.array([2, 2, 3, 4, 14]), np.array([0, 1, 0, 0, 0]))
    opened = simulator_named(name).opens(SimulateMeans(SimulateConfig(least_mass=1e-9), 0, reader))
    seen = sent(reader, monkeypatch)
    found, failures = opened(SENTENCES, LATENTS, passages, few, only)
    assert not failures
    # Latent 1 has no sentence, token 3 is not asked about, and row 1 is not asked about at all.
    assert list(zip(found.position.tolist(), found.latent.tolist(), strict=True)) == [(2, 0), (4, 0)]
    assert found.asked is few
    assert len(seen) == (1 if name == "all-at-once" else 2)
    if name == "all-at-once":
        (request,) = seen
        assert isinstance(request, AtPositions) and len(request.positions) == 2
        assert request.positions[-1] == len(request.prompt) - 1  # the text ends at the last token asked about


@pytest.mark.parametrize("name", ASKING)
def test_the_explanation_and_the_text_alone_decide(reader: Llm, passages: Text, name: str):
    """What a latent is numbered changes nothing."""
    config = SimulateConfig(least_mass=1e-9)
    opened = simulator_named(name).opens(SimulateMeans(config, 0, reader))
    one, _ = opened({0: "Words for people."}, 1, passages)
    other, _ = opened({5: "Words for people."}, 7, passages)
    np.testing.assert_allclose(dense(one)[:, 0], dense(other)[:, 5], atol=1e-6)


def test_in_process_is_refused_where_the_model_is_a_servers(reader: Llm):
    config = SimulateConfig(strategy="in-process")
    config = replace(config, llm=replace(config.llm, service="openai"))
    with pytest.raises(ConfigError, match="fan-out"):
        simulator_named("all-at-once").opens(SimulateMeans(config, 0, reader))


def test_what_does_not_fit_is_missing_and_the_rest_is_answered(reader: Llm, passages: Text):
    opened = simulator_named("all-at-once").opens(SimulateMeans(SimulateConfig(least_mass=1e-9), 0, reader))
    whole, _ = opened({0: "People."}, 1, passages)
    longest = max(len(r.prompt) for r in _tables(reader, passages))
    short = replace(reader, context=longest - 3)
    found, (failure,) = simulator_named("all-at-once").opens(SimulateMeans(SimulateConfig(least_mass=1e-9), 0, short))(
        {0: "People."}, 1, passages
    )
    assert failure.kind == "beyond context" and 0 < len(found.missing_position) < len(whole.level) / 2
    answered = np.isin(whole.position, found.position)
    np.testing.assert_array_equal(whole.position[~answered], found.missing_position)
    np.testing.assert_allclose(whole.level[answered], found.level, atol=1e-4)


def _tables(llm: Llm, text: Text) -> list[AtPositions]:
    from plainspoken.simulators.all_at_once import HEADER, messages
    from plainspoken.simulators.at_once import Table
    from plainspoken.simulators.passages import on_a_line

    table = Table.of(llm.tokens, HEADER)
    prefix = llm.tokens.chat_prefix(messages("People."))
    rows = text.rows
    found = []
    for tokens, mask in zip(rows.tokens, rows.mask, strict=True):
        labels = [llm.tokens.encode(on_a_line(text.pieces[token])) for token in tokens[mask].tolist()]
        prompt, places = table.write(prefix, labels)
        found.append(AtPositions(prompt, tuple(places.tolist()), table.digits))
    return found
