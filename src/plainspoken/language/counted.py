"""Counts in sentences: one document, two documents."""


def counted(count: int, one: str, several: str | None = None) -> str:
    """The count and what is counted: "1 latent", "1,200 latents". `several`: where that is not `one` with an s."""
    return f"{count:,} {agreeing(count, one, several)}"


def agreeing(count: int, one: str, several: str | None = None) -> str:
    """The word that goes with a count which stands elsewhere: "latent" or "latents", "has" or "have"."""
    return one if count == 1 else several if several is not None else f"{one}s"
