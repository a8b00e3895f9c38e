"""How good the reconstruction is: against known heads of made films, and on videos against their own pixels.

    python -m scripts.reconstruction_report --people 20
    python -m scripts.reconstruction_report --people 0 --clips FOLDER --sheets FOLDER

The first draws films of made people who turn their heads to 40 degrees and exercise their mouths (`data_process.made_turns`),
finds landmarks in the pictures and compares four tracks with the truth: `exact`, the fit of the true landmarks; `landmarks`, the
fit of those found; `pixels`, the same refined by `deep_3drecon.photometric`; `learnt`, refined from where `clip_regressor` sees the
face, where `clip_refinement` follows it. The second takes the first seconds of every video of a folder and compares the
landmarks and the skin's pixels with the fitted face of the last three tracks. --sheets writes for each video a picture of its
texture and one of frames above the same frames reconstructed. Tables go to the standard output.

The regressor was trained on made people as well, drawn and filmed in the same way: other people, looks, lights, cameras and motions
(another seed), but the same renderer. What it gains here it gains in part by knowing that renderer; real videos have no truth.
"""

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from data_process.clips import ClipsError, find_videos
from data_process.face_tracks import landmarker, refine_track, track_landmarks
from data_process.landmarks import NoFaceError
from data_process.made_turns import TEN, make_turn
from data_process.video import VideoError, read_frames
from deep_3drecon import camera, landmarks
from deep_3drecon.atlas import build_atlas
from deep_3drecon.atlas_draw import PersonPainter
from deep_3drecon.clip_refinement import refine_learned
from deep_3drecon.face_model import load_face_model
from deep_3drecon.fit import FitError, fit_clip, reproject
from deep_3drecon.landmark_bias import bias, noise
from deep_3drecon.landmarks import interocular, lip_opening
from deep_3drecon.photometric import photometric_residual
from deep_3drecon.track import FPS
from scripts.evaluation.rigid import rigidly

EVERY = 10  # frames between those whose vertices are compared
SHEET_FRAMES, SHEET_PX = 8, 256


def turn_between(a, b):
    """Degrees between rotations (T, 3, 3)."""
    cosine = ((a @ b.transpose(-1, -2)).diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return np.degrees(np.arccos(cosine.clamp(-1, 1).numpy()))


def vertices(model, parts, t):
    """(V, 3) of one frame."""
    return model.vertices(torch.tensor(parts["id"][t]), torch.tensor(parts["exp"][t])).double().numpy()


def against_truth(track, truth, model):
    """{measure: value} of a track of a film whose truth is known; see `synthetic_table`."""
    parts, true = track.parts(), truth.parts()
    turns = [camera.rotation_matrix(torch.tensor(p["angle"], dtype=torch.float64)) for p in (parts, true)]
    u, _, vh = torch.linalg.svd((turns[0].transpose(-1, -2) @ turns[1]).mean(0))
    out = {"rotation": turn_between(*turns).mean(), "motion": turn_between(turns[0] @ u @ vh, turns[1]).mean()}
    pairs = [(vertices(model, parts, t), vertices(model, true, t)) for t in range(0, len(track), EVERY)]
    for name, region in (("face", "face"), ("lips", "lips")):
        ids = model.regions[region]
        miss = [np.linalg.norm(rigidly(a[ids], b[ids]) - b[ids], axis=1).mean() for a, b in pairs]
        out[name] = camera.MM_PER_DM * np.mean(miss)
    for name in TEN:
        curves = [p["exp"][:, model.index(name)] for p in (parts, true)]
        moves = min(curve.std() for curve in curves) > 1e-4
        out[name] = np.corrcoef(*curves)[0, 1] if moves else np.nan
    return out


def synthetic(n_people, n_frames, size, exercise):
    """{row: [measures of each film]}, ms a frame of fit, refinement and the learnt one, share of films whose correction stood."""
    model, spent, followed = load_face_model(), np.zeros(3), []
    rows = {"exact": [], "landmarks": [], "pixels": [], "learnt": []}
    for number in tqdm(range(n_people), unit="film"):
        film = make_turn(number, n_frames, size, exercise=exercise)
        found = landmarker().track(film.frames)
        everywhere = np.ones(n_frames, bool)
        exact = fit_clip(film.truth.landmarks, 0 * film.truth.scores, everywhere, (size, size), FPS, model)
        start = time.process_time()
        fitted = track_landmarks(found)
        middle = time.process_time()
        refined = refine_track(fitted, film.frames, learned=False)
        end = time.process_time()
        learnt, good = refine_learned(fitted, film.frames, model, bias, noise())
        spent += 1e3 / n_frames * np.array([middle - start, end - middle, time.process_time() - end])
        followed.append(good)
        for row, track in zip(rows, (exact, fitted, refined, learnt), strict=True):
            rows[row].append(against_truth(track, film.truth, model))
    return rows, spent / max(n_people, 1), np.mean(followed)


def synthetic_table(rows, spent, followed):
    """Markdown."""
    lines = [
        "rotation: mean angle to the true head, degrees; motion: the same without the clip's constant offset; face, lips: mean "
        "distance of vertices after rigid alignment of the region, mm; channels: Pearson over a film, mean of the films "
        "(worst film)",
        "",
        "| | rotation | motion | face | lips |",
        "|---|---|---|---|---|",
    ]
    for row, films in rows.items():
        means = [f"{np.mean([f[k] for f in films]):.2f}" for k in ("rotation", "motion", "face", "lips")]
        lines.append(f"| {row} | " + " | ".join(means) + " |")
    lines += ["", "| channel | " + " | ".join(rows) + " |", "|---|" + "---|" * len(rows)]
    for name in TEN:
        cells = [f"{np.nanmean([f[name] for f in films]):.3f} ({np.nanmin([f[name] for f in films]):.2f})"
                 for films in rows.values()]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"films whose pixels bore the learnt correction out: {followed:.0%}",
        f"CPU: fit {spent[0]:.1f} ms a frame; refinement {spent[1]:.1f} ms more, with the regressor {spent[2]:.1f} ms",
    ]
    return "\n".join(lines)


def landmark_errors(track, model):
    """{region: mean distance of fitted to found landmarks, their bias taken off, % of the irises' distance}, lip correlation, jitter."""
    seen = track.select(track.valid)
    off = bias(torch.tensor(seen.parts()["angle"])).numpy() / np.linalg.norm(seen.crop[:, :1, :2], axis=-1)[..., None]
    found, fitted = seen.landmarks - off, reproject(seen, model)
    error = 100 * np.linalg.norm(fitted - found, axis=-1) / interocular(found)[:, None]
    lids = np.concatenate([landmarks.EYE_LEFT, landmarks.EYE_RIGHT])
    inner = np.setdiff1d(np.arange(468), landmarks.FACE_OVAL)
    out = {name: error[:, ids].mean() for name, ids in (("all", inner), ("lips", landmarks.LIPS), ("lids", lids))}
    curves = [lip_opening(p) / interocular(p) for p in (fitted, found)]
    out["lip motion"] = np.corrcoef(*curves)[0, 1]
    out["jitter"] = np.degrees(np.abs(np.diff(seen.parts()["angle"], 2, axis=0)).mean())
    return out


def real(name, path, seconds, sheets):
    """[measures of the three tracks of a video], whether the correction was followed, ms a frame of the learnt refinement."""
    frames = list(read_frames(path, fps=FPS, max_frames=round(seconds * FPS), partial=True))
    track, model = track_landmarks(landmarker().track(frames)), load_face_model()
    start = time.process_time()
    learnt, followed = refine_learned(track, frames, model, bias, noise())
    spent = 1e3 * (time.process_time() - start) / len(frames)
    if sheets:
        write_sheets(Path(sheets), name, frames, learnt, model)
    tracks = track, refine_track(track, frames, learned=False), learnt
    return [{"pixels": photometric_residual(t, frames)} | landmark_errors(t, model) for t in tracks], followed, spent


def write_sheets(folder, name, frames, track, model):
    """<name>_texture.jpg, texture beside its confidence, and <name>_frames.jpg, frames above the same reconstructed."""
    person = build_atlas(track, frames, model)
    confidence = np.repeat((255 * person.confidence[::-1, :, None]).astype(np.uint8), 3, 2)
    painter = PersonPainter(model, person)
    parts = {key: torch.tensor(value) for key, value in track.parts().items()}
    low, high = track.landmarks.min((0, 1)), track.landmarks.max((0, 1))
    scale, middle = SHEET_PX / (1.25 * (high - low).max()), (low + high) / 2
    affine = np.array([[scale, 0, SHEET_PX / 2 - scale * middle[0]], [0, scale, SHEET_PX / 2 - scale * middle[1]]])
    columns = []
    for t in np.linspace(0, len(track) - 1, SHEET_FRAMES).astype(int):
        drawn = painter.draw(frames[t], {key: value[t] for key, value in parts.items()}, track.crop[t])
        pair = [cv2.warpAffine(p, affine, (SHEET_PX, SHEET_PX), flags=cv2.INTER_AREA) for p in (frames[t], drawn)]
        columns.append(np.concatenate(pair))
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"texture": np.concatenate([person.picture(), confidence], 1), "frames": np.concatenate(columns, 1)}
    for kind, picture in pictures.items():
        if not cv2.imwrite(str(folder / f"{name}_{kind}.jpg"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{folder}: cannot be written")


def real_table(rows):
    """Markdown of [(name, measures, followed, ms)]."""
    names = list(rows[0][1][0]) if rows else []
    lines = [
        "landmarks -> pixels -> learnt; pixels: of 255, nine tenths of the skin; all, lips, lids: landmarks, % of the irises' distance; "
        "lip motion: correlation of lip openings; jitter: second difference of the angles, degrees",
        "",
        "| clip | " + " | ".join(names) + " | followed | ms a frame |",
        "|---|" + "---|" * (len(names) + 2),
    ]
    for clip, measures, followed, spent in rows:
        cells = [" -> ".join(f"{track[k]:.2f}" for track in measures) for k in names]
        lines.append(f"| {clip} | " + " | ".join(cells) + f" | {'yes' if followed else 'no'} | {spent:.0f} |")
    return "\n".join(lines)


def main(argv=None):
    """Exit status: 0 done, 1 when a clip could not be read or has no face."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.reconstruction_report", description="Measure the reconstruction of faces."
    )
    parser.add_argument("--people", type=int, default=20, help="made people to film, 0 for none")
    parser.add_argument("--frames", type=int, default=100, help="frames of each film, at 25 a second")
    parser.add_argument("--size", type=int, default=256, help="pixels along a side of the films, even")
    parser.add_argument(
        "--exercise", type=float, default=1.0, help="0 for speech alone, 1 for single channels beside it"
    )
    parser.add_argument("--clips", help="folder of videos, or one video")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each video")
    parser.add_argument("--sheets", help="folder to write pictures of the videos' textures and frames to")
    args = parser.parse_args(argv)
    if args.people:
        print(synthetic_table(*synthetic(args.people, args.frames, args.size, args.exercise)))
    rows, failed = [], False
    try:
        videos = find_videos([args.clips]) if args.clips else {}
    except ClipsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, path in videos.items():
        try:
            rows.append((name, *real(name, path, args.seconds, args.sheets)))
        except (VideoError, NoFaceError, FitError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
    if rows:
        print(real_table(rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
