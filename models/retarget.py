"""One person's motion on another person's face.

A motion holds absolute coefficients of the speaker. Laid on a portrait as they are, they would carry the speaker's resting face
along, and the fit's small errors would leave lips ajar and lids half shut. Three rules instead:

* Expressions are counted from rest: portrait's own expression + (motion - the motion's rest). At the motion's rest the portrait
  shows its own face. A portrait with an open mouth does not rest there: its mouth shapes are taken only in part (KEEP_OPEN).
* Lips: the distance of the inner lips is that of the motion on the mean head, corrected through jawOpen, so what was closed closes.
* Lids: the opening of each eye, as a share of its resting opening, is that of the motion on the mean head, corrected through
  eyeBlink, so a full blink closes this portrait's eyes too.

Pose is counted from the motion's mean and bent so that the head never turns far from the portrait, where nothing is to be seen.
"""

from dataclasses import dataclass

import numpy as np
import torch

from deep_3drecon import landmarks
from deep_3drecon.made_noise import smoothstep

ANGLE_LIMIT = np.radians([18.0, 25.0, 20.0])  # pitch, yaw, roll away from the portrait
PROFILE = np.radians([30.0, 40.0, 60.0])  # from the camera; further turned there is too little face
TRANS_LIMIT_DM = np.array([0.35, 0.35, 0.8])
KEEP_OPEN = 0.4  # share of smile and stretch kept from a portrait with an open mouth; lip and jaw openings are dropped
CLOSED_DM = 0.012  # inner-lip distance of lips that touch, mean head
OPEN_DM = 0.05  # a portrait whose lips are this far apart has an open mouth
KEPT_WHEN_OPEN = ("mouthSmile", "mouthDimple", "mouthStretch", "mouthFrown", "mouthPress")
MOUTH = ("mouth", "jaw", "tongue")
OVERCLOSE_DM = 0.010  # lids meet with a little overlap, so that no line of the eye is left


@dataclass
class Openings:
    """Distances of lips and lids as linear functions of expression: value (3,) at exp = 0, slope (n_exp, 3); dm, lips, right, left eye.

    Signed: negative when the upper edge lies below the lower one.
    """

    value: np.ndarray
    slope: np.ndarray

    def of(self, exp):
        """exp (..., n_exp) -> (..., 3)."""
        return self.value + exp @ self.slope


@dataclass
class Rest:
    """A resting face: exp (n_exp,), openings there (3,); of a portrait also its `Openings`, of a motion also its pose."""

    exp: np.ndarray
    opening: np.ndarray
    openings: Openings | None = None
    angle: np.ndarray | None = None
    trans: np.ndarray | None = None


def openings(model):
    """`Openings` of a face model at its mean identity."""
    ids, weights = torch.as_tensor(model.landmark_ids), model.landmark_weights

    def height(values):  # (V, ...) of the y axis -> (478, ...)
        return (values[ids] * weights.reshape(*weights.shape, *[1] * (values.dim() - 1))).sum(1)

    base, basis = height(model.mean[:, 1]).numpy(), height(model.exp_basis[:, 1]).numpy()
    pairs = [(landmarks.INNER_LIP_UPPER[3:6], landmarks.INNER_LIP_LOWER[3:6])]
    pairs += [(p[:, 0], p[:, 1]) for p in (landmarks.LID_PAIRS_RIGHT, landmarks.LID_PAIRS_LEFT)]
    value = np.array([(base[a] - base[b]).mean() for a, b in pairs])
    slope = np.stack([(basis[a] - basis[b]).mean(0) for a, b in pairs], 1)
    return Openings(value, slope)


def portrait_rest(head, exp):
    """`Rest` of a portrait: its own head (a face model) and fitted exp (n_exp,)."""
    exp = np.asarray(exp, np.float64)
    own = openings(head)
    return Rest(exp, own.of(exp), own)


def motion_rest(model, exp, angle, trans):
    """`Rest` of a motion (T, n_exp), (T, 3), (T, 3): mouth where it is most closed, eyes where they are open, the rest its median."""
    exp, angle, trans = (np.asarray(x, np.float64) for x in (exp, angle, trans))
    opening = openings(model).of(exp)
    rest = np.median(exp, 0)
    closed = opening[:, 0] <= np.quantile(opening[:, 0], 0.15)
    mouth = _named(model, MOUTH)
    rest[mouth] = exp[closed][:, mouth].mean(0)
    eyes = np.quantile(opening[:, 1:], 0.7, axis=0)
    awake = (opening[:, 1:] >= eyes - 1e-9).all(1)
    lids = _named(model, ("eyeBlink", "eyeSquint", "eyeWide"))
    rest[lids] = (exp[awake] if awake.any() else exp)[:, lids].mean(0)
    lips = min(
        np.quantile(opening[:, 0], 0.05), 0.03
    )  # more than this is no bias of the fit but a mouth that never closed
    return Rest(rest, np.array([lips, *eyes]), angle=angle.mean(0), trans=trans.mean(0))


def expression(model, portrait, motion, exp):
    """Expressions for the portrait: exp (T, n_exp) of the motion -> (T, n_exp) float32 in [0, 1]."""
    exp = np.asarray(exp, np.float64)
    open_mouth = smoothstep(CLOSED_DM, OPEN_DM, portrait.opening[0])
    keep = np.ones(exp.shape[1])
    mouth = _named(model, MOUTH)
    keep[mouth] = 1 - open_mouth
    kept = _named(model, KEPT_WHEN_OPEN)
    keep[kept] = 1 - open_mouth * (1 - KEEP_OPEN)
    out = exp + keep * (portrait.exp - motion.exp)
    out = np.clip(out, 0, 1)

    there = openings(model).of(exp)
    own = portrait.openings
    jaw, blink_right, blink_left = model.index("jawOpen", "eyeBlinkRight", "eyeBlinkLeft")
    # lids first: nothing else moves them
    rest = np.maximum(motion.opening[1:], 0.02)
    share = np.clip(there[:, 1:] / rest, 0, 1.3)
    target = portrait.opening[1:] * share - OVERCLOSE_DM * smoothstep(0.3, 0.0, share)
    for eye, blink in enumerate((blink_right, blink_left)):
        miss = own.of(out)[:, 1 + eye] - target[:, eye]
        out[:, blink] += miss / -own.slope[blink, 1 + eye]
    closed = portrait.opening[0] * (1 - open_mouth)
    target = np.maximum(there[:, 0] - motion.opening[0], 0) + closed
    out[:, jaw] += np.clip((target - own.of(out)[:, 0]) / own.slope[jaw, 0], -0.3, 0.3)
    return np.clip(out, 0, 1).astype(np.float32)


def pose(portrait_angle, portrait_trans, motion, angle, trans, scale):
    """Angles (T, 3) rad and translations (T, 3) dm for the portrait, counted from the motion's mean and softly limited."""
    turn = scale * (np.asarray(angle, np.float64) - motion.angle)
    # a portrait that already looks aside has no other cheek to show: less room on that side
    room = np.clip(PROFILE - np.sign(turn) * portrait_angle, 0.25 * ANGLE_LIMIT, ANGLE_LIMIT)
    turn = _limited(turn, room)
    move = _limited(scale * (np.asarray(trans, np.float64) - motion.trans), TRANS_LIMIT_DM)
    return (portrait_angle + turn).astype(np.float32), (portrait_trans + move).astype(np.float32)


def _limited(value, limit):
    return limit * np.tanh(value / limit)


def _named(model, starts):
    """Positions of the expressions whose names start so."""
    return [k for k, name in enumerate(model.expression_names) if name.startswith(tuple(starts))]
