"""Running a model on from a site: what ran before is not run again, and the model is left as it was."""

import pytest
import torch

from plainspoken.lm import resolve_sites
from plainspoken.rewrite.replay import record, replay, with_output

TEXT = torch.tensor([[0, 5, 9, 2, 40, 7]])


@pytest.mark.parametrize("family", ["neox", "llama"])
@pytest.mark.parametrize("pattern", ["*.layers.1.mlp", "*.layers.1"])
def test_a_replay_runs_nothing_before_the_site_and_gives_the_same_logits(request, family, pattern):
    lm = request.getfixturevalue(family)
    (site,) = resolve_sites(lm, pattern)
    with record(lm.model, site) as outputs:
        expected = lm.model(TEXT, use_cache=False).logits
    assert list(outputs)[-1] == site.module
    layers = site.module.split(".layers.")[0] + ".layers.0"
    assert layers in outputs
    run = []
    first = lm.model.get_submodule(layers)
    hooks = [child.register_forward_hook(lambda *_: run.append(1)) for child in first.children()]
    with replay(lm.model, outputs):
        again = lm.model(TEXT, use_cache=False).logits
    assert not run and torch.equal(again, expected)
    assert torch.equal(lm.model(TEXT, use_cache=False).logits, expected) and run
    for hook in hooks:
        hook.remove()


def test_a_changed_output_changes_what_comes_after_and_nothing_else(neox):
    (site,) = resolve_sites(neox, "gpt_neox.layers.0.mlp")
    with record(neox.model, site) as outputs:
        expected = neox.model(TEXT, use_cache=False).logits
    y = outputs[site.module].clone()
    y[0, 3] += 1
    with replay(neox.model, outputs | {site.module: with_output(outputs[site.module], y)}):
        found = neox.model(TEXT, use_cache=False).logits
    assert torch.equal(found[:, :3], expected[:, :3]) and not torch.allclose(found[:, 3], expected[:, 3])


def test_the_model_is_left_as_it_was_after_any_exception(neox):
    (site,) = resolve_sites(neox, "gpt_neox.layers.1.mlp")
    expected = neox.model(TEXT, use_cache=False).logits
    with record(neox.model, site) as outputs:
        neox.model(TEXT, use_cache=False)
    with pytest.raises(RuntimeError, match="halfway"), replay(neox.model, {**outputs, site.module: torch.zeros(1)}):
        raise RuntimeError("halfway")
    assert torch.equal(neox.model(TEXT, use_cache=False).logits, expected)
    assert "forward" not in neox.model.get_submodule(site.module).__dict__


def test_a_tuple_keeps_what_stands_beside_the_hidden_state():
    y = torch.ones(1, 2, 3)
    assert with_output(torch.zeros(2), y) is y
    assert with_output((torch.zeros(2), "weights"), y) == (y, "weights")
