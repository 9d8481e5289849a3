"""What each token adds to the text, in bytes: the bridge from tokens to conditions on the text.

Concatenating the pieces of a tokenized text gives the text's UTF-8 bytes, as the tokenizer normalises it (some apply
Unicode NFC) and with the one leading space that SentencePiece tokenizers put before a text. A token may hold part of a
character: pieces are bytes, and only a whole text is decoded.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64, Integer

from plainspoken.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase
else:  # transformers takes half a second to import: only those who load a model wait for it
    PreTrainedTokenizerBase = object

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# Steps that act on a whole text, or only between tokens: they change no token's own bytes.
_INERT = {"Fuse", "Strip", "ByteFallback"}
_WHITESPACE_DROPPED = {"Whitespace", "WhitespaceSplit", "BertPreTokenizer"}


@dataclass(frozen=True, eq=False)
class Pieces:
    """`table[token]`: the bytes that a token adds to the text; empty for special tokens and for ids without a token."""

    table: tuple[bytes, ...]

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase, vocabulary: int = 0) -> "Pieces":
        """The table of a tokenizer, at least `vocabulary` long (models pad their embedding past the tokenizer).

        Byte-level BPE, SentencePiece with or without byte fallback, WordPiece and plain vocabularies are known by their
        decoder. Raises ModelError for a tokenizer that is not backed by the tokenizers library or decodes otherwise.
        """
        backend = backend_of(tokenizer)
        vocab = backend.get_vocab(with_added_tokens=True)
        table = [b""] * max(vocabulary, max(vocab.values(), default=-1) + 1)
        spell = _speller(backend)
        learned = backend.get_vocab(with_added_tokens=False)
        byte_level = "ByteLevel" in {step["type"] for step in _steps(backend.decoder)}
        for token, index in vocab.items():
            # An added token is matched in the raw text, so a byte-level tokenizer spells it as it stands.
            table[index] = token.encode() if byte_level and token not in learned else spell(token)
        for index in special_ids(tokenizer):
            if index < len(table):
                table[index] = b""
        return cls(tuple(table))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the table."""
        digest = hashlib.sha256()
        for piece in self.table:
            digest.update(len(piece).to_bytes(4, "little") + piece)
        return digest.hexdigest()

    @cached_property
    def spelling(self) -> dict[bytes, tuple[int, ...]]:
        """The tokens that spell these bytes, lowest first."""
        found: dict[bytes, tuple[int, ...]] = {}
        for token, piece in enumerate(self.table):
            if piece:
                found[piece] = (*found.get(piece, ()), token)
        return found

    @cached_property
    def lengths(self) -> Int64[np.ndarray, " vocabulary"]:
        """Bytes of each token's piece."""
        return np.fromiter(map(len, self.table), np.int64, len(self.table))

    def row_bytes(self, tokens: Integer[np.ndarray, " t"]) -> tuple[bytes, Int64[np.ndarray, " t"]]:
        """The bytes of a row of tokens, and where in them each token's piece ends (exclusive)."""
        table = self.table
        return b"".join([table[token] for token in tokens.tolist()]), np.cumsum(self.lengths[tokens])

    def text(self, tokens: Integer[np.ndarray, " t"]) -> str:
        """The text of a row of tokens; bytes that are no character (a row may begin inside one) read U+FFFD."""
        return self.row_bytes(tokens)[0].decode("utf-8", "replace")


def backend_of(tokenizer: PreTrainedTokenizerBase) -> "Tokenizer":
    """The tokenizers-library object behind a transformers tokenizer. Raises ModelError where there is none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"the tokenizer ({type(tokenizer).__name__}) is not backed by the tokenizers library; "
            "save its fast form (tokenizer.json) into the model's folder"
        )
    return backend


def special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of tokens that are no text: BOS, EOS, padding and their like."""
    added = backend_of(tokenizer).get_added_tokens_decoder()
    return frozenset(tokenizer.all_special_ids) | {index for index, token in added.items() if token.special}


def _steps(component: Any) -> list[dict[str, Any]]:
    """A tokenizers component as a flat list of the steps it is a sequence of."""
    if component is None:
        return []
    state = json.loads(component.__getstate__())
    for name in ("decoders", "pretokenizers"):
        if name in state:
            return state[name]
    return [state]


def _speller(backend: "Tokenizer") -> Callable[[str], bytes]:
    """The function from a token's name in the vocabulary to its bytes, composed from the decoder's steps."""
    steps = _steps(backend.decoder)
    kinds = {step["type"] for step in steps}
    if "ByteLevel" in kinds:
        return _spell_byte_level
    renamings = [_renaming(step) for step in steps if step["type"] not in _INERT]
    if not steps and _WHITESPACE_DROPPED & {step["type"] for step in _steps(backend.pre_tokenizer)}:
        renamings.append(lambda token: " " + token)
    byte_fallback = "ByteFallback" in kinds

    def spell(token: str) -> bytes:
        byte = _BYTE_TOKEN.fullmatch(token) if byte_fallback else None
        if byte:
            return bytes.fromhex(byte[1])
        for rename in renamings:
            token = rename(token)
        return token.encode()

    return spell


def _renaming(step: dict[str, Any]) -> Callable[[str], str]:
    """What one decoder step does to a token's name."""
    kind = step["type"]
    if kind == "Replace" and "String" in step["pattern"]:
        return lambda token: token.replace(step["pattern"]["String"], step["content"])
    if kind == "Metaspace":
        return lambda token: token.replace(step["replacement"], " ")
    if kind == "BPEDecoder":
        return lambda token: token.replace(step["suffix"], " ")
    if kind == "WordPiece":
        prefix = step["prefix"]
        return lambda token: token[len(prefix) :] if token.startswith(prefix) else " " + token
    raise ModelError(
        f"the tokenizer decodes by a step of kind {kind!r}, whose bytes per token plainspoken does not know; "
        "known: ByteLevel, ByteFallback, Replace, Metaspace, WordPiece, BPEDecoder"
    )


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's names of the 256 bytes: printable ones stand for themselves, the others for U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    names = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return names | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_ALPHABET = _byte_level_alphabet()


def _spell_byte_level(token: str) -> bytes:
    if all(character in _ALPHABET for character in token):
        return bytes(_ALPHABET[character] for character in token)
    return token.encode()
