"""What the names of a corpus and of a model stand for right now: where, and as a hash, since a text may change."""

import dataclasses
import hashlib
import os
from pathlib import Path

from plainspoken.config import Config, LlmServiceConfig
from plainspoken.corpus import source_path
from plainspoken.corpus.stdlib import standard_library_files
from plainspoken.pipeline.hub import hub_name
from plainspoken.store import sha256_file
from plainspoken.store.manifest import digest


def located(config: Config) -> Config:
    """The settings with the files and folders of models, corpora, coders and kept answers by their absolute paths.

    A run folder is used again from other working directories. What names no file or folder stays as it is. A coder
    keeps its path when it has gone, unless it may be one of the hub's.
    """
    lm, corpus, coder = config.lm, config.corpus, config.coder
    if coder.load is not None and hub_name(coder.load) is None:
        coder = dataclasses.replace(coder, load=os.path.abspath(os.path.expanduser(coder.load)))
    if lm.name != "pocket":
        lm = dataclasses.replace(lm, name=_absolute(lm.name, Path(lm.name).expanduser()))
    evaluate = corpus.eval_source and _absolute(corpus.eval_source, source_path(corpus.eval_source))
    source = _absolute(corpus.source, source_path(corpus.source))
    corpus = dataclasses.replace(corpus, source=source, eval_source=evaluate)
    explain, simulate = (
        dataclasses.replace(section, llm=_service_located(section.llm)) for section in (config.explain, config.simulate)
    )
    score = dataclasses.replace(
        config.score,
        llm=_service_located(config.score.llm),
        embedder=_absolute(config.score.embedder, Path(config.score.embedder).expanduser()),
    )
    return dataclasses.replace(
        config, lm=lm, corpus=corpus, coder=coder, explain=explain, score=score, simulate=simulate
    )


def _service_located(service: LlmServiceConfig) -> LlmServiceConfig:
    """A folder of kept answers need not be there yet; a server's name of its model is no folder."""
    tokenizer = service.tokenizer and _absolute(service.tokenizer, Path(service.tokenizer).expanduser())
    cache = service.cache and os.path.abspath(os.path.expanduser(service.cache))
    model = service.model
    if service.service == "local" and model != "pocket":
        model = _absolute(model, Path(model).expanduser())
    return dataclasses.replace(service, model=model, tokenizer=tokenizer, cache=cache)


def is_gone(source: str) -> bool:
    """Whether a source names a file or folder that is not there."""
    path = source_path(source)
    return path is not None and not path.exists()


def source_fingerprint(source: str) -> str:
    """Hash of the text behind a corpus source: every file's path and content.

    Of a hub corpus or the model's own samples the name is all there is to hash: the one is fixed by whoever publishes
    it, the other by the model and the seed.
    """
    if source == "stdlib":
        return digest([(key, sha256_file(path)) for key, path in standard_library_files()])
    path = source_path(source)
    if path is None:
        return hashlib.sha256(source.encode()).hexdigest()
    if path.is_dir():
        # What lies in a hidden folder (a version control's, say) is no text.
        files = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
        return digest([(p.relative_to(path).as_posix(), sha256_file(p)) for p in files])
    return sha256_file(path)


def _absolute(name: str, path: Path | None) -> str:
    return os.path.abspath(path) if path is not None and path.exists() else name


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
