"""Style: the speech habits of one person as numbers that can be blended, strengthened, saved and read by eye.

Wu et al. (MM 2021) describe a style by how much each expression coefficient spreads, how much it changes from frame to
frame and how much the head's pose changes; the paper's 135 numbers for 64 coefficients. Two parts are ours: the spread
of the pose, without which nothing tells a method how far a head turns, and the mean expression.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from deep_3drecon.track import FPS, FaceTrack, style_statistics
from models import json_files
from models.blinks import BlinkHabit, measure_blinks

# Order of the raw style vector in a batch and in stats.json; data_process.schema.STYLE_PARTS says the same (a test
# compares).
STYLE_PARTS = ("std_exp", "std_exp_change", "std_pose_change", "std_pose", "mean_exp")
ORIGINS = ("statistics",)  # a learned encoder, a speaker's identity and a sentence join with the methods that make them
FORMAT = "idiolect-style-1"


class StyleError(ValueError):
    """A style that cannot be measured, read or combined."""


@dataclass
class Style:
    """How one person talks.

    parts       {name of STYLE_PARTS: (n,) float32}, raw: coefficients, radians (as quaternion) and dm, changes per
                1/25 s
    origin      what it was made from: one of ORIGINS
    source      free text for people, such as the name of the clip
    face_model  name of the face model whose coefficients these are
    blinks      how the person blinks
    learnt      (n,) code of a method's own clip encoder, or None; learnt_by: fingerprint of that encoder
    """

    parts: dict
    origin: str = "statistics"
    source: str = ""
    face_model: str = "open"
    blinks: BlinkHabit = field(default_factory=BlinkHabit)
    learnt: np.ndarray | None = None
    learnt_by: str = ""

    def __post_init__(self):
        missing = [name for name in STYLE_PARTS if name not in self.parts]
        if missing:
            raise StyleError(
                f"a style with {sorted(self.parts)} came, {missing} are missing: measure it with Style.from_statistics"
            )
        if self.origin not in ORIGINS:
            raise StyleError(f"origin {self.origin!r} came, known are {ORIGINS}")
        self.parts = {name: np.asarray(self.parts[name], np.float32).ravel() for name in STYLE_PARTS}
        bad = [name for name, value in self.parts.items() if not np.isfinite(value).all()]
        if bad:
            raise StyleError(
                f"{self.source or 'style'}: {bad} hold numbers that are not finite: measure the clip again"
            )

    @classmethod
    def from_statistics(cls, clip, source="", face_model="open", blink_columns=None):
        """Style of a clip: a FaceTrack, or what `deep_3drecon.track.style_statistics` returned for one.

        blink_columns: the two expression columns of the closing lids; with them a track also tells how its person
        blinks.
        """
        if not isinstance(clip, FaceTrack):
            return cls(dict(clip), source=source, face_model=face_model)
        if not clip.valid.any():
            raise StyleError(
                f"{source or 'style clip'}: no face in any of its {len(clip)} frames: use a clip that shows one"
            )
        seen = np.flatnonzero(clip.valid)
        clip = clip.select(slice(seen[0], seen[-1] + 1))
        parts = clip.parts()
        statistics = style_statistics(parts["exp"], parts["angle"], parts["trans"], clip.fps)
        habit = BlinkHabit()
        if blink_columns is not None:
            habit = measure_blinks(parts["exp"][:, list(blink_columns)].mean(1), clip.fps)
        return cls(statistics, source=source, face_model=clip.face_model, blinks=habit)

    @classmethod
    def from_vector(cls, vector, sizes, **fields):
        """Style of a raw vector (S,), as a batch or stats.json holds it; sizes: {part: count} in the order of
        STYLE_PARTS.
        """
        vector = np.asarray(vector, np.float32).ravel()
        ends = np.cumsum([sizes[name] for name in STYLE_PARTS])
        if len(vector) != ends[-1]:
            raise StyleError(
                f"{len(vector)} numbers came, {ends[-1]} are needed ({sizes}): take the stats.json of the same store"
            )
        return cls(dict(zip(STYLE_PARTS, np.split(vector, ends[:-1]), strict=True)), **fields)

    def vector(self, names=STYLE_PARTS):
        """(S,) float32: the named parts one after the other."""
        return np.concatenate([self.parts[name] for name in names])

    @staticmethod
    def interpolate(a, b, t):
        """Straight line from style a (t = 0) to style b (t = 1)."""
        return Style.blend([a, b], [1 - t, t])

    @staticmethod
    def average(styles):
        """Mean of several styles, such as those of one person's clips."""
        styles = list(styles)
        return Style.blend(styles, [1 / len(styles)] * len(styles)) if styles else Style.blend([], [])

    @staticmethod
    def blend(styles, weights):
        """Weighted sum of styles of one face model."""
        if not styles or len({s.face_model for s in styles}) > 1:
            raise StyleError(
                f"styles of {[s.face_model for s in styles]} came: at least one, and all of one face model, are needed"
            )
        parts = {name: sum(w * s.parts[name] for s, w in zip(styles, weights, strict=True)) for name in STYLE_PARTS}
        habit = BlinkHabit.blend([s.blinks for s in styles], weights)
        source = " + ".join(f"{w:.2f} {s.source or 'style'}" for s, w in zip(styles, weights, strict=True))
        made = Style(nonnegative(parts), styles[0].origin, source, styles[0].face_model, habit)
        if all(s.learnt is not None and s.learnt_by == styles[0].learnt_by for s in styles):
            made.learnt = sum(w * s.learnt for s, w in zip(styles, weights, strict=True)).astype(np.float32)
            made.learnt_by = styles[0].learnt_by
        return made

    def scaled(self, strength, mean=None):
        """The style made stronger or weaker along the line from the corpus mean: 0 gives the mean, 1 this style, 2
        twice as far.

        mean: the Style of the corpus (`method.mean_style`). Without one every spread is multiplied by `strength` and
        the mean expression stays, which makes the same person livelier or calmer.
        """
        if mean is not None:
            parts = Style.interpolate(mean, self, strength).parts
        else:
            parts = {name: v if name == "mean_exp" else strength * v for name, v in self.parts.items()}
        return replace(self, parts=nonnegative(parts), source=f"{strength:g} x {self.source or 'style'}")

    def save(self, path):
        """Write as JSON, aside first and then renamed."""
        content = {
            "origin": self.origin,
            "source": self.source,
            "face_model": self.face_model,
            "fps": FPS,
            "blinks": vars(self.blinks),
            "parts": {name: [float(f"{x:.7g}") for x in value] for name, value in self.parts.items()},
        }
        if self.learnt is not None:
            content |= {"learnt": [float(f"{x:.7g}") for x in self.learnt], "learnt_by": self.learnt_by}
        json_files.write(path, FORMAT, content)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote."""
        content = json_files.read(path, FORMAT, StyleError, "style", "make one with python -m scripts.styles measure")
        try:
            habit = BlinkHabit(**content["blinks"])
            style = cls(content["parts"], content["origin"], content["source"], content["face_model"], habit)
            if "learnt" in content:
                style.learnt = np.asarray(content["learnt"], np.float32)
                style.learnt_by = content["learnt_by"]
            return style
        except (KeyError, TypeError, ValueError) as error:
            raise StyleError(f"{path}: damaged style file ({error})") from error


def nonnegative(parts):
    """Spreads cannot be below zero, however far a style is pushed; the mean expression may be anything."""
    return {name: v if name == "mean_exp" else np.maximum(v, 0) for name, v in parts.items()}
