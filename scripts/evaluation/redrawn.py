"""Frames of a person that were held out, drawn again from learning frames: which source each has, and how near they come."""

import numpy as np

from models import sources
from models.headpose_track import still_pose
from models.image_metrics import flicker, flicker_level, landmark_boxes, psnr, ssim
from models.judges import JUDGES

MOUTH_SCALE = 1.4  # of the box about the mouth


def sources_by_pose(track, model, learnt, frames):
    """[(learning frame, second or None, its share)] of each of `frames`, consecutive ones of one shot, chosen as inference.py does."""
    angle, trans, _ = still_pose(track)
    pose = np.concatenate([angle, trans], 1)
    return sources.faded(sources.Candidates(track, pose, np.asarray(learnt), model).hold(pose[frames]))


def shots_of(person, frames):
    """`frames` (sorted ids) as runs within one shot."""
    breaks = np.flatnonzero((np.diff(frames) != 1) | (np.diff(person.shot[frames]) != 0)) + 1
    return np.split(frames, breaks)


def window_of(boxes):
    """Row and column slices of the square about all pixels of masks (T, H, W)."""
    rows, columns = (np.flatnonzero(boxes.any((0, axis))) for axis in (2, 1))
    return np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def measure(real, made, points):
    """{measure: mean over frames} of films (T, S, S, 3) with landmarks (T, 68, 2)."""
    size, judge, out = real.shape[1:3], JUDGES["efficient_distance"](), {}
    boxes = {"face": landmark_boxes(points, size), "mouth": landmark_boxes(points[:, 48:], size, MOUTH_SCALE)}
    for name, mask in boxes.items():
        out[f"{name}_db"], out[f"{name}_ssim"] = (float(np.mean(f(real, made, mask))) for f in (psnr, ssim))
        part = window_of(mask)
        missing = judge.missing()
        out[f"{name}_perceptual"] = float("nan") if missing else float(np.mean(judge.distance(real[part], made[part])))
    out["flicker_still"] = flicker(real, made)
    out["flicker_face"] = flicker_level(made, boxes["face"]) / flicker_level(real, boxes["face"])
    return out
