"""Whether a word stands earlier: anywhere before the word so far, on its line, or among the last few words."""

import numpy as np
from jaxtyping import Bool, Int

from plainspoken.language.reading import Reading

ANYWHERE, ON_THIS_LINE = -2, -1  # windows that are no number of words


def stands_earlier(reading: Reading, unit: int, window: int, position: Int[np.ndarray, " p"]) -> Bool[np.ndarray, " p"]:
    """Whether a unit stands whole before the word so far, at each of these positions of the reading.

    Args:
        unit: an index into `reading.strings`.
        window: how many words back it may stand, or `ANYWHERE` in the row, or `ON_THIS_LINE`. As people count words,
            punctuation and line breaks between them are none.
    """
    until = reading.unit_before[position]
    occurrences = np.flatnonzero(reading.unit == unit)
    # Where among the units it last stood before the word so far; -1 where it has not.
    last = np.append(occurrences, -1)[np.searchsorted(occurrences, until) - 1]
    start = reading.unit_of_row[position // reading.t]
    if window == ON_THIS_LINE:
        start = reading.unit_of_line[position]
    elif window != ANYWHERE:
        words = reading.places_of_words
        first = np.searchsorted(words, until) - window
        start = np.maximum(start, np.where(first >= 0, np.append(words, 0)[np.maximum(first, 0)], 0))
    return (last >= start) & reading.readable[position]
