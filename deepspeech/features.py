"""All audio features of a sound at once, from the whole sound or from a stream of it."""

import numpy as np

from .audio_io import check_sound
from .posteriors import (
    PHONEMES,
    SMOOTHING_ROWS,
    blank_rows,
    get_prob,
    rows_needed,
    smooth_inner,
    smooth_prob,
    window_prob,
)
from .spectral import N_MELS, energy, energy_block, mel, mel_block
from .timing import FEATURE_HZ, FILES, SAMPLES_PER_ROW, n_feature_rows


def features(wav: np.ndarray, threads: int = 1, grid=FILES) -> dict[str, np.ndarray]:
    """16 kHz sound (N,) float32 -> {"phonemes": (A, 40), "mel": (A, 40), "energy": (A, 1)}, float32, 50 Hz.

    A = n_feature_rows(N), row k belongs to time k/50 s. phonemes: smoothed posteriors, columns as PHONEMES.
    threads: windows of posteriors computed at the same time; the result does not depend on it. grid: FILES, or LIVE, whose
    posteriors are a little worse and can be had from a stream within a second.
    """
    return {
        "phonemes": smooth_prob(get_prob(wav, threads, grid=grid)),
        "mel": mel(wav, block_rows=grid.block_rows),
        "energy": energy(wav, grid.block_rows),
    }


class FeatureStream:
    """`features` of a sound that arrives in pieces: the same rows to the last bit, for pieces of any size.

    stream = FeatureStream()            # or FeatureStream(LIVE), equal to features(wav, grid=LIVE)
    for piece in microphone:            # (n,) float32, 16 kHz
        rows = stream.push(piece)       # the rows that became certain, possibly none
    rows = stream.close()               # the rest

    Rows come in blocks of 6 s (LIVE: 0.5 s), each once 2 s (LIVE: 0.3 s) more have been heard: the oldest row of a block waits
    8 s (0.8 s), the newest 2 s (0.3 s), and the last 4 rows, which the smoothing holds back, until the next block. Latency:
    8.1 s (0.9 s) at most. Some 10 s (3 s) of sound are held in memory. Not for use by several threads at once.
    """

    def __init__(self, grid=FILES):
        self.grid = grid
        self._samples = np.zeros(0, np.float32)  # the sound from sample number _offset on
        self._offset = 0
        self._block = 0  # next block
        self._raw = blank_rows(SMOOTHING_ROWS)  # posteriors that the smoothing still needs
        # Rows that wait for the smoothing of their posteriors.
        self._spectral = {"mel": np.zeros((0, N_MELS), np.float32), "energy": np.zeros((0, 1), np.float32)}
        self._closed = False

    @property
    def latency_s(self) -> float:
        """Seconds of sound after a row's own that must have been heard before it is given, at most."""
        return (self.grid.block_rows + self.grid.after_rows + SMOOTHING_ROWS) / FEATURE_HZ

    def push(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Take (n,) float32 samples; give the rows that became certain, in the same dict as `features`."""
        if self._closed:
            raise ValueError("push after close: make a new FeatureStream for a new sound")
        self._samples = np.concatenate([self._samples, check_sound(samples, may_be_empty=True)])
        n_heard = (self._offset + len(self._samples)) // SAMPLES_PER_ROW
        while rows_needed(self._block, self.grid) <= n_heard:
            self._compute(rows_needed(self._block, self.grid))
        return self._take()

    def close(self) -> dict[str, np.ndarray]:
        """End of the sound: give all rows that are left."""
        if self._closed:
            raise ValueError("close was called twice")
        self._closed = True
        n_rows = n_feature_rows(self._offset + len(self._samples))
        while self._block * self.grid.block_rows < n_rows:
            self._compute(n_rows)
        self._raw = np.concatenate([self._raw, blank_rows(SMOOTHING_ROWS)])
        return self._take()

    def _compute(self, n_rows):
        """Compute the next block of a sound of n_rows, or of one that goes on; forget the samples it alone needed."""
        index, grid = self._block, self.grid
        prob = window_prob(self._samples, self._offset, index, n_rows, grid)
        self._raw = np.concatenate([self._raw, prob])
        for name, block in (("mel", mel_block), ("energy", energy_block)):
            rows = block(self._samples, self._offset, index, grid.block_rows)[: len(prob)]
            self._spectral[name] = np.concatenate([self._spectral[name], rows])
        self._block += 1
        # what the next block hears first
        keep_from = max(self._offset, (self._block * grid.block_rows - grid.before_rows) * SAMPLES_PER_ROW)
        self._samples = self._samples[keep_from - self._offset :].copy()
        self._offset = keep_from

    def _take(self):
        """Hand out the rows whose posteriors have all neighbours that the smoothing needs."""
        n = max(len(self._raw) - 2 * SMOOTHING_ROWS, 0)
        rows = {"phonemes": smooth_inner(self._raw) if n else np.zeros((0, len(PHONEMES)), np.float32)}
        self._raw = self._raw[n:]
        for name, waiting in self._spectral.items():
            rows[name], self._spectral[name] = waiting[:n], waiting[n:]
        return rows
