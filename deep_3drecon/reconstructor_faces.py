"""Landmarks as they come to the reconstructor, and what it says of frames without a face, with several, or with the face half outside."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch

from deep_3drecon import camera
from deep_3drecon.align import outside_share
from deep_3drecon.fit import reproject
from deep_3drecon.landmarks import points5, points68
from deep_3drecon.track import FaceTrack

COUNTS = (5, 68, 478)
N_SCORES = 52  # of the landmarker, in the order of the open head's expressions
OUTSIDE_NOTED = (
    0.1  # share of a crop beyond the border of the frame that is worth a word; the border's pixels go on there
)


class ReconstructionError(ValueError):
    """Frames that cannot be reconstructed; `frames` has their numbers, counted from 0."""

    def __init__(self, frames, text):
        self.frames = tuple(int(frame) for frame in frames)
        named = ", ".join(map(str, self.frames[:8])) + (
            f" and {len(self.frames) - 8} more" if len(self.frames) > 8 else ""
        )
        super().__init__(f"frame{'s' * (len(self.frames) > 1)} {named}: {text}")


class MissingFaceError(ReconstructionError):
    """No face was found in these frames."""


class SeveralFacesError(ReconstructionError):
    """More than one face was found in these frames."""


class CropError(ReconstructionError):
    """The crop about the face reaches beyond these frames."""


class ReconstructionWarning(UserWarning):
    """A frame was reconstructed by a way round; the message names it and the way."""


def report(error, strict):
    """Raise the error, or warn with its text where the reconstructor need not be strict."""
    if strict:
        raise error
    warnings.warn(str(error), ReconstructionWarning, stacklevel=4)


@dataclass
class Faces:
    """One face through T frames: points (T, N, 2) pixels, scores (T, 52) or None, valid (T,) bool, n_faces (T,) or None."""

    points: np.ndarray
    scores: np.ndarray | None
    valid: np.ndarray
    n_faces: np.ndarray | None

    @property
    def five(self):
        """(T, 5, 2) points of the alignment."""
        points = points68(self.points) if self.points.shape[1] == 478 else self.points
        return points if points.shape[1] == 5 else points5(points)

    @property
    def scores_or_zero(self):
        """(T, 52) expression scores; zeros where none came."""
        return np.zeros((len(self.points), N_SCORES)) if self.scores is None else self.scores

    def check(self, strict):
        """Say which frames have no face or several; an error if `strict`, or if no frame has any."""
        missing = np.flatnonzero(~self.valid)
        if len(missing) == len(self.valid):
            raise MissingFaceError(missing, "no face in any of them: use a clip that shows one")
        if len(missing):
            report(MissingFaceError(missing, "no face there, coefficients are interpolated in time"), strict)
        several = np.flatnonzero(self.n_faces > 1) if self.n_faces is not None else ()
        if len(several):
            report(SeveralFacesError(several, "several faces there, the one followed from the start is taken"), strict)


def read_faces(given, n_frames):
    """`Faces` of landmarks (T, 5 | 68 | 478, 2 or 3), NaN where there is no face, or of an object such as a LandmarkTrack.

    Of an object `points` are taken, and `scores`, `valid` and `n_faces` if it has them.
    """
    points = np.asarray(getattr(given, "points", given), np.float64)
    if points.ndim != 3 or len(points) != n_frames or points.shape[1] not in COUNTS or points.shape[2] not in (2, 3):
        raise ValueError(
            f"landmarks {points.shape} came, ({n_frames}, 5, 68 or 478, 2) in pixels of the frames are needed"
        )
    points = points[..., :2]
    valid = np.isfinite(points).all((1, 2)) & np.asarray(getattr(given, "valid", True), bool)
    return Faces(points, getattr(given, "scores", None), valid, getattr(given, "n_faces", None))


def checked_frames(frame_array):
    """(T, H, W, 3) uint8 RGB as one array."""
    frames = np.asarray(frame_array)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(f"frames {frames.shape} {frames.dtype} came, (T, H, W, 3) uint8 RGB is needed")
    return frames


def check_crops(crops, frame_size, strict):
    """Say which crops (T, 2, 3) reach well beyond frames of (W, H); an error if `strict`, or if one shows nothing of its frame."""
    share = outside_share(crops, frame_size)
    lost = np.flatnonzero(share >= 1)
    if len(lost):
        raise CropError(lost, "the crop about the landmarks lies outside of the picture: are they in its pixels?")
    beyond = np.flatnonzero(share > OUTSIDE_NOTED)
    if len(beyond):
        text = f"up to {share.max():.0%} of the crop lies beyond the border of the picture, whose pixels go on there"
        report(CropError(beyond, text), strict)


def aligned_track(model, coeff, size, fps):
    """FaceTrack of aligned frames (T, size, size, 3), from their face vectors (T, D) alone; its landmarks are those of the model."""
    to_crop = camera.invert_affine(camera.scale_crop(torch.eye(2, 3, dtype=torch.float64), size)).float().numpy()
    n = len(coeff)
    track = FaceTrack(
        coeff=coeff,
        landmarks=np.zeros((n, 478, 2), np.float32),
        crop=np.tile(to_crop, (n, 1, 1)),
        valid=np.ones(n, bool),
        scores=np.zeros((n, N_SCORES), np.float32),
        fps=float(fps),
        frame_size=(size, size),
        face_model=model.name,
        face_model_hash=model.hash,
    )
    return replace(track, landmarks=reproject(track, model))
