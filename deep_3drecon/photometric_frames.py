"""Frames of a clip beside its face track: which of them are worth a closer look, and their canonical crops.

`frames` is a function without arguments that gives an iterator of the clip's frames (H, W, 3) uint8 RGB, so that they can be read
more than once, or a sequence of them.
"""

import cv2
import numpy as np

from deep_3drecon import camera

N_KEY_FRAMES = 24


class PhotometricError(ValueError):
    """A track and frames that do not belong together."""


def key_frames(track, n=N_KEY_FRAMES):
    """Up to n valid frames (ids) that differ most in pose and mouth: the farthest from those chosen, one after the other."""
    parts = track.parts()
    mouth = parts["exp"]
    where = np.concatenate([parts["angle"] / 0.1, mouth / 0.3], 1)
    found = np.flatnonzero(track.valid)
    where = where[found]
    chosen = [int(np.argmin(np.linalg.norm(where - np.median(where, 0), axis=1)))]
    distance = np.linalg.norm(where - where[chosen[0]], axis=1)
    while len(chosen) < min(n, len(found)):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(where - where[chosen[-1]], axis=1))
    return np.sort(found[chosen])


def chosen(track, frames, wanted=None):
    """Yield (t, frame) of the wanted frames (ids), or all; the clip has to be as long as the track and its frames as large."""
    wanted = None if wanted is None else {int(t) for t in wanted}
    count = 0
    for t, frame in enumerate(frames() if callable(frames) else frames):
        if frame.shape[1::-1] != tuple(track.frame_size):
            raise PhotometricError(
                f"frame {t} is {frame.shape[1]}x{frame.shape[0]}, the track's are {track.frame_size[0]}x{track.frame_size[1]}: "
                "give the frames that the track was made from"
            )
        count += 1
        if t < len(track) and (wanted is None or t in wanted):
            yield t, frame
    if count < len(track):
        raise PhotometricError(
            f"{count} frames came, the track has {len(track)}: give the frames that it was made from"
        )


def crops(track, frames, wanted=None):
    """Yield (t, crop (224, 224, 3) uint8) as `chosen` does."""
    for t, frame in chosen(track, frames, wanted):
        yield t, cut_crop(frame, track.crop[t])


def cut_crop(frame, crop, size=(camera.CROP_SIZE, camera.CROP_SIZE)):
    """The canonical crop (224, 224, 3) uint8 of a frame (H, W, 3) uint8 by its affine (2, 3); what lies outside is repeated.
    size: width and height, of another crop than the canonical one.

    Quick, for pictures that are only looked at: `align.crop_picture` gives the finer ones, 6 to 30 times slower. The regressor of
    clips was trained on these.
    """
    affine, factor = np.asarray(crop, np.float64).copy(), np.linalg.norm(np.asarray(crop)[0, :2])
    shrink = max(1, int(round(1 / factor)))
    if shrink > 1:  # average first, or fine detail flickers
        height, width = frame.shape[:2]
        frame = cv2.resize(frame, (max(1, width // shrink), max(1, height // shrink)), interpolation=cv2.INTER_AREA)
        scale = np.array([width / frame.shape[1], height / frame.shape[0]])
        affine[:, 2] += affine[:, :2] @ (0.5 * scale - 0.5)
        affine[:, :2] *= scale
    return cv2.warpAffine(frame, affine, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
