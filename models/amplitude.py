"""Amplitude of generated motion: from what a regression dares to say to how far this person really moves.

Least squares answers what it cannot know with the mean: a regressed mouth opens too little for speakers it was not trained on, a
regressed head hardly moves. A style knows how far its person moves, so the movement is stretched to that. How far it went before is
measured on generated motion, and for short clips mixed with what is usual. What was measured on one sound can be used on others
(`Amplitude`), which streams need: they do not know what is to come.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

POSE = 6  # Euler angles (rad) and translation (dm) about the clip's mean
SMOOTHING = 1.6  # frames, Gaussian: halves the power at 2 Hz
MOST_SMOOTHING = 12.0  # frames
TRUNCATE = 4.0  # deviations at which the Gaussian ends
PRIOR = 75  # frames: a shorter clip's own spread is hardly a measure
LARGEST_GAIN = 1.5  # of expressions; more would turn doubt into grimaces


@dataclass
class Amplitude:
    """What turns regressed motion into a style's.

    Expressions move about exp_mean (E,), those of `columns` (E,) bool exp_gain times as far. The pose is smoothed by SMOOTHING and
    further by Gaussians of pose_width (6,) frames, 0 for none, and moves about pose_mean (6,) pose_gain (6,) times as far.
    """

    exp_mean: np.ndarray
    exp_gain: float
    columns: np.ndarray
    pose_width: np.ndarray | None = None
    pose_mean: np.ndarray | None = None
    pose_gain: np.ndarray | None = None

    @property
    def pose_reach(self):
        """Frames to each side that the smoothing of the pose looks at."""
        return (
            0 if self.pose_width is None else sum(int(TRUNCATE * w + 0.5) for w in (SMOOTHING, self.pose_width.max()))
        )

    def expression(self, exp):
        """(T, E) regressed -> (T, E) float32 of the style."""
        moved = self.exp_mean + self.exp_gain * (exp - self.exp_mean)
        return np.where(self.columns, moved, exp).astype(np.float32)

    def smooth(self, pose):
        """(T, 6) z-scored -> (T, 6) float64 smoothed; before and after the clip stand its first and last frame."""
        out = _steady(pose)
        for k, width in enumerate(self.pose_width):
            if width > 0:
                out[:, k] = gaussian_filter1d(out[:, k], width, mode="nearest", truncate=TRUNCATE)
        return out

    def pose(self, pose):
        """(T, 6) z-scored -> (T, 6) float32, radians and dm about the head's rest."""
        return self.scaled(self.smooth(pose))

    def scaled(self, smooth):
        """What is left of `pose` after `smooth`; frame by frame."""
        return ((smooth - self.pose_mean) * self.pose_gain).astype(np.float32)


def measure(exp, pose, std_exp, std_pose, std_pose_change, usual, opening, columns):
    """`Amplitude` of a style from motion generated in it: exp (T, E), pose (T, 6) z-scored or None.

    std_exp (E,)          spread of each coefficient in the style clip
    std_pose (7,)         spread of quaternion w, x, y, z and translation there
    std_pose_change (7,)  spread of their change from frame to frame
    usual (6,)            spread of the predicted pose in training
    opening (E,)          by how much each coefficient opens the lips; only its proportions matter
    columns               (E,) bool, the coefficients that are stretched, all by one gain from 1 to LARGEST_GAIN
    """
    mean, gain = _articulation(exp, std_exp, opening, columns)
    out = Amplitude(mean, gain, np.asarray(columns, bool))
    if pose is not None:
        out.pose_width = _slowing(pose, std_pose, std_pose_change)
        smooth = out.smooth(pose)
        out.pose_mean, out.pose_gain = smooth.mean(0), _pose_gain(pose, smooth, std_pose, usual)
    return out


def _articulation(exp, std_exp, opening, columns):
    """Mean (E,) of the expressions, and the gain that makes the mouth move as far as the style's."""
    weight = np.where(columns, opening, 0) ** 2
    wanted = float(weight @ std_exp**2)
    found = (len(exp) * float(weight @ exp.var(0)) + PRIOR * wanted) / (len(exp) + PRIOR)
    return exp.mean(0), np.clip(np.sqrt(wanted / max(found, 1e-12)), 1, LARGEST_GAIN)


def _steady(pose):
    """(T, 6) -> (T, 6) float64 without tremor."""
    return gaussian_filter1d(pose.astype(np.float64), SMOOTHING, axis=0, mode="nearest", truncate=TRUNCATE)


def _axes(std_pose):
    """(7,) of quaternion w, x, y, z and translation -> (6,)."""
    return np.concatenate([std_pose[1:4], std_pose[4:]]).astype(np.float64)


def _slowing(pose, std_pose, std_pose_change):
    """Widths (6,) of the Gaussians that give a pose (T, 6) the pace of a style, frames.

    Each axis is smoothed until its spread is as many times its change as in the style clip: the sound makes a regressed head nod
    faster than people do.
    """
    slowness = _axes(std_pose) / np.maximum(_axes(std_pose_change), 1e-9)
    return np.array([_width(x, s) for x, s in zip(_steady(pose).T, slowness, strict=True)])


def _width(curve, slowness):
    """Width of the Gaussian after which the spread of a curve (T,) is `slowness` times that of its change, at most MOST_SMOOTHING."""
    slow, last = curve, 0.0
    for width in np.geomspace(SMOOTHING / 2, MOST_SMOOTHING, 12):
        if len(slow) < 3 or slow.std() >= slowness * np.diff(slow).std():
            break
        slow, last = gaussian_filter1d(curve, width, mode="nearest", truncate=TRUNCATE), width
    return last


def _pose_gain(pose, smooth, std_pose, usual):
    """(6,): the style's spread over that of the smoothed pose, which in short clips is mixed with what is usual."""
    kept = smooth.var(0) / np.maximum(_steady(pose).var(0), 1e-12)  # what the further smoothing left of the power
    power = (len(pose) * smooth.var(0) + PRIOR * kept * usual**2) / (len(pose) + PRIOR)
    wanted = _axes(std_pose)
    wanted[:3] *= 2  # a small turn by an angle moves the quaternion by half of it
    return wanted / np.sqrt(power + 1e-8)
