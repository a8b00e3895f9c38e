"""Head pose of a clip through one still camera.

A FaceTrack's crop may wander with the face (`deep_3drecon.align.steady_crops`), and then part of the head's motion lies in the crop
and not in the pose. Whoever learns how a head moves, or draws a new pose over a clip's own frames, wants all of it in the pose.
"""

import numpy as np
import torch

from deep_3drecon import camera


def still_pose(track, crop=None):
    """Pose of every frame as seen through one crop -> angle (T, 3) radians, trans (T, 3) dm, crop (2, 3): source -> canonical px.

    crop: that one crop; None takes the clip's median. Seen through it, a head lies on the same pixels of the source frame as through
    its own: exactly at its centre, around it up to perspective (half a pixel where a face wandered by 12 of 224).
    """
    parts = track.parts()
    angle, trans = (torch.as_tensor(parts[name], dtype=torch.float64) for name in ("angle", "trans"))
    own = torch.as_tensor(np.asarray(track.crop), dtype=torch.float64)
    one = own.median(0).values if crop is None else torch.as_tensor(np.asarray(crop), dtype=torch.float64)
    angle, trans = through_crop(angle, trans, own, one)
    return angle.float().numpy(), trans.float().numpy(), one.float().numpy()


def through_crop(angle, trans, own, other):
    """Poses (T, 3), (T, 3) seen through crops `own` (T, 2, 3) -> the same heads through the crop(s) `other` (2, 3) or (T, 2, 3)."""
    way = other[..., :2] @ torch.linalg.inv(own[..., :2])  # similarity of canonical pixels, row axis down
    size = torch.linalg.det(way).sqrt()
    turn = torch.atan2(way[..., 1, 0] - way[..., 0, 1], way[..., 0, 0] + way[..., 1, 1])
    place = camera.apply_affine(camera.project(trans[..., None, :]), camera.invert_affine(own))
    place = camera.apply_affine(place, other.expand_as(own))[..., 0, :]
    depth = (camera.CAMERA_Z_DM - trans[..., 2]) / size
    moved = camera.unproject(place, camera.CAMERA_Z_DM - depth)
    roll = torch.zeros_like(angle)
    roll[..., 2] = -turn  # the picture's rows point down
    return camera.euler_angles(camera.rotation_matrix(roll) @ camera.rotation_matrix(angle)), moved
