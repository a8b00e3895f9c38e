"""Tracks of clips from coefficients that another system has measured, in place of a fit of our own.

    python -m data_process.originals --ted_hd /data/ted_hd.lmdb --output /data/ted_clips        # writes <name>.coeff.npz
    python -m data_process.build_lmdb --clips /data/ted_clips --tracks stored --face_model bfm ...

Their numbers are of the Basel model. A store of another face model gets them by `deep_3drecon.transfer`, for which the Basel
model has to be there as well: either way its file is the user's to bring. Landmarks are ours, found in the clip.
"""

from dataclasses import replace

import numpy as np

from data_process.schema import StoreError
from deep_3drecon.align import steady_crops
from deep_3drecon.face_model import load_face_model
from deep_3drecon.track import FPS, FaceTrack
from deep_3drecon.transfer import installed_mapping, transfer_track

SUFFIX = ".coeff.npz"


def stored_track(path, landmarks, face_model) -> FaceTrack:
    """FaceTrack of a clip (path of its mp4) out of <name>.coeff.npz, in the numbers of `face_model`.

    landmarks: LandmarkTrack of the clip at 25 fps. A frame is valid where both know the face. Raises FaceModelError where
    a face model that is needed is missing: none of the clips can do without it.
    """
    path = path.with_suffix(SUFFIX)
    if not path.is_file():
        raise StoreError(
            f"{path}: missing: data_process.originals writes it from a store that has coefficients, data_process.coeff_files "
            "--output from a file of them"
        )
    theirs = FaceTrack.load(path)
    if len(theirs) != len(landmarks) or theirs.fps != FPS:
        raise StoreError(
            f"{path}: {len(theirs)} rows at {theirs.fps:g} fps for {len(landmarks)} frames at {FPS}: they are not of this clip, or "
            "have to be resampled first"
        )
    source = load_face_model(theirs.face_model)
    if theirs.face_model_hash not in ("", source.hash):
        raise StoreError(f"{path}: made with another {theirs.face_model} model than the one that is installed")
    points = landmarks.points[..., :2].astype(np.float32)
    crop = theirs.crop
    if theirs.frame_size != tuple(landmarks.frame_size):  # they came without the place of the face in the picture
        crop = steady_crops(points, landmarks.frame_size, FPS)
    track = replace(
        theirs, landmarks=points, crop=crop, scores=landmarks.scores, valid=theirs.valid & landmarks.valid,
        frame_size=tuple(landmarks.frame_size), face_model_hash=source.hash,
    )  # fmt: skip
    if face_model == theirs.face_model:
        return track
    target = load_face_model(face_model)
    return transfer_track(track, target, source, installed_mapping(source.name, target.name))
