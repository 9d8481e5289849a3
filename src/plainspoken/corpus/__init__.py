"""Documents to rows of tokens, and the one split into fit / explain / calibrate / evaluate."""

from plainspoken.corpus.document import Document
from plainspoken.corpus.parts import build_parts, split_corpus
from plainspoken.corpus.pieces import Pieces
from plainspoken.corpus.rows import Bos, build_rows, require_part, spread
from plainspoken.corpus.sources import read_documents, require_source, source_path, token_documents
from plainspoken.corpus.tokenize import tokenize

__all__ = [
    "Bos",
    "Document",
    "Pieces",
    "build_parts",
    "build_rows",
    "read_documents",
    "require_part",
    "require_source",
    "source_path",
    "split_corpus",
    "spread",
    "token_documents",
    "tokenize",
]
