"""Head pose of generated motion: from what a regression dares to say to how far this person's head really moves."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

POSE = 6  # Euler angles (rad) and translation (dm) about the clip's mean
SMOOTHING = 1.6  # frames, Gaussian: halves the power at 2 Hz
PRIOR = 75  # frames: a shorter clip's own spread is hardly a measure


def styled_pose(pose, std_pose, usual):
    """Generated pose with the amplitude of a style: (T, 6) z-scored -> (T, 6) radians and dm about its mean.

    Least squares answers what it cannot know with the mean, so a regressed head barely moves. Here its movement is
    smoothed and stretched to the style's spread. How far it moved before is measured on the clip, and on short ones
    also taken from training:

    std_pose (7,)  spread of quaternion w, x, y, z and translation in the style clip
    usual (6,)     spread of the predictions in training
    """
    smooth = gaussian_filter1d(pose, SMOOTHING, axis=0, mode="nearest")
    smooth = smooth - smooth.mean(0)
    # A small turn by an angle moves the quaternion by half of it.
    wanted = np.concatenate([2 * std_pose[1:4], std_pose[4:]])
    power = (len(pose) * smooth.var(0) + PRIOR * usual**2) / (len(pose) + PRIOR)
    return (smooth * wanted / np.sqrt(power + 1e-8)).astype(np.float32)
