"""Films of made people in which the landmarker loses the face by itself, with the truth: heads that turn away, blur, darkness, noise."""

import cv2
import numpy as np
import torch

from data_process.face_tracks import landmarker, track_landmarks
from data_process.lost_frames import compose, fill_lost
from data_process.made_crop_batches import rotation_angle
from data_process.made_faces import PIVOT_DM, speech_motion
from data_process.upper_face import smooth_noise
from data_process.visemes import lip_gap
from deep_3drecon import camera
from deep_3drecon.face_model import load_face_model
from deep_3drecon.made_film import Actor
from deep_3drecon.made_skin import made_look
from deep_3drecon.made_stage import draw_stage
from deep_3drecon.open_regressor import into_crop
from deep_3drecon.track import FPS

N_FRAMES, BAD, SIZE = 120, slice(40, 80), 256
KINDS = ("profile", "blurred swing", "blur", "dark", "noise", "small", "JPEG")


def film(kind, number):
    """One of KINDS by person `number` -> frames [(SIZE, SIZE, 3)], true {"exp", "rotation", "trans"}, affine canonical -> picture."""
    face, rng = load_face_model("open"), np.random.default_rng((31, number))
    identity = rng.normal(0, 0.6, 80).astype(np.float32)
    exp = speech_motion(N_FRAMES, identity, face, rng).astype(np.float32)
    slow = smooth_noise(N_FRAMES, 6, 0.5, rng)
    angle = np.deg2rad([4.0, 6.0, 3.0]) * slow[:, :3]
    if kind == "profile":
        angle[30:90, 1] += rng.choice([-1, 1]) * np.deg2rad(80) * np.sin(np.linspace(0, np.pi, 60)) ** 0.7
    if kind == "blurred swing":
        angle[:, 1] += np.deg2rad(30) * np.sin(2 * np.pi * 0.6 * np.arange(N_FRAMES) / FPS)
    angle, pivot = torch.from_numpy(angle).float(), torch.tensor(PIVOT_DM)
    rotation = camera.rotation_matrix(angle)
    trans = pivot - rotation @ pivot + 0.05 * torch.from_numpy(slow[:, 3:]).float()
    actor = Actor(face, identity, made_look(100_000 + number), SIZE, draw_stage(rng, SIZE))
    frames = list(actor.frames(exp, angle.numpy(), trans.numpy()))
    frames[BAD] = [spoiled(frame, kind, rng) for frame in frames[BAD]]
    return frames, {"exp": exp, "rotation": rotation.double(), "trans": trans.double()}, np.float64(actor.stage.affine)


def spoiled(frame, kind, rng):
    """A frame as a bad camera gives it."""
    if kind in ("blur", "blurred swing"):
        return cv2.GaussianBlur(frame, (0, 0), 9)
    if kind == "dark":
        return (0.03 * frame + rng.normal(0, 2.5, frame.shape)).clip(0, 255).astype(np.uint8)
    if kind == "noise":
        return (frame + rng.normal(0, 110, frame.shape)).clip(0, 255).astype(np.uint8)
    if kind in ("small", "JPEG"):
        small = cv2.resize(frame, (24, 24) if kind == "small" else (48, 48), interpolation=cv2.INTER_AREA)
        if kind == "JPEG":
            small = cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 6])[1], cv2.IMREAD_COLOR)
        return cv2.resize(small, frame.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return frame


def lost_rows(regressor, kind, people):
    """Errors of some films of a kind against the truth -> {"lost": frames, "line: degrees", "regressor: degrees", ...}.

    In frames without landmarks by line and by regressor; in the other bad ones, whose landmarks nobody doubts, of the fit.
    """
    face, sums = load_face_model("open"), {"line": [], "regressor": [], "poor": []}
    for number in people:
        frames, true, affine = film(kind, number)
        line = track_landmarks(landmarker().track(frames))
        lost, poor = ~line.valid, line.valid & np.isin(np.arange(N_FRAMES), np.arange(N_FRAMES)[BAD])
        filled = fill_lost(line, frames, regressor)
        for name, track, where in (("line", line, lost), ("regressor", filled, lost), ("poor", line, poor)):
            sums[name].append(_errors(track, true, affine, where, lip_gap(face).exp))
    row = {}
    for name, found in sums.items():
        degrees, lips = (np.concatenate(values) for values in zip(*found, strict=True))
        row[f"{name}: frames"] = len(degrees)
        if len(degrees):
            row |= {f"{name}: degrees": degrees.mean(), f"{name}: lip mm": lips.mean()}
    return row


def _errors(track, true, affine, where, gap):
    """Degrees (n,) and lip opening in mm (n,) by which a track is off the truth in some frames."""
    change = torch.from_numpy(np.stack([compose(crop.astype(np.float64), affine) for crop in track.crop]))
    rotation, _ = into_crop(true["rotation"], true["trans"], change)
    parts = {name: value.astype(np.float64) for name, value in track.parts().items()}
    degrees = rotation_angle(camera.rotation_matrix(torch.from_numpy(parts["angle"])), rotation).numpy()
    return degrees[where], np.abs((parts["exp"] - true["exp"]) @ gap)[where]
