"""How well a trained renderer shows its person: held-out frames drawn again from their own measured motion, beside the mesh renderer.

    python -m scripts.renderer_report --person data/people/NAME --output data/reports/NAME
    python -m scripts.renderer_report --person data/people/NAME --renderer data/runs/mine --output FOLDER --frames 100
    python -m scripts.renderer_report --portrait --person data/people/STRANGER --renderer data/runs/many --output FOLDER

Frames behind the learning span of the person folder are drawn from learning frames alone: the source of each is found by pose
(`models.sources`). Rows: `mesh`, the mesh renderer on the learning frame nearest to the mean pose; `composite`, what the network starts
from; `neural`, in which the torso follows the head as it did in the learning frames; `neural, torso`, which is told of each held-out
frame how far the torso lies to the side and down, two numbers that a head's motion does not hold. Measured on the renderer's crop: dB
and SSIM of the box about the face (all 68 landmarks) and about the mouth, perceptual distance of the same, flicker in pixels that stand
still in the real film and in the face, as multiples of the real film's. Writes report.json, films.npz, sheet.png (real, then the rows),
mouths.png (consecutive frames) and curve.png.

--portrait: of one picture. Texture and source of every row are the learning frame nearest to the mean pose alone, and the other learning
frames are drawn; for a renderer of several people and somebody it never saw.
Table to the standard output.
"""

import argparse
import itertools
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from data_process.pictures import STATE, Footage, PictureWindows, cut_square
from data_process.schema import StoreError
from data_process.video import read_frames
from deep_3drecon.atlas import build_atlas
from deep_3drecon.face_model import load_face_model
from deep_3drecon.track import FaceTrack
from models import checkpoint
from models.composite import Compositor, to_picture
from models.headpose_track import still_pose
from models.mesh_renderer import MeshRenderer
from scripts.evaluation.redrawn import measure, shots_of, sources_by_pose

SHEET_FRAMES, STRIP_FRAMES, STRIP_PX = 6, 12, 160
COLUMNS = (
    ("face_db", "face dB"), ("face_ssim", "face SSIM"), ("face_perceptual", "face perc."), ("mouth_db", "mouth dB"),
    ("mouth_ssim", "mouth SSIM"), ("mouth_perceptual", "mouth perc."), ("flicker_still", "flicker still"),
    ("flicker_face", "flicker face"),
)  # fmt: skip


def neural_films(model, person, frames, sources_of):
    """{"composite", "neural", "neural, torso": film (T, S, S, 3) uint8}, and the seconds a frame of `neural` took.

    sources_of: frames of one shot -> [(frame, second or None, share)] that they are drawn from.
    """
    torso = model.stance.torso()
    compositor = Compositor(person.model, person.texture, model.stats["size"], torso)
    state, kept, taken = person.state, {None: None}, 0.0
    films = {"composite": [], "neural": []} | ({"neural, torso": []} if torso else {})

    def source(k):
        if k not in kept:
            kept[k] = compositor.source(person.pictures[k], *(state[n][k] for n in (*STATE, "affine")))
        return kept[k]

    for shot in shots_of(person, frames):
        chosen = [(source(a), source(b), share) for a, b, share in sources_of(shot)]
        arrays = [state[name][shot] for name in (*STATE, "gamma", "affine")]
        started = time.perf_counter()
        films["neural"] += [picture for picture, _, _ in model.render(compositor, chosen, *arrays)]
        taken += time.perf_counter() - started
        if torso:
            places = np.stack([torso.shift(picture) for picture in person.pictures[shot]])
            drawn = model.render(compositor, chosen, *arrays, torso=places)
            films["neural, torso"] += [picture for picture, _, _ in drawn]
        for t, (first, second, share) in enumerate(chosen):
            one = [x[[t]] for x in arrays]
            began = (
                compositor.make([first], *one) if second is None else compositor.faded([first], [second], [share], *one)
            )
            films["composite"].append(to_picture(began.background[0]))
    return {name: np.stack(film) for name, film in films.items()}, taken / len(frames)


def usual_frame(track, learnt):
    """The learning frame nearest to the mean pose."""
    angle, trans, _ = still_pose(track)
    pose = np.concatenate([angle, 0.3 * trans], 1)
    return int(learnt[np.argmin(np.linalg.norm(pose[learnt] - pose[learnt].mean(0), axis=1))])


def mesh_film(folder, person, track, portrait, frames):
    """The mesh renderer's film from the frame `portrait`, in the same crop."""
    image = next(frame for t, frame in enumerate(read_frames(folder / "clip.mp4", fps=track.fps)) if t == portrait)
    renderer = MeshRenderer(person.model)
    material = renderer.prepare(image, track.select([portrait]), size=person.pictures.shape[1])
    # its pose is that through the portrait's own crop
    angle, trans, _ = still_pose(track, track.crop[portrait])
    exp = track.parts()["exp"][frames]
    scale = material.work.shape[1] / image.shape[1]
    square = tuple(value * scale for value in person.square)
    film = renderer.render(material, exp, angle[frames], trans[frames], relative=False)
    return np.stack([cut_square(frame, square, person.pictures.shape[1]) for frame in film])


def sheet(films, frames):
    """Some frames of films {name: (T, S, S, 3)}, one row a frame, one column a film."""
    return np.concatenate([np.concatenate([film[t] for film in films.values()], 1) for t in frames])


def strips(films, points, first, count=STRIP_FRAMES):
    """Mouths of consecutive frames, one row a film."""
    part = points[first : first + count, 48:]
    centre = part.mean((0, 1))
    half = 0.85 * float((part.max((0, 1)) - part.min((0, 1))).max())
    low = np.round(centre - half).astype(int).clip(0)
    side = int(2 * half)
    rows = []
    for film in films.values():
        cut = film[first : first + count, low[1] : low[1] + side, low[0] : low[0] + side]
        rows.append(
            np.concatenate([cv2.resize(c, (STRIP_PX, STRIP_PX), interpolation=cv2.INTER_CUBIC) for c in cut], 1)
        )
    return np.concatenate(rows)


def curve(run, path):
    """Picture of the validation's dB over the iterations of a run folder, if it has a log; returns its last values."""
    try:
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    except OSError:
        return None
    lines = [line for line in lines if line["kind"] == "val"]
    if not lines:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axis = figure.subplots()
    for name in ("face_db", "mouth_db"):
        at = [line["iteration"] for line in lines]
        (drawn,) = axis.plot(at, [line[name] for line in lines], label=name.replace("_db", ""))
        axis.axhline(lines[-1][f"composite_{name}"], color=drawn.get_color(), linestyle=":", linewidth=1)
    axis.set(xlabel="iteration", ylabel="validation, dB (dotted: the composite)")
    axis.legend()
    figure.savefig(path)
    return lines[-1]


def write_picture(path, picture):
    """RGB uint8 as a file."""
    if not cv2.imwrite(str(path), picture[..., ::-1]):
        raise OSError(f"{path}: cannot be written")


def table(rows):
    """Markdown: one line a row."""
    lines = ["| row | " + " | ".join(title for _, title in COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, values in rows.items():
        lines.append(
            f"| {name} | "
            + " | ".join(f"{values[key]:.3g}" if "db" not in key else f"{values[key]:.2f}" for key, _ in COLUMNS)
            + " |"
        )
    return "\n".join(lines)


def one_picture_texture(folder, track, frame):
    """`PersonTexture` of one frame of a person folder's clip."""
    (picture,) = itertools.islice(read_frames(folder / "clip.mp4", fps=track.fps), frame, frame + 1)
    return build_atlas(track.select([frame]), [picture], load_face_model(track.face_model))


def drawn_films(model, folder, person, track, n_frames, portrait):
    """Frames (ids) that are drawn, {"real", row: film}, and the seconds a frame of `neural` took."""
    learnt, end = PictureWindows([person]).learnt[0], person.learning[1]
    one, all_frames = usual_frame(track, learnt), np.arange(len(person))
    held = np.setdiff1d(learnt, [one]) if portrait else all_frames[end:][person.valid[end:]]
    held = held[:n_frames]
    if len(held) < 3:
        raise StoreError(f"{folder}: {len(held)} frames lie behind the learning span {person.learning}: hold some out")
    if portrait:
        person = replace(person, texture=one_picture_texture(folder, track, one))
    if model.stats["n_people"] > 1:
        model = model.personal(person.texture)

    def sources_of(frames):
        return [(one, None, 0.0)] * len(frames) if portrait else sources_by_pose(track, person.model, learnt, frames)

    neural, seconds = neural_films(model, person, held, sources_of)
    return held, {"real": person.pictures[held], "mesh": mesh_film(folder, person, track, one, held)} | neural, seconds


def report(folder, run, output, n_frames, portrait=False):
    """Everything about one person; returns {row: {measure: value}}."""
    model = checkpoint.load(run)
    person = Footage.load(folder, model.stats["size"], model.stats["heads"])
    held, films, seconds = drawn_films(model, folder, person, FaceTrack.load(folder / "track.npz"), n_frames, portrait)
    real, points = films["real"], person.state["points"][held]
    rows = {name: measure(real, film, points) for name, film in films.items() if name != "real"}
    output.mkdir(parents=True, exist_ok=True)
    write_picture(output / "sheet.png", sheet(films, np.linspace(0, len(held) - 1, SHEET_FRAMES).astype(int)))
    lively = int(np.abs(np.diff(points[:, 66, 1] - points[:, 62, 1])).argmax())
    first = int(np.clip(lively - STRIP_FRAMES // 2, 0, max(0, len(held) - STRIP_FRAMES)))
    write_picture(output / "mouths.png", strips(films, points, first))
    last = curve(run if run.is_dir() else run.parent, output / "curve.png")
    content = {"frames": len(held), "seconds_a_frame": seconds, "rows": rows, "validation": last}
    (output / "report.json").write_text(json.dumps(content, indent=1))
    np.savez_compressed(output / "films.npz", **films)
    return content


def main(argv=None):
    """Exit status: 0 written, 1 not."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.renderer_report",
        description="Held-out frames of a person drawn again, beside the mesh renderer.",
    )
    parser.add_argument("--person", required=True, type=Path, help="person folder")
    parser.add_argument(
        "--renderer", type=Path, help="run folder or checkpoint (default: renderer in the person folder)"
    )
    parser.add_argument("--output", required=True, type=Path, help="folder to write to")
    parser.add_argument("--portrait", action="store_true", help="draw the learning frames, from one of them alone")
    parser.add_argument("--frames", type=int, default=250, help="frames that are drawn at most (default 250)")
    args = parser.parse_args(argv)
    try:
        found = report(args.person, args.renderer or args.person / "renderer", args.output, args.frames, args.portrait)
    except (StoreError, checkpoint.CheckpointError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{found['frames']} frames, {1000 * found['seconds_a_frame']:.0f} ms each for composite and network\n")
    print(table(found["rows"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
