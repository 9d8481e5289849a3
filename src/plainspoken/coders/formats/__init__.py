"""Checkpoint formats: a new one is one file with a `CheckpointFormat` and one line here."""

from plainspoken.coders.formats.dictionary_learning import DICTIONARY_LEARNING
from plainspoken.coders.formats.format import CheckpointFormat
from plainspoken.coders.formats.gemma_scope import GEMMA_SCOPE
from plainspoken.coders.formats.gemma_scope_2 import GEMMA_SCOPE_2
from plainspoken.coders.formats.own import OWN
from plainspoken.coders.formats.saelens import SAELENS
from plainspoken.coders.formats.sparsify import SPARSIFY
from plainspoken.coders.formats.transcoder_circuits import TRANSCODER_CIRCUITS

FORMATS: dict[str, CheckpointFormat] = {
    each.name: each
    for each in (OWN, SPARSIFY, SAELENS, DICTIONARY_LEARNING, GEMMA_SCOPE, GEMMA_SCOPE_2, TRANSCODER_CIRCUITS)
}
