"""The English of rules: sentences rendered and parsed, tokens quoted, a text read as words, lines and enclosures."""
