"""FaceTrack: what 3D reconstruction knows of one clip, and the statistics of a clip that make its style.

A track is one float artefact in one npz; it is never a video. See `camera` for axes, units and pixels.
"""

import os
import tempfile
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from scipy.signal import butter, sosfiltfilt

from deep_3drecon import camera
from deep_3drecon.face_model import face_layout
from deep_3drecon.landmarks import points68

FPS = 25
POSE_CUTOFF_HZ = 3.5  # style_avatar low-passes pose at 0.28 of Nyquist at 25 fps before it measures its change
ARRAYS = ("coeff", "landmarks", "crop", "valid", "scores")


class TrackError(ValueError):
    """A track file that cannot be read or does not fit what is asked of it."""


@dataclass
class FaceTrack:
    """One face through one clip of T frames.

    coeff      (T, D) float32, named by `layout` (identity, expression, Euler angle in radians, translation in dm, ...)
    landmarks  (T, 478, 2) float32, pixels of the source frame
    crop       (T, 2, 3) float32, source pixels -> pixels of the canonical 224 px crop the coefficients live in
    valid      (T,) bool, False where no face was found (coefficients are then interpolated)
    scores     (T, 52) float32, the landmarker's expression scores in the order of the face model's expression names
    fps        frames a second
    frame_size (width, height) of the source in pixels
    """

    coeff: np.ndarray
    landmarks: np.ndarray
    crop: np.ndarray
    valid: np.ndarray
    scores: np.ndarray
    fps: float
    frame_size: tuple
    face_model: str
    face_model_hash: str

    def __len__(self):
        return len(self.coeff)

    @property
    def layout(self):
        """Names of the numbers in `coeff`."""
        return face_layout(self.face_model)

    @property
    def landmarks68(self):
        """(T, 68, 2) in pixels of the source frame, order of the iBUG 68 points."""
        return points68(self.landmarks)

    def parts(self):
        """{name: (T, n)} of id, exp, tex, angle, gamma, trans."""
        return self.layout.split(self.coeff)

    def select(self, frames):
        """The same track at some frames only: a slice, or an index or bool array over T."""
        arrays = {name: getattr(self, name)[frames] for name in ARRAYS}
        return FaceTrack(
            **arrays,
            fps=self.fps,
            frame_size=self.frame_size,
            face_model=self.face_model,
            face_model_hash=self.face_model_hash,
        )

    def save(self, path):
        """Write one npz, aside first and then renamed."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            try:
                self.write(file)
            except BaseException:
                os.unlink(file.name)
                raise
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)

    def write(self, file):
        """The npz into an open binary file."""
        np.savez_compressed(file, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path):
        """Read what `save` wrote; `path` may also be an open binary file. Nothing is unpickled."""
        try:
            with np.load(path, allow_pickle=False) as npz:
                values = {f.name: npz[f.name] for f in fields(cls)}
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            # numpy takes any other file for a pickle, and its advice to open it as one is bad
            reason = "no .npz file" if "pickle" in str(error) else error
            raise TrackError(
                f"{path}: not a face track ({reason}): make one with python -m deep_3drecon.reconstruct"
            ) from error
        values["fps"] = float(values["fps"])
        values["frame_size"] = tuple(int(v) for v in values["frame_size"])
        for name in ("face_model", "face_model_hash"):
            values[name] = str(values[name])
        return cls(**values)


def normalised_pose(angle, trans, fps):
    """Pose about its mean, low-passed: angle (T, 3) radians, trans (T, 3) dm -> (T, 7) quaternion w <= 0 and translation.

    style_avatar's `coeff_norm`: the mean rotation is the principal eigenvector of the mean outer product of the quaternions;
    zero-phase Butterworth of order 8. Clips too short for the filter (under 55 frames) are only centred.
    """
    q = camera.quaternion(torch.as_tensor(np.asarray(angle), dtype=torch.float64))
    mean = torch.linalg.eigh((q[:, :, None] * q[:, None, :]).mean(0))[1][:, -1]
    relative = camera.matrix_from_quaternion(q) @ camera.matrix_from_quaternion(mean).T
    q = camera.quaternion(camera.euler_angles(relative)).numpy()
    shift = np.asarray(trans, np.float64) - np.mean(trans, 0, dtype=np.float64)
    pose = np.concatenate([q, shift], 1)
    sos = butter(8, POSE_CUTOFF_HZ, fs=fps, output="sos")
    if len(pose) > 54:
        pose = sosfiltfilt(sos, pose, axis=0)
    return pose


def statistics(exp, pose):
    """Spread of expression, of its change and of the pose's change: exp (T, E), pose (T, 7) -> dict of three arrays.

    The three parts of style_avatar's code (135 numbers for E = 64) before they are z-scored; deviations with ddof 0.
    """
    exp, pose = np.asarray(exp, np.float64), np.asarray(pose, np.float64)
    if len(exp) < 3:
        raise TrackError(
            f"{len(exp)} frames came, a style needs at least 3 (and says little under 125): use a longer clip"
        )
    return {
        "std_exp": exp.std(0),
        "std_exp_change": np.diff(exp, axis=0).std(0),
        "std_pose_change": np.diff(pose, axis=0).std(0),
    }


def style_statistics(exp, angle, trans, fps):
    """Statistics of a clip: exp (T, E), angle (T, 3) radians, trans (T, 3) dm at `fps` -> dict of float32 arrays.

    The paper's std_exp (E), std_exp_change (E), std_pose_change (7); and ours: std_pose (7), which the paper measures but
    leaves out, and mean_exp (E), the resting face. Change is per frame at 25 fps whatever the rate of the clip.
    """
    exp, angle, trans = (resample(np.asarray(x, np.float64), fps, FPS) for x in (exp, angle, trans))
    pose = normalised_pose(angle, trans, FPS)
    out = statistics(exp, pose) | {"std_pose": pose.std(0), "mean_exp": exp.mean(0)}
    return {name: value.astype(np.float32) for name, value in out.items()}


def resample(values, fps, new_fps):
    """Linear resampling in time of (T, ...) from `fps` to `new_fps`; frame 0 stays frame 0."""
    if fps == new_fps or len(values) < 2:
        return values
    n = int((len(values) - 1) * new_fps / fps + 1e-6) + 1
    position = np.arange(n) * (fps / new_fps)
    left = np.minimum(position.astype(int), len(values) - 2)
    weight = (position - left).reshape(-1, *[1] * (values.ndim - 1))
    return values[left] * (1 - weight) + values[left + 1] * weight
