"""Phoneme times read off the posteriors, for plots and metrics."""

from typing import NamedTuple

import numpy as np

from .posteriors import PHONEMES
from .timing import FEATURE_HZ

# A phoneme is emitted near its onset and its end is not marked: it lasts until the next one, but no longer than this.
LONGEST_SECONDS = 0.3


class PhoneSpan(NamedTuple):
    symbol: str
    start: float  # seconds
    end: float  # seconds


def phone_spans(prob: np.ndarray) -> list[PhoneSpan]:
    """Greedy reading of raw posteriors (A, 40) from `get_prob` -> the phonemes in order of time.

    start is the first row in which the symbol is the likeliest, end the start of the next phoneme or 0.3 s later.
    """
    best = prob.argmax(axis=1)
    blank = len(PHONEMES) - 1
    first = np.flatnonzero((best != blank) & (best != np.concatenate([[blank], best[:-1]])))
    starts = first / FEATURE_HZ
    ends = np.append(starts[1:], len(prob) / FEATURE_HZ)
    ends = np.minimum(ends, starts + LONGEST_SECONDS)
    return [PhoneSpan(PHONEMES[best[k]], float(a), float(b)) for k, a, b in zip(first, starts, ends, strict=True)]
