"""Amplitude of generated motion: from what a regression dares to say to how far this person really moves.

Least squares answers what it cannot know with the mean: a regressed mouth opens too little for speakers it was not trained on, a
regressed head hardly moves. A style knows how far its person moves, so the movement is stretched to that. How far it went before is
measured on the generated clip, and for short ones mixed with what is usual.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d

POSE = 6  # Euler angles (rad) and translation (dm) about the clip's mean
SMOOTHING = 1.6  # frames, Gaussian: halves the power at 2 Hz
PRIOR = 75  # frames: a shorter clip's own spread is hardly a measure
LARGEST_GAIN = 1.5  # of expressions; more would turn doubt into grimaces


def styled_pose(pose, std_pose, usual):
    """Generated pose with the amplitude of a style: (T, 6) z-scored -> (T, 6) radians and dm about its mean, smoothed.

    std_pose (7,)  spread of quaternion w, x, y, z and translation in the style clip
    usual (6,)     spread of the predictions in training
    """
    smooth = gaussian_filter1d(pose, SMOOTHING, axis=0, mode="nearest")
    smooth = smooth - smooth.mean(0)
    # A small turn by an angle moves the quaternion by half of it.
    wanted = np.concatenate([2 * std_pose[1:4], std_pose[4:]])
    power = (len(pose) * smooth.var(0) + PRIOR * usual**2) / (len(pose) + PRIOR)
    return (smooth * wanted / np.sqrt(power + 1e-8)).astype(np.float32)


def articulated(exp, std_exp, opening, columns):
    """Generated expressions (T, E) whose mouth moves as far as the style's, about the clip's mean.

    std_exp (E,)   spread of each coefficient in the style clip
    opening (E,)   by how much each coefficient opens the lips; only its proportions matter
    columns        (E,) bool, the coefficients that are stretched, all by one gain from 1 to LARGEST_GAIN
    """
    weight = np.where(columns, opening, 0) ** 2
    wanted = float(weight @ std_exp**2)
    found = (len(exp) * float(weight @ exp.var(0)) + PRIOR * wanted) / (len(exp) + PRIOR)
    gain = np.clip(np.sqrt(wanted / max(found, 1e-12)), 1, LARGEST_GAIN)
    mean = exp.mean(0)
    return np.where(columns, mean + gain * (exp - mean), exp).astype(np.float32)
