"""Corpus: documents read, split into the four parts, cut into rows of tokens."""

import warnings
from collections.abc import Iterable, Iterator, Sequence

from plainspoken.config import CorpusConfig
from plainspoken.corpus import Document, build_parts, read_documents, require_source
from plainspoken.corpus.apart import divide
from plainspoken.errors import CorpusWarning
from plainspoken.lm import parse_self, require_samples, self_documents
from plainspoken.pipeline.shelves import save_rows
from plainspoken.pipeline.sources import is_gone
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.workplace import SOURCES, Workplace
from plainspoken.types import Part, Rows

_CHARACTERS_PER_TOKEN = 6
"""How much of a hub corpus, which may have no end, is read for a token that is asked for."""


def check(workplace: Workplace) -> None:
    """CorpusError where a text that is still to be read is not there; one that was read may have gone since."""
    unread = workplace.folder(Unit("corpus")).manifest() is None
    for setting, source in _read_here(workplace):
        if unread or (is_gone(source) and not workplace.is_of(setting, source)):
            require_source(source)


def reaches(workplace: Workplace) -> None:
    """CorpusError where a text that is to be read, or to be read anew, is not there."""
    for _, source in _read_here(workplace):
        require_source(source)


def _read_here(workplace: Workplace) -> Iterator[tuple[str, str]]:
    """(setting, source) of the texts that are not sampled from the model."""
    config = workplace.config.corpus
    for setting, source in zip(SOURCES, (config.source, config.eval_source), strict=True):
        if source is not None and not source.startswith("self:"):
            yield setting, source


def needs(workplace: Workplace) -> None:
    """CorpusError where the text is not there, or cannot be sampled from this model."""
    for source in (workplace.config.corpus.source, workplace.config.corpus.eval_source):
        if source is not None and source.startswith("self:"):
            require_samples(workplace.lm, source)
        elif source is not None:
            require_source(source)


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes PART.safetensors and PART.json for each of the four parts."""
    config, lm = workplace.config.corpus, workplace.lm
    documents = _documents(workplace, config.source, 0)
    evaluate = None if config.eval_source is None else _documents(workplace, config.eval_source, 1)
    with warnings.catch_warnings(record=True) as caught, workplace.progress.track("reading the corpus", None):
        warnings.simplefilter("always", CorpusWarning)
        parts = build_parts(
            documents,
            lm.tokenizer,
            context=min(config.context, lm.context),
            evaluate_documents=evaluate,
            bos=config.bos,
            max_tokens=_caps(config),
            rows_per_document={"evaluate": config.rows_per_document},
            seed=workplace.config.seed,
            vocabulary=lm.vocabulary,
        )
    if "simulate" in workplace.stage_names:
        # Scored on some calibrate documents, calibrated on others: better refused now than when all is trained.
        divide(parts["calibrate"], workplace.config.score.share, "score.share")
    told = [str(warning.message) for warning in caught if issubclass(warning.category, CorpusWarning)]
    for message in told:
        workplace.progress.warn(message)
    for rows in parts.values():
        save_rows(workplace.path("corpus"), rows)
    yield Outcome(units[0], {"context": min(config.context, lm.context), **_counts(parts.values()), "warnings": told})


def _caps(config: CorpusConfig) -> dict[Part, int]:
    return {
        "fit": config.fit_tokens,
        "explain": config.explain_tokens,
        "calibrate": config.calibrate_tokens,
        "evaluate": config.evaluate_tokens,
    }


def _counts(parts: Iterable[Rows]) -> dict[str, dict[str, int]]:
    return {
        rows.part: {"documents": len(rows.keys), "rows": len(rows.tokens), "tokens": rows.token_count} for rows in parts
    }


def _documents(workplace: Workplace, source: str, stream: int) -> Iterable[Document]:
    """The documents of a source; `stream` tells apart what the model samples for evaluation from the rest."""
    if not source.startswith("self:"):
        caps = _caps(workplace.config.corpus)
        # A part that may read everything makes the corpus be read to its end.
        wanted = 0 if 0 in caps.values() else sum(caps.values()) * 2 * _CHARACTERS_PER_TOKEN
        return read_documents(source, workplace.config.corpus.text_field, wanted)
    rows, _ = parse_self(source)
    with workplace.progress.track("sampling from the model", rows) as advance:
        return list(self_documents(workplace.lm, source, 2 * workplace.config.seed + stream, advance))
