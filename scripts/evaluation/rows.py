"""The rows of an evaluation: for one clip, the motion of every row and seed, and whose style is in it."""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
import soundfile

import deepspeech
from data_process.schema import FEATURES
from deep_3drecon.track import FPS
from deepspeech.timing import ROWS_PER_FRAME, SAMPLES_PER_FRAME
from models.speech_metrics import earlier, speaker_range
from models.style import Style
from scripts.evaluation.baselines import BASELINES
from scripts.evaluation.motion import Truth, as_motion
from scripts.evaluation.sources import ProtocolError, check_disjoint

ALWAYS = ("real", "re-rendered", "generated")
OPTIONAL = ("other style", "mean style")
RANGE_PIECES = 20  # other clips of a speaker from which the range of the lips is taken, beside the window


@dataclass
class Row:
    """One row of one clip and seed.

    motion: {"exp" (T, E), "angle", "trans" (T, 3)}; style: where it comes from, in words; wanted: the Style asked for, None where none
    is; own: the motion is the clip's own; moves: there is head motion.
    """

    name: str
    seed: int
    motion: dict
    style: str = ""
    wanted: Style | None = None
    own: bool = False
    moves: bool = True


def check_rows(names):
    """Refuse rows that do not exist."""
    unknown = sorted(set(names) - set(OPTIONAL))
    if unknown:
        raise ProtocolError(
            f"rows {unknown} came: {', '.join(ALWAYS)} are always there, {', '.join(OPTIONAL)} can be added, "
            f"{', '.join(BASELINES)} are baselines"
        )


def read_features(store, piece):
    """{name: (2T, C)} of a piece: what a method hears."""
    rows = slice(ROWS_PER_FRAME * piece.start, ROWS_PER_FRAME * piece.stop)
    return {name: store.array(piece.split, name, piece.index)[rows] for name in FEATURES}


def read_truth(store, codes, case, shape):
    """Truth of a case's window."""
    piece = case.window
    features = read_features(store, piece)
    track = store.track(piece.split, piece.index).select(slice(piece.start, piece.stop))
    parts = track.parts()
    if not track.valid.any():
        raise ProtocolError(f"{piece}: no face in any of its frames: nothing to compare with")
    wav, _ = soundfile.read(io.BytesIO(store.bytes(piece.split, "audio", piece.index)), dtype="float32")
    wav = wav[SAMPLES_PER_FRAME * piece.start : SAMPLES_PER_FRAME * piece.stop]
    phones, known = _phones(store, piece, wav)
    identity = parts["id"][0]
    opening = [shape.mouth(identity, parts["exp"])[0][track.valid]]
    for other in case.style[:RANGE_PIECES]:
        opening.append(shape.mouth(identity, codes.exp(other))[0])
    return Truth(
        parts["exp"], parts["angle"], parts["trans"], identity, track.valid, features, phones, known,
        speaker_range(np.concatenate(opening)), wav,
    )  # fmt: skip


def _phones(store, piece, wav):
    """([(symbol, start, end), ...] from the window's start, whether they are exact). Without the store's own, read off the sound."""
    about = store.clips(piece.split)[piece.index]
    if "phones" not in about:
        return earlier(deepspeech.phone_spans(deepspeech.get_prob(wav))), False
    start, stop = piece.start / FPS, piece.stop / FPS
    inside = [(p[0], p[1] - start, p[2] - start) for p in about["phones"] if p[2] > start and p[1] < stop]
    return [(symbol, max(a, 0.0), min(b, stop - start)) for symbol, a, b in inside], True


def clip_seed(seed, clip):
    """Seed of one clip: with one seed for all, all clips would blink at the same moments and count as one observation."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{clip}".encode()).digest()[:4], "big")


class Rows:
    """Makes the rows of a case. other: Style for the row `other style` where the settings name one."""

    def __init__(self, method, codes, config, baselines, other=None):
        self.method, self.codes, self.config = method, codes, config
        self.baselines, self.other = baselines, other

    def plan(self, case, video):
        """[(row, seed)] of a case in order; `re-rendered` only with video, `other style` only where there is another speaker."""
        seeds = self.config.seeds
        planned = [("real", seeds[0])] + ([("re-rendered", seeds[0])] if video else [])
        asked = ["generated"] + [r for r in OPTIONAL if r in self.config.rows]
        if "other style" in asked and self.other is None and not case.other:
            asked.remove("other style")
        planned += [(row, seed) for row in asked for seed in seeds]
        return planned + [(name, seeds[0]) for name in BASELINES if name in self.config.baselines]

    def make(self, case, name, seed, truth):
        """One Row."""
        if name in ("real", "re-rendered"):
            return Row(name, seed, truth.motion, own=True)
        if name in BASELINES:
            return Row(name, seed, as_motion(self.baselines(name, truth.features)), moves=False)
        style, words = self.style(case, name)
        motion = self.method.generate(truth.features, style, len(truth.exp), seed=clip_seed(seed, case.name))
        return Row(name, seed, motion, words, style)

    def style(self, case, name):
        """(Style of a generated row, its source in words)."""
        check_disjoint(case)
        if name == "mean style":
            return self.method.mean_style, "corpus mean of the checkpoint"
        if name == "other style":
            if self.other is not None:
                return self.other, f"file {self.config.style.other}"
            return self.codes.average(case.other), f"{case.other_speaker}: {self.codes.describe(case.other)}"
        return self.codes.average(case.style), self.codes.describe(case.style)
