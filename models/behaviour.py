"""Behaviour: how one person holds and moves head and brows and blinks while talking, measured on a clip of two seconds or more.

    behaviour = Behaviour.measure(track, features)      # FaceTrack, {"energy": (A, 1), ...} at 50 Hz
    behaviour.save("behaviour.json")
    motion = headpose.generate(features, behaviour, n_frames, seed)

Twelve seconds do not hold enough to train a network on, but they do say how far and how fast each part moves, which rhythms it
prefers, what moves together, in which bursts, and what the person does at a pause. The channels are the pose (Euler angles in
radians, translation in dm, through one still crop) and five brow coefficients of the open head.
"""

from dataclasses import asdict, dataclass, field

import numpy as np

from deep_3drecon.face_model import load_face_model
from deep_3drecon.track import FPS, resample
from models import headpose_signal as signal
from models import headpose_sound as sound
from models import json_files
from models.blinks import PRIOR_S, BlinkHabit, find_blinks, measure_blinks
from models.headpose_track import still_pose
from models.pose_metrics import beat_alignment

FORMAT = "idiolect-behaviour-1"
POSE = ("pitch", "yaw", "roll", "x", "y", "z")
BROWS = ("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight")
LIDS = ("eyeBlinkLeft", "eyeBlinkRight")
CHANNELS = (*POSE, *BROWS)
LEAST_FRAMES = 50
BROW_SMOOTHING_S = 0.06  # brows of single frames tremble by what the landmarks do
BANDS_S = 0.16  # what is slower, and what is quicker, than this Gaussian is correlated apart
RIDGE, FOLDS, GAP = 30.0, 4, 12  # of the regression of place on sound; frames left out beside what is predicted
SHRINK_CORRELATION = 0.2
# A head wanders the further the longer one looks: shorter clips than this have their spread and range enlarged by this power of time
# (measured within clips of 12 s: 0.15 from 8 s on, 0.29 from 2 s on).
WHOLE_FRAMES, GROWTH = 300, 0.25
TYPICAL_LOUDNESS = 0.3  # correlation of log speed with coming loudness in speakers of the field's test clips
TYPICAL_BEATS, BEATS_OF_PRIOR = 0.03, 150  # head beats fall on those of speech by this much more than by chance
SHARE_PER_BEAT_GAIN = (
    9.0  # share of beats that must be moved onto the sound's for a gain of one (measured, see generate)
)
TYPICAL_BLINK_MOVE = 0.6  # a head that moves three times as fast as usual makes a blink twice as likely


class BehaviourError(ValueError):
    """A clip from which no behaviour can be measured, or a file that holds none."""


@dataclass
class Behaviour:
    """Measured habits; C = 11 CHANNELS, F = 51 frequencies, L = 17 levels of `headpose_signal`.

    mean (C,)             resting pose (of the still crop) and brows
    low, high (C,)        extremes about the mean, of a clip of less than 12 s enlarged
    place (L, C)          distribution about the mean of what the sound does not explain
    speed (L, C)          distribution of its change from frame to frame
    spectrum (F, C)       density of that change
    slow, quick (C, C)    correlations of what is slower and quicker than about 1 Hz
    answer (10, C), answer_mean (10,)  place explained by the sound: (context - answer_mean) @ answer
    bursts                spread of the logarithm of speed beyond that of even motion, loudness left out
    loudness              share of the logarithm of speed for one deviation of coming loudness
    beats                 share of speech beats onto which the nearest beat of the head is moved
    blinks, blink_move    BlinkHabit; exponent by which a quick head makes blinks more likely
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    place: np.ndarray
    speed: np.ndarray
    spectrum: np.ndarray
    slow: np.ndarray
    quick: np.ndarray
    answer: np.ndarray
    answer_mean: np.ndarray
    bursts: float
    loudness: float
    beats: float
    blinks: BlinkHabit = field(default_factory=BlinkHabit)
    blink_move: float = TYPICAL_BLINK_MOVE
    n_frames: int = 0
    face_model: str = "open"
    source: str = ""

    def __post_init__(self):
        shapes = {
            "mean": 1,
            "low": 1,
            "high": 1,
            "place": 2,
            "speed": 2,
            "spectrum": 2,
            "slow": 2,
            "quick": 2,
            "answer": 2,
        }
        for name in (*shapes, "answer_mean"):
            value = np.asarray(getattr(self, name), np.float64)
            if not np.isfinite(value).all() or (
                name in shapes and (value.ndim, value.shape[-1]) != (shapes[name], len(CHANNELS))
            ):
                raise BehaviourError(f"{self.source or 'behaviour'}: {name} {value.shape} holds no numbers of {len(CHANNELS)} "
                                     "channels: measure the clip again")  # fmt: skip
            setattr(self, name, value)

    @classmethod
    def measure(cls, track, features=None, source=""):
        """Behaviour of a FaceTrack of at least 50 frames and the sound features {"energy": (A, 1)} at 50 Hz of the same clip.

        Without features of the sound the person's own answer to speech stays unknown and the usual one is taken.
        """
        if not track.valid.any():
            raise BehaviourError(
                f"{source or 'clip'}: no face in any of its {len(track)} frames: use a clip that shows one"
            )
        curves, closure = clip_curves(track)
        energy = np.zeros((2 * len(curves), 1)) if features is None else np.asarray(features["energy"])
        seen = np.flatnonzero(track.valid)
        first, end = (round(k * FPS / track.fps) for k in (seen[0], seen[-1] + 1))
        return cls.of_curves(
            curves[first:end], closure[first:end], energy[2 * first : 2 * end], track.face_model, source
        )

    @classmethod
    def of_curves(cls, curves, closure, energy, face_model="open", source=""):
        """Behaviour of curves (T, C) of the CHANNELS and lids (T,) at 25 fps, and loudness (A, 1) at 50 Hz."""
        n = len(curves)
        if n < LEAST_FRAMES:
            raise BehaviourError(f"{source or 'clip'}: {n} frames with a face, {LEAST_FRAMES} ({LEAST_FRAMES / FPS:.2f} s) are "
                                 "needed and 300 are good: use a longer clip")  # fmt: skip
        curves = np.asarray(curves, np.float64)
        mean, context = curves.mean(0), sound.context(energy, n)
        answer_mean, answer = explain(context, curves - mean)
        rest = curves - (context - answer_mean) @ answer
        about = rest - rest.mean(0)
        slow = signal.smooth(about, BANDS_S)
        bursts, loud = measure_bursts(about, energy)
        grown = max(1.0, WHOLE_FRAMES / n) ** GROWTH
        return cls(
            mean=mean,
            low=grown * (curves - mean).min(0),
            high=grown * (curves - mean).max(0),
            place=grown * gently(signal.quantiles(about)),
            speed=symmetric(signal.quantiles(np.diff(about, axis=0))),
            spectrum=signal.speed_spectrum(about),
            slow=correlations(slow),
            quick=correlations(about - slow),
            answer=answer,
            answer_mean=answer_mean,
            bursts=bursts,
            loudness=loud,
            beats=measure_beats(curves[:, :3], energy),
            blinks=measure_blinks(closure, FPS),
            blink_move=measure_blink_move(curves, closure),
            n_frames=n,
            face_model=face_model,
            source=source,
        )

    def code(self):
        """The behaviour as a vector that tells people apart, (N,): logarithms of spreads and of the spectrum in bands, and ratios."""
        pose = slice(0, 3)
        bands = np.array_split(np.log10(self.spectrum[1:25, pose]), 6)
        parts = [
            np.log10(np.diff(self.place[[4, -5], pose], axis=0)[0] + 1e-9),
            np.stack([band.mean(0) for band in bands]).ravel(),
            [self.slow[0, 1], self.slow[0, 2], self.slow[1, 2], self.bursts, self.loudness, np.log10(self.blinks.rate_hz + 0.05)],
        ]  # fmt: skip
        return np.concatenate([np.ravel(part) for part in parts])

    def save(self, path):
        """Write as JSON, aside first and then renamed."""
        json_files.write(path, FORMAT, {"fps": FPS, "channels": CHANNELS} | asdict(self), indent=None, default=_rounded)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote."""
        remedy = "make one with scripts/personalize.sh"
        content = json_files.read(path, FORMAT, BehaviourError, "behaviour", remedy)
        content.pop("format")
        if content.pop("channels", None) != list(CHANNELS) or content.pop("fps", None) != FPS:
            raise BehaviourError(
                f"{path}: other channels or another rate than {CHANNELS} at {FPS}: measure the clip again"
            )
        try:
            return cls(**content | {"blinks": BlinkHabit(**content["blinks"])})
        except (KeyError, TypeError, ValueError) as error:
            raise BehaviourError(f"{path}: damaged behaviour file ({error})") from error


def _rounded(array):
    return np.vectorize(lambda v: float(f"{v:.8g}"), otypes=[float])(array).tolist()


def clip_curves(track):
    """Curves (T, C) of the CHANNELS, brows 0 where the face model has none, and mean lid closure (T,), at 25 fps."""
    angle, trans, _ = still_pose(track)
    names, exp = list(load_face_model(track.face_model).expression_names), track.parts()["exp"]
    brows = np.stack([exp[:, names.index(b)] if b in names else np.zeros(len(exp)) for b in BROWS], 1)
    lids = [names.index(lid) for lid in LIDS if lid in names]
    closure = exp[:, lids].mean(1) if lids else np.zeros(len(exp))
    brows = signal.smooth(brows, BROW_SMOOTHING_S)
    curves = np.concatenate([angle, trans, brows, closure[:, None]], 1).astype(np.float64)
    curves = resample(curves, track.fps, FPS)
    return curves[:, :-1], curves[:, -1]


def explain(context, place):
    """Ridge regression of place (T, C), mean 0, on the sound's context (T, N) -> mean (N,), weights (N, C).

    Each channel's weights are scaled by how much they explain of stretches they were not fitted to, often by nothing.
    """
    mean = context.mean(0)
    x, n, foretold = context - mean, len(context), np.zeros_like(place)
    for part in np.array_split(np.arange(n), FOLDS):
        others = np.r_[0 : max(0, part[0] - GAP), min(n, part[-1] + 1 + GAP) : n]
        weights = ridge(x[others], place[others] - place[others].mean(0))
        foretold[part] = x[part] @ weights
    power = (foretold**2).sum(0)
    chance = 0.05 * np.sqrt(power * (place**2).sum(0))
    slope = ((foretold * place).sum(0) - chance) / (1.15 * power + 1e-12)
    return mean, ridge(x, place) * slope.clip(0, 1)


def ridge(x, y):
    """Weights (N, C) of the regularised least squares of y (T, C) on x (T, N)."""
    return np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)


def gently(place):
    """Quantiles (L, C) drawn half way to those of a normal distribution: twelve seconds are a dozen independent places, no more."""
    spread = (place * signal.LEVELS[:, None]).sum(0) / (signal.LEVELS**2).sum()
    return (place + signal.LEVELS[:, None] * spread) / 2


def symmetric(speed):
    """Quantiles (L, C) of speeds made even about 0; their shape drawn a little to that of all channels."""
    even = (speed - speed[::-1]) / 2
    spread = np.sqrt((even**2).mean(0)) + 1e-12
    return (0.3 * (even / spread).mean(1, keepdims=True) + 0.7 * even / spread) * spread


def correlations(x):
    """Correlations (C, C) of curves (T, C), drawn to none; a still channel goes with no other."""
    spread = x.std(0)
    z = np.where(spread > 1e-9, (x - x.mean(0)) / np.maximum(spread, 1e-9), 0)
    return (1 - SHRINK_CORRELATION) * (z.T @ z / len(x)) * (1 - np.eye(x.shape[1])) + np.eye(x.shape[1])


def log_speed(curves):
    """Logarithm of how fast the head turns, in its own deviations, over half a second: (T,), mean 0."""
    angle = curves[:, :3] / np.maximum(curves[:, :3].std(0), 1e-6)
    speed = np.log(np.linalg.norm(np.gradient(angle, axis=0), axis=1) + 1e-3)
    window = np.hanning(15)[1:-1]
    speed = np.convolve(np.pad(speed, 6, mode="edge"), window / window.sum(), "valid")
    return speed - speed.mean()


EVEN_LOG_SPEED = 0.42  # deviation of `log_speed` of even motion, normal curves of real heads' spectra


def measure_bursts(curves, energy):
    """(bursts, loudness) of `Behaviour`: what uneven motion adds to the spread of log speed, and the sound's share in it."""
    speed, coming = log_speed(curves), sound.coming_loudness(energy, len(curves))
    n = len(curves) / 2  # half a frame's weight against the prior: neighbours are alike
    found = np.corrcoef(speed, coming)[0, 1] if coming.std() > 1e-6 and speed.std() > 1e-6 else 0.0
    correlation = (n * found + 100 * TYPICAL_LOUDNESS) / (n + 100)
    beyond = np.sqrt(max(speed.std() ** 2 - EVEN_LOG_SPEED**2, 0.01))
    loudness = float(np.clip(correlation * speed.std(), -0.9 * beyond, 0.9 * beyond))
    return float(np.sqrt(max(beyond**2 - loudness**2, 0.01))), loudness


def measure_beats(angle, energy):
    """Share of speech beats that draw a beat of the head onto them, from how much oftener than by chance they meet."""
    met = beat_alignment(angle, sound.beats(energy, len(angle)))
    n = met["beats"] if np.isfinite(met["score"]) else 0
    gain = ((met["score"] - met["chance"]) * n if n else 0) + TYPICAL_BEATS * BEATS_OF_PRIOR
    return float(np.clip(SHARE_PER_BEAT_GAIN * gain / (n + BEATS_OF_PRIOR), 0, 0.5))


def measure_blink_move(curves, closure):
    """Exponent by which the head's speed makes blinks likelier: speed at blinks against the mean, drawn to the usual."""
    peaks = find_blinks(closure, FPS)[0]
    speed = np.linalg.norm(np.gradient(curves[:, :3] / np.maximum(curves[:, :3].std(0), 1e-6), axis=0), axis=1)
    ratio = speed[peaks].mean() / max(speed.mean(), 1e-9) if len(peaks) else 1.0
    found = (
        np.log(max(ratio, 0.3)) / 0.55
    )  # mean of speed^(1 + k) over speed^k is about exp(0.55 k) for speeds of heads
    weight = len(peaks) / (len(peaks) + PRIOR_S)
    return float(np.clip(weight * found + (1 - weight) * TYPICAL_BLINK_MOVE, 0, 1.5))
