"""Face coefficients of other systems: every form of file they come in, read and written.

    python -m data_process.coeff_files --input clip.mat --form styletalk --describe
    python -m data_process.coeff_files --input clip.npy --output track.npz           # a FaceTrack of the Basel model
    python -m data_process.coeff_files --input deep3dface/ --to style2talker --output clip.npy

    track = read_coeff("M030_front_happy.mat", form="dreamtalk")     # coeff_track.CoeffTrack

The form is told by the file's content where that is possible. It is not for 70 and 73 numbers in a plain array, which two
systems mean differently, nor does any file tell its frame rate, which differs between StyleTalk and DreamTalk alone. No face
model is needed or consulted. Whether the numbers belong to a video: `data_process.coeff_check`.
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from data_process.coeff_forms import FORMS, FRAME_SHAPES, possible_forms, read_content, write_form
from data_process.coeff_track import CoeffFileError, CoeffTrack, check_lengths
from deep_3drecon import safe_pickle
from deep_3drecon.fit import fill_gaps
from deep_3drecon.safe_pickle import UnsafePickleError
from deep_3drecon.track import FPS

DEGREES = 180 / np.pi


def read_coeff(path, form=None, fps=None, frame_size=(256, 256)) -> CoeffTrack:
    """A file, or a folder of numbered files of one frame each, in any form of `FORMS` -> CoeffTrack.

    form: needed where the content fits two. fps: the clip's own rate where it is not the form's (StyleTalk 30, others 25).
    frame_size: (width, height) that (scale, tx, ty) belong to where the file gives no size (PIRenderer, SadTalker).
    """
    content, valid = load_content(path)
    try:
        return _read(content, valid, form, fps, frame_size)
    except CoeffFileError as error:
        raise CoeffFileError(f"{path}: {error}") from error


def _read(content, valid, form, fps, frame_size):
    forms = possible_forms(content)
    if form is not None and form not in forms:
        if form not in FORMS:
            raise CoeffFileError(f"form {form!r} came, known are {', '.join(FORMS)}")
        raise CoeffFileError(f"this is {' or '.join(forms)}, not {form}")
    if form is None and len(forms) > 1:
        rates = {FORMS[name].fps for name in forms}
        if len(rates) == 1 or fps is None:
            named = "; ".join(f"{name} ({FORMS[name].about}, {FORMS[name].fps:g} fps)" for name in forms)
            raise CoeffFileError(f"the content fits {named}: name the form")
        form = min(forms, key=lambda name: abs(FORMS[name].fps - fps))
    form = form or forms[0]
    track = read_content(content, form, FORMS[form].fps if fps is None else fps, frame_size)
    check_lengths(track, form)
    track.valid = track.valid if valid is None else valid
    return track


def load_content(path):
    """What is in the files: ({name: array}, None), or with which frames were there (T,) bool where files are numbered."""
    path = Path(path)
    if path.is_dir():
        return _load_folder(path)
    if not path.is_file():
        raise CoeffFileError(f"{path}: no such file or folder")
    content = _load_file(path)
    if content.keys() & {"lm_5p", "exp"}:
        content = {
            name: _frame_array(path, name, value)[None] for name, value in content.items() if name in FRAME_SHAPES
        }
    if "array" in content:
        content["array"] = np.atleast_2d(content["array"])
    return content, None


def _load_file(path):
    """{name: array} of one file; a plain array under the name "array"."""
    try:
        if path.suffix == ".mat":
            return {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
        value = safe_pickle.load_npy(path) if path.suffix == ".npy" else safe_pickle.loads(path.read_bytes())
    except (NotImplementedError, MatReadError, ValueError, TypeError, OSError) as error:
        why = "MATLAB 7.3: save it as version 7" if isinstance(error, NotImplementedError) else str(error)
        kind = CoeffFileError if not isinstance(error, UnsafePickleError) else UnsafePickleError
        raise kind(f"{path}: cannot be read ({why})") from error
    if isinstance(value, np.ndarray) and value.dtype == object and value.shape == ():
        value = value.item()
    content = value if isinstance(value, dict) else {"array": value}
    bad = [name for name, array in content.items() if not isinstance(array, np.ndarray)]
    if bad or not content:
        raise CoeffFileError(f"{path}: {', '.join(map(str, bad)) or 'it'} is no array")
    return content


def _load_folder(folder):
    """Numbered files of one frame each, in order of their numbers; gaps are interpolated and told."""
    files = {}
    for path in sorted(folder.iterdir()):
        number = re.search(r"(\d+)$", path.stem)
        if path.suffix in (".mat", ".npy") and number:
            if int(number[1]) in files:
                raise CoeffFileError(f"{folder}: {path.name} and {files[int(number[1])].name} have one number")
            files[int(number[1])] = path
    if not files:
        raise CoeffFileError(f"{folder}: holds no numbered .mat or .npy files, one a frame")
    frames = {number: _load_file(path) for number, path in files.items()}
    names = set.intersection(*(set(frame) for frame in frames.values())) & {*FRAME_SHAPES, "array"}
    if not names:
        raise CoeffFileError(
            f"{folder}: its files do not hold coefficients under one name ({', '.join(frames[min(frames)])} came)"
        )
    first, last = min(frames), max(frames)
    valid = np.array([number in frames for number in range(first, last + 1)])
    content = {}
    for name in sorted(names):
        rows = {number: _frame_array(files[number], name, frame[name]) for number, frame in frames.items()}
        filler = rows[first]
        if {row.shape for row in rows.values()} != {filler.shape}:
            raise CoeffFileError(f"{folder}: {name} has other shapes in other files")
        content[name] = fill_gaps(np.stack([rows.get(n, filler) for n in range(first, last + 1)]), valid)
    return content, valid


def _frame_array(path, name, value):
    """Numbers of one frame in their own shape; savemat stores vectors as matrices, some code adds an axis in front."""
    try:
        value = np.asarray(value)
        if value.dtype == object:
            value = np.array([np.asarray(x, np.float64).reshape(()) for x in value.ravel()])
        return value.reshape(FRAME_SHAPES.get(name, -1))
    except (TypeError, ValueError) as error:
        raise CoeffFileError(
            f"{path}: {name} of shape {np.shape(value)} came, {FRAME_SHAPES[name]} is needed"
        ) from error


def write_coeff(track, path, form):
    """Write a CoeffTrack in a form of `FORMS`; refused where the track lacks what the form holds, or has another rate."""
    if form not in FORMS:
        raise CoeffFileError(f"form {form!r} came, known are {', '.join(FORMS)}")
    try:
        write_form(track, path, form)
    except (CoeffFileError, OSError) as error:
        raise CoeffFileError(f"{path}: cannot be written ({error})") from error


def describe(track):
    """CoeffTrack -> text for people."""
    parts = track.split()
    angle, trans, exp = parts["angle"] * DEGREES, parts["trans"], parts["exp"]
    lines = [
        f"{track.form}: {FORMS[track.form].about}",
        f"{len(track)} frames at {track.fps:g} fps, {len(track) / track.fps:.2f} s; {(~track.valid).sum()} frames missing",
        f"gives {', '.join(track.parts)}",
        f"expression {exp.min():.2f} to {exp.max():.2f}, deviation in time {exp.std(0).mean():.3f}",
    ]
    for name, column, spread in zip(("pitch", "yaw", "roll"), angle.T.mean(1), angle.T.std(1), strict=True):
        lines.append(f"{name} {column:.1f} +- {spread:.1f} degrees")
    lines.append(
        "translation " + ", ".join(f"{m:.3f} +- {s:.3f}" for m, s in zip(trans.mean(0), trans.std(0), strict=True))
    )
    if track.transform is not None:
        low, high = track.transform[:, 2:].min(0), track.transform[:, 2:].max(0)
        spans = ", ".join(f"{n} {a:.3f} to {b:.3f}" for n, a, b in zip(("scale", "tx", "ty"), low, high, strict=True))
        lines.append(
            f"alignment in frames of {track.frame_size[0]} x {track.frame_size[1]}: {spans} (ty counted upwards)"
        )
    if track.is_turned_over:
        lines.append("the crops were placed with y counted the wrong way (known of Style2Talker): taken account of")
    found = [name for name in ("landmarks68", "landmarks5") if getattr(track, name) is not None]
    lines.append(f"besides: {', '.join([*found, *track.extra]) or 'nothing'}")
    return "\n".join(lines) + "\n"


def parse(argv):
    """Command line -> argparse namespace."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.coeff_files",
        description="Read, describe and convert face coefficients of other systems.",
    )
    parser.add_argument("--input", required=True, help="file, or folder of numbered files of one frame each")
    parser.add_argument("--form", choices=tuple(FORMS), help="where the content fits two, or to make sure")
    parser.add_argument("--fps", type=float, help="rate of the clip (default: that of the form)")
    parser.add_argument("--frame_size", nargs=2, type=int, default=(256, 256), metavar=("W", "H"),
                        help="frames that scale, tx, ty of PIRenderer and SadTalker belong to (default 256 256)")  # fmt: skip
    parser.add_argument("--describe", action="store_true", help="print what is in it")
    parser.add_argument("--output", help="FaceTrack .npz at 25 fps; with --to the file or folder of that form")
    parser.add_argument("--to", choices=tuple(FORMS), help="form to write, resampled to its rate")
    args = parser.parse_args(argv)
    if args.to and not args.output:
        parser.error("--to needs --output")
    if not (args.describe or args.output):
        parser.error("nothing to do: give --describe or --output")
    return args


def main(argv=None):
    """Exit status: 0 done, 1 the file cannot be read or written."""
    args = parse(argv)
    try:
        track = read_coeff(args.input, args.form, args.fps, args.frame_size)
        if args.describe:
            print(describe(track), end="")
        if args.output:
            fps = FORMS[args.to].fps if args.to else FPS
            if track.fps != fps:
                print(f"note: resampled from {track.fps:g} to {fps:g} fps", file=sys.stderr)
            track = track.resampled(fps)
        if args.to:
            write_coeff(track, args.output, args.to)
        elif args.output:
            track.face_track(_basel_hash()).save(args.output)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _basel_hash():
    """Hash of the user's Basel model, empty where there is none."""
    from deep_3drecon.assets import AssetError
    from deep_3drecon.face_model import FaceModelError, load_face_model

    try:
        return load_face_model("bfm").hash
    except (AssetError, FaceModelError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
