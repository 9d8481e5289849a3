"""Losses under many conditions on the same tokens, in one pass over the text, summed up by document."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import log_softmax

from plainspoken.errors import ActivationError
from plainspoken.evaluate.conditions import Condition
from plainspoken.language.counted import counted
from plainspoken.lm import LanguageModel
from plainspoken.lm.hooks import capture, splice
from plainspoken.rewrite import Batch, Positions, Spans, Spliceable, Treated, Treatment, spans
from plainspoken.rewrite.replay import record, replay, with_output
from plainspoken.types import Rows, Site


@dataclass(frozen=True, eq=False)
class DocumentLosses:
    """Sums over the measured tokens of each document: nats, nats of KL(original ‖ condition), top-1 agreements."""

    nll: Float[np.ndarray, " documents"]
    kl: Float[np.ndarray, " documents"]
    agreed: Float[np.ndarray, " documents"]
    tokens: Float[np.ndarray, " documents"]

    @staticmethod
    def average(parts: Sequence["DocumentLosses"]) -> "DocumentLosses":
        """The mean over several draws of the same tokens."""
        mean = {name: np.mean([getattr(part, name) for part in parts], axis=0) for name in ("nll", "kl", "agreed")}
        return DocumentLosses(**mean, tokens=parts[0].tokens)


@torch.no_grad()
def measure(
    lm: LanguageModel,
    rows: Rows,
    materials: Mapping[str, Spliceable],
    conditions: Sequence[Condition],
    positions: Positions = "all",
    rows_per_batch: int = 16,
    progress: Callable[[int], object] | None = None,
) -> list[DocumentLosses]:
    """The losses of each condition. `progress` is told how many more (row, condition) pairs are done.

    Conditions that splice one site alone are run from that site on; several sites, from the first on, each reading the
    input that the splices before it leave. Rows are taken longest first and cut where the longest of a batch ends,
    which changes nothing: the model is causal and what is cut is padding. Raises ActivationError for a loss that is NaN
    or infinite, naming the document and the condition.
    """
    where = spans(rows.mask, positions)
    sums = np.zeros((len(conditions), 3, len(rows.keys)))
    tokens = np.zeros(len(rows.keys))
    for chosen, width in _batches(rows, rows_per_batch):
        here = Spans(where.spliced[chosen, :width], where.measured[chosen, :width])
        row = np.repeat(chosen, here.measured.sum(axis=1))
        document = rows.document[row]
        tokens += np.bincount(document, minlength=len(tokens))
        text = torch.from_numpy(rows.tokens[chosen, :width].astype(np.int64)).to(lm.device)
        read = torch.from_numpy(np.flatnonzero(here.measured)).to(lm.device)
        run = _Runs(lm, text, Batch(chosen, here.spliced), read, materials, conditions)
        yardstick = _Yardstick(run.original, text.flatten()[read + 1])
        _check_finite(yardstick.entropy, rows, row, "the model as it is")
        for i, condition in enumerate(conditions):
            for j, per_token in enumerate(yardstick.compare(run.logits(condition))):
                _check_finite(per_token, rows, row, _described(condition))
                sums[i, j] += np.bincount(document, per_token, minlength=len(tokens))
            if progress is not None:
                progress(len(chosen))
    return [DocumentLosses(nll, kl, agreed, tokens) for nll, kl, agreed in sums]


def _check_finite(per_token: Float[np.ndarray, " n"], rows: Rows, row: Int[np.ndarray, " n"], what: str) -> None:
    """Raises ActivationError unless what was measured at each token is finite; `row`: the row of each."""
    bad = np.flatnonzero(~np.isfinite(per_token))
    if not len(bad):
        return
    first = int(row[bad[0]])
    key = rows.keys[int(rows.document[first])]
    raise ActivationError(
        f"NaN or infinite loss of {what} in document '{key}' ({rows.part}, row {first}; {counted(len(bad), 'token')} "
        "in this batch); leave the document out, or set lm.dtype to float32"
    )


def _described(condition: Condition) -> str:
    share = "" if condition.fraction is None else f" with {condition.fraction:.1%} of the latents"
    return f"the condition '{condition.name}'{share} at {', '.join(condition.treatments) or 'no site'}"


def _batches(rows: Rows, rows_per_batch: int) -> Iterator[tuple[Int[np.ndarray, " b"], int]]:
    """(rows, width): the rows of a batch and the length of the longest."""
    length = rows.mask.shape[1] - rows.mask[:, ::-1].argmax(axis=1)
    order = np.argsort(-length, kind="stable")
    for low in range(0, len(order), rows_per_batch):
        chosen = order[low : low + rows_per_batch]
        yield chosen, int(length[chosen].max())


class _Yardstick:
    """The original model's next-token distributions at the measured positions, and what is read off beside them."""

    def __init__(self, logits: Float[Tensor, "n v"], target: Int[Tensor, " n"]) -> None:
        self._target = target.unsqueeze(1)
        # On a CPU the steps of a comparison stay in its cache; on a GPU, in its memory.
        self._at_once = max(1, (2**18 if logits.device.type == "cpu" else 2**27) // logits.shape[1])
        own = log_softmax(logits.float(), dim=1)
        self._p = own.exp()
        self._negentropy = (self._p * own).sum(dim=1)
        self._top = own.argmax(dim=1, keepdim=True)

    @property
    def entropy(self) -> Float[np.ndarray, " n"]:
        """The original model's entropy at each measured position: NaN where any of its logits is."""
        return -self._negentropy.double().cpu().numpy()

    def compare(self, logits: Float[Tensor, "n v"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(nll, KL(original ‖ these), whether the likeliest token is the same) at each measured position."""
        parts = [self._compare(logits[low : low + self._at_once], low) for low in range(0, len(logits), self._at_once)]
        nll, kl, agreed = (torch.cat(part).double().cpu().numpy() for part in zip(*parts, strict=True))
        return nll, kl, agreed

    def _compare(self, logits: Float[Tensor, "m v"], low: int) -> tuple[Tensor, Tensor, Tensor]:
        here = slice(low, low + len(logits))
        found = log_softmax(logits.float(), dim=1)
        nll = -found.gather(1, self._target[here]).squeeze(1)
        kl = self._negentropy[here] - (self._p[here] * found).sum(dim=1)
        # The largest value is found several times faster than where it stands.
        agreed = found.gather(1, self._top[here]).squeeze(1) == found.amax(dim=1)
        return nll, kl, agreed


class _Runs:
    """The model run on one batch of text: first as it is, keeping what the conditions share, then under any of them.

    `read`: the positions in the flattened [b t] whose logits are wanted; the model's head is run there alone.
    """

    def __init__(
        self,
        lm: LanguageModel,
        text: Int[Tensor, "b t"],
        batch: Batch,
        read: Int[Tensor, " n"],
        materials: Mapping[str, Spliceable],
        conditions: Sequence[Condition],
    ) -> None:
        self._lm, self._text, self._batch, self._read, self._materials = lm, text, batch, read, materials
        self._places = batch.places.to(text.device)
        sites = {m: materials[m].site for condition in conditions for m in condition.treatments}
        with ExitStack() as stack:
            recorded = {m: stack.enter_context(record(lm.model, site)) for m, site in sites.items()}
            seen = stack.enter_context(capture(lm, list(sites.values())))
            self.original = self._forward()
        self._treated = {m: self._treat(site, seen[m][0]) for m, site in sites.items()}
        self._y = {m: seen[m][1] for m in sites}
        self._outputs = {m: recorded[m][m] for m in sites}
        self._upstream = self._before_all(recorded)

    def logits(self, condition: Condition) -> Float[Tensor, "n v"]:
        """The model's logits at the wanted positions under the condition."""
        treatments = condition.treatments
        if not treatments:
            return self.original
        if len(treatments) == 1:
            ((module, treatment),) = treatments.items()
            y = self._spliced(self._y[module], self._treated[module].output(treatment))
            with replay(self._lm.model, self._upstream | {module: with_output(self._outputs[module], y)}):
                return self._forward()
        sites = {m: self._materials[m].site for m in treatments}
        functions = {sites[m]: partial(self._replaced, sites[m], t) for m, t in treatments.items()}
        with replay(self._lm.model, self._upstream), splice(self._lm, functions):
            return self._forward()

    def _before_all(self, recorded: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """What ran before the first site, and so is the same under every condition.

        Nothing, where the model does not come out the same by it: its layers have other ways to speak to one another.
        """
        if not recorded:
            return {}
        first = min(recorded, key=lambda module: len(recorded[module]))
        with replay(self._lm.model, recorded[first]):
            again = self._forward()
        same = torch.equal(again, self.original)
        return {path: output for path, output in recorded[first].items() if path != first} if same else {}

    def _replaced(
        self, site: Site, treatment: Treatment, x: Float[Tensor, "b t d_in"], y: Float[Tensor, "b t d_out"]
    ) -> Float[Tensor, "b t d_out"]:
        return self._spliced(y, self._treat(site, x).output(treatment))

    def _treat(self, site: Site, x: Float[Tensor, "b t d"]) -> Treated:
        material = self._materials[site.module]
        coder = material.coder
        mean = torch.from_numpy(material.mean).to(coder.W_dec)
        return Treated(coder, mean, self._batch, x.flatten(0, 1).index_select(0, self._places).to(coder.W_dec))

    def _spliced(self, y: Float[Tensor, "b t d"], output: Float[Tensor, "n d"]) -> Float[Tensor, "b t d"]:
        return y.flatten(0, 1).index_copy(0, self._places, output.to(y)).view(y.shape)

    def _forward(self) -> Float[Tensor, "n v"]:
        head = self._lm.model.get_output_embeddings()
        if head is None:
            return self._lm.model(input_ids=self._text, use_cache=False).logits.flatten(0, 1)[self._read]
        handle = head.register_forward_pre_hook(lambda module, args: args[0].flatten(0, 1)[self._read][None])
        try:
            return self._lm.model(input_ids=self._text, use_cache=False).logits[0]
        finally:
            handle.remove()
