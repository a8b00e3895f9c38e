"""Phoneme posteriors from the pip package `hama` (Apache-2.0, weights inside the wheel, its own CPU engine).

The network's output depends on all the sound it is given, so it always runs on the same windows of absolute time: block
i of the time axis (`timing.Grid`) with some rows more on each side, cut off at the start and at the end of the sound.
A row therefore never depends on anything later than the end of its block plus the context.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from .audio_io import check_sound
from .timing import FILES, SAMPLES_PER_ROW, n_feature_rows, sound_between

SMOOTHING_ROWS = 4

BLANK = "<blank>"
# The 39 sounds of English that the network emits, in order of frequency in read speech, and the blank as last column.
PHONEMES = (
    *("t ɪ s ə n i d l m ɹ ɛ ð æ oʊ k p h z f eɪ ɔ b ɝ v ɑ w ŋ ʌ aɪ j ʃ ʊ aʊ d͡ʒ θ g u t͡ʃ ʒ").split(),
    BLANK,
)
# Sounds that the network also emits, mostly in other languages, counted with the English sound made with the same lips.
# Everything else (word boundaries, tones, diacritics, rare sounds) counts as blank.
NEAR = {
    "ɔɪ": "ɔ", "a": "ɑ", "ä": "ɑ", "ɒ": "ɑ", "ɐ": "ʌ", "e": "eɪ", "ẽ": "eɪ", "o": "oʊ", "õ": "oʊ", "ɤ": "ʌ", "ɘ": "ə",
    "ɵ": "ʊ", "y": "u", "ʏ": "ʊ", "ø": "ʊ", "œ": "ʊ", "ʉ": "u", "ɯ": "ɪ", "ɨ": "ɪ", "ɚ": "ɝ", "ɜ": "ɝ", "ɡ": "g",
    "ɾ": "d", "r": "ɹ", "ɻ": "ɹ", "ɫ": "l", "x": "h", "ç": "h", "ɣ": "g", "ʁ": "h", "ɕ": "ʃ", "ʂ": "ʃ", "ʑ": "ʒ",
    "ʐ": "ʒ", "β": "v", "ʋ": "v", "ɸ": "f", "ɱ": "m", "ɲ": "n", "kʰ": "k", "k͈": "k", "pʰ": "p", "p͈": "p", "tʰ": "t",
    "t͈": "t", "s͈": "s", "t͡ɕ": "t͡ʃ", "t͡ɕʰ": "t͡ʃ", "t͡ɕ͈": "t͡ʃ",
}  # fmt: skip

_loading = threading.Lock()


def get_prob(wav: np.ndarray, threads: int = 1, model=None, grid=FILES) -> np.ndarray:
    """Phoneme posteriors of 16 kHz sound: (N,) float32 -> (A, 40) float32, 50 Hz, columns as PHONEMES; rows sum to 1.

    Row k belongs to time k/50 s, A = n_feature_rows(N). The peaks are short (CTC): `smooth_prob` widens them.
    threads: windows computed at the same time. The result does not depend on it. grid: FILES or LIVE of `timing`.
    model: a `deepspeech_model.DeepSpeech`, or the path of its safetensors file, for the letters of that network instead:
        (A, 29), columns as its LETTERS, which is what style_avatar (MM 2021) calls get_prob.
    """
    wav = check_sound(wav)
    if model is not None:
        return _letter_model(model).prob(wav)
    n_rows = n_feature_rows(len(wav))
    windows = range(-(-n_rows // grid.block_rows))
    if threads == 1:
        return np.concatenate([window_prob(wav, 0, i, n_rows, grid) for i in windows])
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(lambda i: window_prob(wav, 0, i, n_rows, grid), windows)))


def _letter_model(model):
    if not isinstance(model, (str, os.PathLike)):
        return model
    from .deepspeech_model import DeepSpeech  # imported late: it needs torch

    return DeepSpeech.load(model)


def window_prob(samples: np.ndarray, offset: int, index: int, n_rows: int, grid=FILES) -> np.ndarray:
    """Posteriors of one window of the grid -> (at most grid.block_rows, 40).

    samples: the sound from sample number `offset` on, at least as far as the window reaches.
    n_rows: rows of the whole sound; for one that goes on, any number from `rows_needed(index, grid)` up.
    """
    first, end = index * grid.block_rows, min((index + 1) * grid.block_rows, n_rows)
    heard_from = max(first - grid.before_rows, 0)
    heard_to = min(rows_needed(index, grid), n_rows)
    segment = sound_between(samples, offset, heard_from * SAMPLES_PER_ROW, heard_to * SAMPLES_PER_ROW)
    feeds = {"waveform": segment[None], "waveform_lengths": np.array([len(segment)])}
    model, fold = _model()
    log_probs = model.session.run(["log_probs"], feeds)[0][0]
    rows = log_probs[first - heard_from : end - heard_from]
    return _fold(np.exp(rows), fold)


def rows_needed(index: int, grid=FILES) -> int:
    """Number of rows, counted from the start of the sound, that must be heard before window `index` can be computed."""
    return (index + 1) * grid.block_rows + grid.after_rows


def _fold(probs: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(A, 191) -> (A, 40): add the columns that count as one symbol; blank takes what is left of 1."""
    folded = np.zeros((len(probs), len(PHONEMES)), np.float32)
    for source, target in enumerate(fold):
        if target < len(PHONEMES) - 1:
            folded[:, target] += probs[:, source]
    folded[:, -1] = 1.0 - folded[:, :-1].sum(axis=1)
    return np.clip(folded, 0.0, 1.0)


def _model():
    with _loading:  # two threads that ask first at the same time must not load it twice
        return _load_model()


@cache
def _load_model():
    """(hama.ASRModel, (191,) column of PHONEMES for each of its symbols). Its session keeps no state between calls."""
    import hama  # imported late: its shared library is bound at import

    model = hama.ASRModel()
    column = {symbol: i for i, symbol in enumerate(PHONEMES)}
    missing = [symbol for symbol in PHONEMES if symbol not in model.decoder_tokens]
    if missing:
        raise RuntimeError(
            f"hama {hama.__version__} lacks the symbols {missing}: install the version of requirements.txt"
        )
    return model, np.array([column[NEAR.get(t, t if t in column else BLANK)] for t in model.decoder_tokens])


def smooth_prob(prob: np.ndarray) -> np.ndarray:
    """Posteriors (A, 40) widened by a Hann kernel over ±4 rows (±80 ms); before and after the sound stands blank."""
    silence = blank_rows(SMOOTHING_ROWS)
    return smooth_inner(np.concatenate([silence, prob, silence]))


def smooth_inner(prob: np.ndarray) -> np.ndarray:
    """(A + 8, 40) -> (A, 40): the rows of `prob` that have SMOOTHING_ROWS neighbours on both sides, smoothed."""
    n = len(prob) - 2 * SMOOTHING_ROWS
    kernel = np.hanning(2 * SMOOTHING_ROWS + 3)[1:-1]
    smoothed = np.zeros((n, prob.shape[1]), np.float32)
    for shift, weight in enumerate((kernel / kernel.sum()).astype(np.float32)):
        smoothed += weight * prob[shift : shift + n]
    return smoothed


def blank_rows(n: int) -> np.ndarray:
    """(n, 40) posteriors of silence."""
    rows = np.zeros((n, len(PHONEMES)), np.float32)
    rows[:, -1] = 1.0
    return rows
