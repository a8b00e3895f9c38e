"""The coefficient files of other systems, form by form: their arrays -> CoeffTrack, and CoeffTrack -> their files.

A reader takes what the file holds, {name: array} with frames first; a plain array comes under the name "array". A writer takes
the path to write. Which form a file has, and the files themselves: `coeff_files`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.io import savemat

from data_process.coeff_track import CoeffFileError, CoeffTrack, check_finite, from_vectors, upright
from deep_3drecon import camera, safe_pickle
from deep_3drecon.coeffs import BFM_LAYOUT, PARTS
from deep_3drecon.landmarks import points5

# what the network of HeadPose predicts has this much taken off its depth (dm)
HEADPOSE_DEPTH = 0.5
# the numbers of one frame's file, by name
FRAME_SHAPES = {
    "coeff": (257,), "lm_5p": (5, 2), "lm68": (68, 2), "transform_params": (5,),
    **{name: (n,) for name, n in BFM_LAYOUT.sizes.items()},
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """One kind of file. fps: what its system works at; file: what its name ends in; by_frame: one file a frame."""

    fps: float
    about: str
    file: str
    by_frame: str = ""


FORMS = {
    "style_avatar": Form(25, "style_avatar: pickled (T, 257)", ".pkl"),
    "headpose": Form(25, "HeadPose: a .mat a frame with coeff, lm_5p", ".mat", "frame{}.mat"),
    "headpose_predicted": Form(25, "HeadPose's audio network: (70,) a frame, 0.5 taken off the depth", ".npy", "{:05d}.npy"),
    "headpose_assigned": Form(25, "HeadPose after assignment: (73,) a frame, with shift and source frame", ".npy", "{:05d}.npy"),
    "gsmoothface": Form(25, "GSmoothFace: a .mat a frame with id, exp, ..., lm68, transform_params", ".mat", "{:06d}.mat"),
    "style2talker": Form(25, "Style2Talker: pickled dict coeff, lm68, lm5, trans_param", ".npy"),
    "sadtalker": Form(25, "SadTalker: coeff_3dmm (T, 73), full_3dmm", ".mat"),
    "sadtalker_result": Form(25, "SadTalker's result: coeff_3dmm (T, 70)", ".mat"),
    "styletalk": Form(30, "StyleTalk: coeff (N, 257), transform_params (N, 5)", ".mat"),
    "dreamtalk": Form(25, "DreamTalk: coeff (N, 257), transform_params (N, 5)", ".mat"),
    "pirender": Form(25, "PIRenderer: (T, 260) or (T, 73) with scale, tx, ty", ".npy"),
}  # fmt: skip


def possible_forms(content):
    """Names of the forms that a file with this content can have."""
    names = set(content)
    if {"exp", "angle", "trans"} <= names:
        return ["gsmoothface"]
    if {"coeff", "trans_param"} <= names:
        return ["style2talker"]
    if "lm_5p" in names:
        return ["headpose"]
    if "coeff_3dmm" in names:
        return ["sadtalker" if content["coeff_3dmm"].shape[-1] == 73 else "sadtalker_result"]
    if "coeff" in names:
        return ["styletalk", "dreamtalk"]
    size = content["array"].shape[-1] if "array" in names else 0
    by_size = {
        70: ["sadtalker_result", "headpose_predicted"], 73: ["pirender", "headpose_assigned"],
        257: ["style_avatar"], 260: ["pirender"],
    }  # fmt: skip
    if size not in by_size:
        came = f"{size} numbers a frame" if size else f"the names {', '.join(sorted(names)) or 'of nothing'}"
        raise CoeffFileError(f"{came} came, which is no coefficient file that is known: {', '.join(FORMS)}")
    return by_size[size]


def read_content(content, form, fps, frame_size):
    """What a file holds, in a named form -> CoeffTrack. frame_size: for the forms that keep (scale, tx, ty) only."""
    if form == "gsmoothface":
        return _gsmoothface(content, fps)
    if form == "style2talker":
        return _style2talker(content, fps)
    if form == "headpose":
        shift = _float(content["lm_5p"], (5, 2), "lm_5p")
        return CoeffTrack(_vectors(content, "coeff", 257), fps, form, extra={"shift5": shift})
    if form in ("sadtalker", "sadtalker_result"):
        return _sadtalker(content, form, fps, frame_size)
    if form in ("styletalk", "dreamtalk"):
        transform = content.get("transform_params")
        transform = None if transform is None else transforms(transform)
        return CoeffTrack(_vectors(content, "coeff", 257), fps, form, transform=transform)
    vectors = content["array"]
    if form == "headpose_predicted":
        track = from_vectors(vectors, "exp_pose", form, fps)
        track.split()["trans"][:, 2] += HEADPOSE_DEPTH
        return track
    kinds = {"style_avatar": "bfm", "headpose_assigned": "headpose"}
    kind = kinds.get(form) or ("pirender" if vectors.shape[-1] == 73 else "pirender_store")
    return from_vectors(vectors, kind, form, fps, frame_size)


def _gsmoothface(content, fps):
    given = tuple(name for name in PARTS if name in content)
    parts = {name: _vectors(content, name, BFM_LAYOUT.sizes[name]) for name in given}
    transform = transforms(content["transform_params"]) if "transform_params" in content else None
    track = CoeffTrack(BFM_LAYOUT.join(**parts), fps, "gsmoothface", given, transform)
    if "lm68" in content:
        points = upright(_float(content["lm68"], (68, 2), "lm68"), camera.CROP_SIZE, "lm68")
        track.landmarks68 = _through(track.crop, points, back=True)
    return track


def _style2talker(content, fps):
    transform = transforms(content["trans_param"])
    height = transform[0, 1]
    landmarks = {}
    if "lm68" in content:  # stored with y up, unlike lm5
        landmarks["landmarks68"] = upright(_float(content["lm68"], (68, 2), "lm68"), height, "lm68").astype(np.float32)
    if "lm5" in content:
        landmarks["landmarks5"] = _float(content["lm5"], (5, 2), "lm5").astype(np.float32)
    return CoeffTrack(_vectors(content, "coeff", 257), fps, "style2talker", transform=transform, **landmarks)


def _sadtalker(content, form, fps, frame_size):
    vectors = content["coeff_3dmm"]
    size = vectors.shape[-1]
    if size not in (70, 73):
        raise CoeffFileError(f"{form}: coeff_3dmm of {size} numbers a frame came, 70 or 73 are needed")
    track = from_vectors(vectors, "exp_pose" if size == 70 else "pirender", form, fps, frame_size)
    if "full_3dmm" in content:  # of the first frame, or of all
        full = BFM_LAYOUT.split(_float(np.atleast_2d(content["full_3dmm"]), (257,), "full_3dmm").astype(np.float32))
        rows = {name: np.broadcast_to(full[name], track.split()[name].shape) for name in ("id", "tex", "gamma")}
        track.coeff, track.parts = BFM_LAYOUT.join(**(track.split() | rows)), PARTS
    return track


# ------------------------------------------------------------------------------------------------ writers


def write_form(track, path, form):
    """Write a CoeffTrack as the files of another system: a file, or a folder of numbered ones for forms of one file a frame."""
    path, about = Path(path), FORMS[form]
    if abs(track.fps - about.fps) > 0.01:
        raise CoeffFileError(f"{form} works at {about.fps:g} fps, the track is at {track.fps:g}: resample it first")
    arrays = _arrays(track, form)
    if about.by_frame:
        path.mkdir(parents=True, exist_ok=True)
        for t in range(len(track)):
            # savemat would make a column of a plain row
            frame = {k: v[t] if k == "array" or v.ndim > 2 else v[t : t + 1] for k, v in arrays.items()}
            _write(path / about.by_frame.format(t), frame, about.file)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, arrays, about.file)


def _arrays(track, form):
    """{name: (T, ...)} of what the form keeps, as it keeps it."""
    f32 = np.float32
    if form == "headpose":
        return {"coeff": _whole(track), "lm_5p": _shift5(track)}
    if form == "headpose_predicted":
        vectors = track.vectors("exp_pose").copy()
        lowered = from_vectors(vectors, "exp_pose", form, track.fps)
        lowered.split()["trans"][:, 2] -= HEADPOSE_DEPTH
        return {"array": lowered.vectors("exp_pose")}
    if form == "headpose_assigned":
        return {"array": track.vectors("headpose")}
    if form == "gsmoothface":
        named = {name: rows.astype(f32) for name, rows in track.split().items()}
        return named | {"lm68": _crop68(track), "transform_params": _transform(track, form)}
    if form == "style2talker":
        points, height = _points68(track, form).copy(), track.frame_size[1]
        points[..., 1] = height - 1 - points[..., 1]
        five = track.landmarks5 if track.landmarks5 is not None else points5(track.landmarks68)
        transform = _transform(track, form)
        return {"coeff": _whole(track), "lm68": points, "lm5": np.asarray(five, f32), "trans_param": transform}
    if form == "sadtalker":
        return {"coeff_3dmm": track.vectors("pirender"), "full_3dmm": _whole(track)[:1]}
    if form == "sadtalker_result":
        return {"coeff_3dmm": track.vectors("exp_pose")}
    if form in ("styletalk", "dreamtalk"):
        return {"coeff": _whole(track), "transform_params": _transform(track, form)}
    return {"array": _whole(track) if form == "style_avatar" else track.vectors("pirender_store")}


def _write(path, arrays, suffix):
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        if suffix == ".mat":
            savemat(file, arrays)
        elif suffix == ".pkl":
            file.write(safe_pickle.dumps(arrays["array"]))
        elif "array" in arrays:
            np.save(file, arrays["array"], allow_pickle=False)
        else:
            file.write(safe_pickle.dump_npy(arrays))
    os.replace(part, path)


def _whole(track):
    lacking = [name for name in PARTS if name not in track.parts]
    if lacking:
        raise CoeffFileError(f"all 257 numbers are needed; a track read from {track.form} lacks {', '.join(lacking)}")
    return track.coeff


def _transform(track, form):
    if track.transform is None:
        raise CoeffFileError(f"{form} needs the alignment of each frame, which a track read from {track.form} lacks")
    return track.transform.astype(np.float32)


def _points68(track, form):
    if track.landmarks68 is None:
        raise CoeffFileError(f"{form} needs 68 landmarks, which a track read from {track.form} lacks")
    return track.landmarks68


def _crop68(track):
    return _through(track.crop, _points68(track, "gsmoothface"))


def _shift5(track):
    """HeadPose's lm_5p (T, 5, 2): the five points under the crop of the first frame less those under their own."""
    if "shift5" in track.extra:
        return track.extra["shift5"]
    if track.transform is None or (track.landmarks5 is None and track.landmarks68 is None):
        raise CoeffFileError(f"headpose needs alignment and landmarks, which a track read from {track.form} lacks")
    five = track.landmarks5 if track.landmarks5 is not None else points5(track.landmarks68)
    first = np.repeat(track.crop[:1], len(track), 0)
    return _through(first, five) - _through(track.crop, five)


def _through(crop, points, back=False):
    """Points (T, n, 2) of the source into the crop (T, 2, 3), or back -> float32."""
    affine = torch.from_numpy(crop)
    affine = camera.invert_affine(affine) if back else affine
    return camera.apply_affine(torch.from_numpy(np.asarray(points, np.float64)), affine).numpy().astype(np.float32)


# ------------------------------------------------------------------------------------------------ shapes


def transforms(value):
    """width, height, scale, tx, ty of each frame -> (T, 5) float64; arrays of arrays, which some versions wrote, too."""
    value = np.asarray(value)
    try:
        rows = [[float(np.asarray(x).reshape(())) for x in row] for row in value.reshape(-1, 5)]
    except (TypeError, ValueError) as error:
        raise CoeffFileError(f"alignment of shape {value.shape} came, five numbers a frame are needed") from error
    out = np.array(rows)
    if not (np.isfinite(out).all() and (out[:, :3] > 0).all()) or (out[:, :2] != out[0, :2]).any():
        raise CoeffFileError(f"alignment {out[0]} came, width, height, scale, tx, ty of frames of one size are needed")
    return out


def _float(value, shape, name):
    """(T, *shape) float array."""
    value = np.asarray(value)
    if value.dtype.kind not in "fiu" or value.shape[1:] != shape or len(value) == 0:
        raise CoeffFileError(
            f"{name} of shape {value.shape}, {value.dtype} came, (T, {', '.join(map(str, shape))}) is needed"
        )
    check_finite(value, name)
    return value


def _vectors(content, name, size):
    return _float(content[name], (size,), name).astype(np.float32)
