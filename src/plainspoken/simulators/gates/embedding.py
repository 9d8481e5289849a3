"""The gate that reads any English: how like the last few tokens are to the words of the sentence.

Every word of a sentence is looked up as tokens of the model that is rewritten, in whose embeddings tokens that are used
alike lie close together. The likeness of a sentence to a token is that of its most similar word (as in late
interaction, ColBERT, arXiv 2004.12832), words that many sentences have in common counting less (idf). Tokens a little
before count, too, at 0.7 the likeness for each step back.

What such a gate passes and keeps is measured in every run, and in benchmarks/README.md. Sentence and context each
pooled to its mean passed more for the same.
"""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.language.text import Text
from plainspoken.lm.load import LanguageModel
from plainspoken.simulators.gates.foresight import Foresight, GateMeans, Judge

SHARES = (0.98, 0.95, 0.92, *np.linspace(0.9, 0.1, 17).round(2).tolist(), 0.07, 0.05, 0.03, 0.02, 0.01)
"""Step s is reached at so large a share of the reference's tokens: the SHARES[s - 1] most like the sentence."""
BACK, FADE = 5, 0.7
_LARGE = 2**27  # entries of a table of tokens and sentences: 512 MiB
_SAMPLE = 2048  # tokens of the reference that the shares are taken over
_WORD = re.compile(r"[^\s“”\"]+")


def open_embedding(means: GateMeans) -> Foresight:
    """Foresight from the embeddings of the model that is rewritten."""
    words = sentence_words(means)
    readable = np.bincount(words.latent, weights=words.weight, minlength=means.latents) > 0
    likeness = Likeness(words, means.latents, token_directions(means.lm()))
    text = np.flatnonzero(means.reference.rows.mask)
    sample = text[np.unique(np.linspace(0, len(text) - 1, min(_SAMPLE, len(text))).astype(np.int64))]
    cuts = np.quantile(likeness.over(means.reference)(sample), [1 - share for share in SHARES], axis=0)
    return Foresight(cuts.astype(np.float32), readable, likeness.over)


@dataclass(frozen=True, eq=False)
class Words:
    """The tokens of the sentences, in the order of their latents, and how much each of them counts."""

    latent: Int[np.ndarray, " n"]
    token: Int[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]


def sentence_words(means: GateMeans) -> Words:
    """The words as tokens, with and without a blank before them; weight 1 for a token of one sentence, 0 of all."""
    tokenizer = means.lm().tokenizer
    found: list[tuple[int, int]] = []
    for latent, sentence in sorted(means.sentences.items()):
        # What a quotation of controlled English writes out (`language.quote`) is what stands in the text.
        words = _WORD.findall(sentence.replace("␣", " ").replace("\\n", "\n").replace("\\start", ""))
        if words:
            spelled = tokenizer(words + [f" {word}" for word in words], add_special_tokens=False)["input_ids"]
            found += sorted({(latent, token) for ids in spelled for token in ids})
    latent, token = np.array(found, np.int64).reshape(-1, 2).T
    many, sentences = Counter(token.tolist()), len(np.unique(latent))
    if sentences < 2:
        return Words(latent, token, np.ones(len(token), np.float32))
    share = np.array([many[each] for each in token.tolist()]) / sentences
    return Words(latent, token, (-np.log(share) / np.log(sentences)).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Likeness:
    """max over a sentence's words w and steps back j of 0.7^j weight(w) cos(w, token at -j), never below 0."""

    words: Words
    latents: int
    direction: Float[np.ndarray, "vocabulary d"]

    def over(self, text: Text) -> Judge:
        """The likeness of every sentence at positions of one text."""
        rows, t = text.rows, text.rows.tokens.shape[1]
        known = np.unique(rows.tokens[rows.mask])
        table = self._table(known)
        place = np.where(rows.mask, np.searchsorted(known, rows.tokens), len(known)).ravel()

        def like(position: Int[np.ndarray, " p"]) -> Float[np.ndarray, "p latents"]:
            found = table[place[position]].astype(np.float32, copy=False)
            for back in range(1, BACK + 1):
                before = np.where(position % t >= back, place[position - back], len(known))
                here = table[before].astype(np.float32, copy=False)
                here *= np.float32(FADE**back)
                np.maximum(found, here, out=found)
            return found

        return like

    def _table(self, tokens: Int[np.ndarray, " v"]) -> Float[np.ndarray, "v_1 latents"]:
        """How like each token is to each sentence; the last row, of no token, is 0. Large: half precision."""
        shape = len(tokens) + 1, self.latents
        table = np.zeros(shape, np.float32 if np.prod(shape) <= _LARGE else np.float16)
        ends = np.searchsorted(self.words.latent, np.arange(self.latents + 1))
        for latent, (first, last) in enumerate(pairwise(ends.tolist())):
            if first < last:
                like = self.direction[tokens] @ self.direction[self.words.token[first:last]].T
                table[:-1, latent] = (like * self.words.weight[first:last]).max(axis=1).clip(min=0)
        return table


def token_directions(lm: LanguageModel) -> Float[np.ndarray, "vocabulary d"]:
    """Input embeddings of length 1, their common mean taken out: it is in all of them, and says nothing."""
    weight = cast(Tensor, lm.model.get_input_embeddings().weight).detach().float().cpu().numpy()
    centred = weight - weight.mean(axis=0)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
