"""Styles of pieces of clips, measured once each."""

from pathlib import Path

import numpy as np

from data_process import schema
from deep_3drecon.coeffs import Layout
from deep_3drecon.track import FPS, style_statistics
from models.style import Style
from models.style_metrics import retrieval, speaker_weight
from scripts.evaluation.sources import pieces


class Codes:
    """Styles of a store's pieces, kept in memory; blink_columns: the expressions that close the lids."""

    def __init__(self, store, blink_columns=None):
        self.store, self.blink_columns = store, blink_columns
        self.layout = Layout(**store.meta["layout"])
        self._styles = {}

    def style(self, piece):
        """Style of one piece."""
        if piece not in self._styles:
            track = self.store.track(piece.split, piece.index).select(slice(piece.start, piece.stop))
            self._styles[piece] = Style.from_statistics(
                track, source=str(piece), face_model=self.store.meta["face_model"], blink_columns=self.blink_columns
            )
        return self._styles[piece]

    def average(self, pieces):
        """Mean Style of several pieces."""
        style = Style.average([self.style(piece) for piece in pieces])
        style.source = self.describe(pieces)
        return style

    @staticmethod
    def describe(pieces):
        """Pieces in a few words, for a line of metrics.jsonl."""
        names = [str(piece) for piece in pieces]
        return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more clips"

    def exp(self, piece):
        """Expression (K, E) of the frames of a piece that show a face."""
        frames = slice(piece.start, piece.stop)
        exp = self.layout.split(self.store.array(piece.split, "coeff", piece.index))["exp"][frames]
        return exp[schema.unpack_valid(self.store.bytes(piece.split, "track", piece.index))[frames]]

    def vector(self, piece):
        """(S,) code of one piece."""
        return self.style(piece).vector()


def motion_code(motion):
    """(S,) code of a motion {"exp", "angle", "trans"} at 25 fps."""
    return schema.style_vector(style_statistics(motion["exp"], motion["angle"], motion["trans"], FPS))


def half_styles(store, min_frames):
    """Styles of the halves (N, S), (N, S) and the speakers (N,) of all clips of a store that are long enough."""
    first, second, speakers = [], [], []
    for parts, speaker in _motions(store, min_frames):
        half = len(parts["exp"]) // 2
        for styles, frames in ((first, slice(half)), (second, slice(half, None))):
            styles.append(motion_code({name: value[frames] for name, value in parts.items()}))
        speakers.append(speaker)
    return np.array(first), np.array(second), speakers


def whole_styles(store, min_frames):
    """Styles (N, S), speakers (N,) and lengths (N,) in frames of the same clips."""
    found = [(motion_code(parts), speaker, len(parts["exp"])) for parts, speaker in _motions(store, min_frames)]
    codes, speakers, frames = zip(*found, strict=True)
    return np.array(codes), list(speakers), list(frames)


def _motions(store, min_frames):
    """Yield ({"exp", "angle", "trans"}, speaker) of every clip that is long enough."""
    layout = Layout(**store.meta["layout"])
    for split in schema.SPLITS:
        for k, clip in enumerate(store.clips(split) if split in store.meta["splits"] else []):
            if clip["n_frames"] >= min_frames:
                parts = layout.split(store.array(split, "coeff", k))
                yield {name: parts[name] for name in ("exp", "angle", "trans")}, clip["speaker"]


class Gallery:
    """All speakers' codes, among which the style of a motion is looked for. Speakers of further stores carry their store's name.

    all_codes: [Codes] of the store under test first. Needs three speakers; `usable` says whether there are.
    """

    def __init__(self, all_codes, min_frames):
        self.pieces, self.speakers, vectors = [], [], []
        for k, codes in enumerate(all_codes):
            for piece, about in pieces(codes.store):
                if len(piece) < min_frames or not len(codes.exp(piece)):
                    continue
                self.pieces.append(piece)
                vectors.append(codes.vector(piece))
                self.speakers.append(f"{Path(codes.store.path).name}/{about['speaker']}" if k else about["speaker"])
        self.vectors, self.speakers = np.array(vectors), np.array(self.speakers)
        self._weights = {}

    @property
    def usable(self):
        """Whether there are enough speakers to look among."""
        return len(set(self.speakers.tolist())) >= 3

    def weight(self, speaker):
        """(S,) weight of each number of a code, measured on all speakers but this one; None where they have too few clips."""
        if speaker not in self._weights:
            others = self.speakers != speaker
            names, counts = np.unique(self.speakers[others], return_counts=True)
            enough = len(names) >= 2 and (counts > 1).sum() >= 2
            self._weights[speaker] = speaker_weight(self.vectors[others], self.speakers[others]) if enough else None
        return self._weights[speaker]

    def rank(self, code, cases, codes):
        """Rank of the speaker of `cases` (1 is best) for the code (S,) measured on their windows, none of which is in the gallery."""
        windows, speaker = [case.window for case in cases], cases[0].speaker
        keep = [not any(piece.overlaps(w) for w in windows) for piece in self.pieces]
        vectors, speakers = self.vectors[keep], self.speakers[keep]
        if speaker not in speakers.tolist():  # one clip only: its first part stands for it
            rest = [piece for case in cases for piece in case.style if not any(piece.overlaps(w) for w in windows)]
            if not rest:
                return float("nan")
            vectors = np.concatenate([vectors, [codes.vector(piece) for piece in rest]])
            speakers = np.append(speakers, [speaker] * len(rest))
        return float(retrieval([code], [speaker], vectors, speakers, self.weight(speaker))["ranks"][0])
