"""Video -> FaceTrack: the landmarker and the fit, put together; and how good a track is."""

import functools

import numpy as np

from data_process.landmarks import FaceLandmarker, NoFaceError
from data_process.lost_frames import fill_lost
from data_process.video import read_frames
from deep_3drecon.clip_refinement import refine_learned
from deep_3drecon.face_model import load_face_model
from deep_3drecon.fit import fit_clip, reproject, reprojection_error
from deep_3drecon.landmark_bias import bias, noise
from deep_3drecon.landmarks import interocular, lip_opening
from deep_3drecon.photometric import refine_clip
from deep_3drecon.track import FPS, FaceTrack
from deep_3drecon.transfer import installed_mapping, transfer_track


def track_video(path, face_model="open", partial=False, photometric=False) -> FaceTrack:
    """Follow the largest face of a video of any rate, resampled to 25 fps.

    partial: take what a damaged file yields before its damage. photometric: refine shape, pose, expression and light by the pixels
    (`deep_3drecon.photometric`), which reads the video several times more. Raises VideoError for a file that is no video,
    NoFaceError for one without a face. Frames in which no face is found come from `lost_frames.fill_lost`.
    """
    return whole_track(find_landmarks(path, partial), video_frames(path, partial), face_model, photometric)


def find_landmarks(path, partial=False):
    """LandmarkTrack of the largest face of a video, at the rate of tracks; arguments and errors as in `track_video`."""
    try:
        return landmarker().track(read_frames(path, fps=FPS, partial=partial))
    except NoFaceError as error:
        raise NoFaceError(f"{path}: {error}") from error


def whole_track(found, frames, face_model="open", photometric=False) -> FaceTrack:
    """FaceTrack of a LandmarkTrack at 25 fps: fitted, refined by the pixels if asked for, lost frames filled, in a face model.

    frames: function without arguments that gives the clip's frames, such as `video_frames`.
    """
    track = track_landmarks(found)
    if photometric:
        track = refine_track(track, frames)
    return in_model(fill_lost(track, frames()), face_model)


def video_frames(path, partial=False):
    """The frames of a video at the rate of tracks, as the photometric stage and the atlas want them: to be read repeatedly."""
    return lambda: read_frames(path, fps=FPS, partial=partial)


def refine_track(track, frames, learned=True) -> FaceTrack:
    """`photometric.refine_clip` for tracks of our landmarker, from where the regressor of clips sees the face (`clip_refinement`).

    learned: False for pixels alone; other heads than the open one have nothing else.
    """
    model = load_face_model(track.face_model)
    if not learned or model.name != "open":
        return refine_clip(track, frames, model, bias, noise())
    return refine_learned(track, frames, model, bias, noise())[0]


def track_landmarks(track) -> FaceTrack:
    """LandmarkTrack at 25 fps -> FaceTrack of the open head, which alone has the 478 landmarks."""
    model = load_face_model("open")
    return fit_clip(
        track.points[..., :2], track.scores, track.valid, track.frame_size, FPS, model, bias=bias, noise=noise()
    )


def in_model(track, face_model) -> FaceTrack:
    """A FaceTrack of the open head in the coefficients of the face model of that name (`transfer.transfer_track`)."""
    if face_model == track.face_model:
        return track
    mapping = installed_mapping(track.face_model, face_model)
    return transfer_track(track, load_face_model(face_model), mapping=mapping)


def track_quality(track):
    """How well the fitted face explains the landmarks of a FaceTrack -> dict of floats.

    tracked: share of frames with a face. reprojection: mean over those of the 68-landmark error, in percent of the
    distance of the iris centres. lip_correlation: Pearson, over time, of the lip opening of the fitted face with that
    of the landmarks; NaN for lips that never move.
    """
    model = load_face_model(track.face_model)
    seen = track.select(track.valid)
    fitted, found = (lip_opening(p) / interocular(p) for p in (reproject(seen, model), seen.landmarks))
    moves = min(fitted.std(), found.std()) > 1e-6
    return {
        "tracked": float(track.valid.mean()),
        "reprojection": float(100 * np.nanmean(reprojection_error(seen, model))),
        "lip_correlation": float(np.corrcoef(fitted, found)[0, 1]) if moves else float("nan"),
    }


@functools.cache
def landmarker():
    """The landmarker of this process: its networks are loaded once."""
    return FaceLandmarker()
