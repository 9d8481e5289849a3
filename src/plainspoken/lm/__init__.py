"""Language models: load one, name a site in it, read and splice it, sample from it."""

from plainspoken.lm.draw import draw
from plainspoken.lm.hooks import Splice, capture, splice
from plainspoken.lm.load import LanguageModel, load_lm, pocket_folder, wrap_lm
from plainspoken.lm.loss import nll_of_logits, token_nll
from plainspoken.lm.sample import parse_self, require_samples, sample_rows, self_documents
from plainspoken.lm.site import candidate_sites, reconstructed, resolve_sites

__all__ = [
    "LanguageModel",
    "Splice",
    "candidate_sites",
    "capture",
    "draw",
    "load_lm",
    "nll_of_logits",
    "parse_self",
    "pocket_folder",
    "reconstructed",
    "require_samples",
    "resolve_sites",
    "sample_rows",
    "self_documents",
    "splice",
    "token_nll",
    "wrap_lm",
]
