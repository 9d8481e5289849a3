"""Documents to rows of tokens, and the one split into fit / explain / calibrate / evaluate."""

from plainspoken.corpus.document import Document
from plainspoken.corpus.pieces import Pieces
from plainspoken.corpus.rows import Bos, build_rows, require_part
from plainspoken.corpus.tokenize import tokenize

__all__ = ["Bos", "Document", "Pieces", "build_rows", "require_part", "tokenize"]
